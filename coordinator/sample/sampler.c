/* See sampler.h. */
#include "coordinator/sample/sampler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "coordinator/sample/internal.h"

enum { LONGEST_WINDOW = 1 << 24 };

struct cf_sampler_params cf_sampler_defaults(void) {
    struct cf_sampler_params p = {.seed = -1,
        .temp = 0.8,
        .dynatemp_exponent = 1,
        .top_k = 40,
        .top_p = 0.95,
        .min_p = 0.05,
        .typical_p = 1,
        .top_n_sigma = -1,
        .xtc_threshold = 0.1,
        .repeat_penalty = 1,
        .repeat_last_n = 64,
        .dry_base = 1.75,
        .dry_allowed_length = 2,
        .dry_last_n = 64,
        .mirostat_lr = 0.1,
        .mirostat_ent = 5};
    for (int i = 0; i < CF_STEPS; i++)
        p.order.step[p.order.n++] = (enum cf_sampler_step)i;
    return p;
}

/* Every real parameter: its option, its field, what it may be. */
static const struct rule {
    const char *option;
    size_t field;
    double least, most;
} rules[] = {
    {"temp", offsetof(struct cf_sampler_params, temp), -HUGE_VAL, 1e6},
    {"dynatemp-range", offsetof(struct cf_sampler_params, dynatemp_range), 0, 1e6},
    {"dynatemp-exp", offsetof(struct cf_sampler_params, dynatemp_exponent), 0, 1e6},
    {"top-p", offsetof(struct cf_sampler_params, top_p), 0, HUGE_VAL},
    {"min-p", offsetof(struct cf_sampler_params, min_p), -HUGE_VAL, 1},
    {"typical", offsetof(struct cf_sampler_params, typical_p), 0, HUGE_VAL},
    {"top-n-sigma", offsetof(struct cf_sampler_params, top_n_sigma), -HUGE_VAL, 1e6},
    {"xtc-probability", offsetof(struct cf_sampler_params, xtc_probability), 0, 1},
    {"xtc-threshold", offsetof(struct cf_sampler_params, xtc_threshold), 0, 1},
    {"repeat-penalty", offsetof(struct cf_sampler_params, repeat_penalty), 1e-6, 1e6},
    {"presence-penalty", offsetof(struct cf_sampler_params, presence_penalty), -1e6, 1e6},
    {"frequency-penalty", offsetof(struct cf_sampler_params, frequency_penalty), -1e6, 1e6},
    {"dry-multiplier", offsetof(struct cf_sampler_params, dry_multiplier), 0, 1e6},
    {"dry-base", offsetof(struct cf_sampler_params, dry_base), 1, 1e6},
    {"mirostat-lr", offsetof(struct cf_sampler_params, mirostat_lr), 0, 1e6},
    {"mirostat-ent", offsetof(struct cf_sampler_params, mirostat_ent), 0, 1e6},
};

static int check(const struct cf_sampler_params *p, uint32_t n_vocab, struct cf_error *e) {
    if (!n_vocab) return cf_fail(e, CF_ERR_USAGE, "the sampler needs a vocabulary");
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        double x;
        memcpy(&x, (const char *)p + rules[i].field, sizeof x);
        if (isnan(x) || x < rules[i].least || x > rules[i].most)
            return cf_fail(
                e, CF_ERR_USAGE, "--%s %g: must be %g to %g", rules[i].option, x, rules[i].least, rules[i].most);
    }
    if (p->repeat_last_n < 0 || p->repeat_last_n > LONGEST_WINDOW)
        return cf_fail(
            e, CF_ERR_USAGE, "--repeat-last-n %lld: must be 0 to %d", (long long)p->repeat_last_n, LONGEST_WINDOW);
    if (p->dry_last_n < 0 || p->dry_last_n > LONGEST_WINDOW)
        return cf_fail(
            e, CF_ERR_USAGE, "--dry-penalty-last-n %lld: must be 0 to %d", (long long)p->dry_last_n, LONGEST_WINDOW);
    if (p->dry_allowed_length < 0)
        return cf_fail(
            e, CF_ERR_USAGE, "--dry-allowed-length %lld: must not be negative", (long long)p->dry_allowed_length);
    if (p->mirostat < 0 || p->mirostat > 2)
        return cf_fail(e, CF_ERR_USAGE, "--mirostat %lld: must be 0, 1 or 2", (long long)p->mirostat);
    if (p->seed < -1) return cf_fail(e, CF_ERR_USAGE, "--seed %lld: must be -1 or more", (long long)p->seed);
    for (uint32_t i = 0; i < p->n_bias; i++)
        if (p->bias[i].id >= n_vocab || isnan(p->bias[i].bias))
            return cf_fail(e, CF_ERR_USAGE, "--logit-bias: %u is not a token id below %u", p->bias[i].id, n_vocab);
    return 0;
}

static int choose_seed(struct cf_sampler *s, struct cf_error *e) {
    s->seed = (uint64_t)s->p.seed;
    if (s->p.seed < 0) {
        uint32_t drawn; /* 32 bits: easy to type again */
        if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn)
            return cf_fail(e, CF_ERR_SYSTEM, "no random seed: %s", strerror(errno));
        s->seed = drawn;
    }
    cf__random_seed(&s->random, s->seed);
    return 0;
}

static int allocate(struct cf_sampler *s) {
    const struct cf_sampler_params *p = &s->p;
    bool penalties = p->repeat_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
    uint32_t n_dry = p->dry_multiplier > 0 ? (uint32_t)p->dry_last_n : 0, n = s->n_vocab;
    if (cf__window_new(&s->window, penalties ? (uint32_t)p->repeat_last_n : 0)) return -1;
    if (cf__window_new(&s->dry.window, n_dry)) return -1;
    s->count = calloc(n, sizeof *s->count);
    s->dry.recent = calloc((size_t)n_dry + 1, sizeof *s->dry.recent);
    s->dry.match = calloc((size_t)n_dry + 1, sizeof *s->dry.match);
    s->dry.repeats = calloc(n, sizeof *s->dry.repeats);
    s->bias = calloc((size_t)p->n_bias + 1, sizeof *s->bias);
    s->list.at = calloc(n, sizeof *s->list.at);
    s->other = calloc(n, sizeof *s->other);
    s->weight = calloc(n, sizeof *s->weight);
    return s->count && s->dry.recent && s->dry.match && s->dry.repeats && s->bias && s->list.at && s->other && s->weight
               ? 0
               : -1;
}

int cf_sampler_new(
    struct cf_sampler **out, const struct cf_sampler_params *params, uint32_t n_vocab, struct cf_error *e) {
    *out = NULL;
    if (check(params, n_vocab, e)) return -1;
    struct cf_sampler *s = calloc(1, sizeof *s);
    if (!s) return cf_fail(e, CF_ERR_MEMORY, "no memory for the sampler");
    s->p = *params;
    s->n_vocab = n_vocab;
    s->mu = 2 * params->mirostat_ent;
    int rc = allocate(s) ? cf_fail(e, CF_ERR_MEMORY, "no memory for the sampler of %u tokens", n_vocab) : 0;
    if (rc || choose_seed(s, e)) {
        cf_sampler_free(s);
        return -1;
    }
    if (params->n_bias) memcpy(s->bias, params->bias, params->n_bias * sizeof *s->bias);
    *out = s;
    return 0;
}

void cf_sampler_free(struct cf_sampler *s) {
    if (!s) return;
    free(s->window.ids);
    free(s->count);
    free(s->dry.window.ids);
    free(s->dry.recent);
    free(s->dry.match);
    free(s->dry.repeats);
    free(s->bias);
    free(s->list.at);
    free(s->other);
    free(s->weight);
    free(s);
}

uint64_t cf_sampler_seed(const struct cf_sampler *s) {
    return s->seed;
}

void cf_sampler_print(const struct cf_sampler *s, FILE *to) {
    const struct cf_sampler_params *p = &s->p;
    fprintf(to, "sampler seed %llu, order logit_bias", (unsigned long long)s->seed);
    if (p->mirostat)
        fprintf(to, " > temperature > mirostat\n");
    else
        for (uint32_t i = 0; i < p->order.n; i++)
            fprintf(to, " > %s%s", cf__steps[p->order.step[i]].name, i + 1 == p->order.n ? " > draw\n" : "");
    if (!p->mirostat && !p->order.n) fputs(" > draw\n", to);
    fprintf(to,
        "sampler repeat_last_n %lld, repeat_penalty %g, presence_penalty %g, frequency_penalty %g\n"
        "sampler dry_multiplier %g, dry_base %g, dry_allowed_length %lld, dry_penalty_last_n %lld\n"
        "sampler top_n_sigma %g, top_k %lld, typ_p %g, top_p %g, min_p %g, xtc_probability %g, xtc_threshold %g\n"
        "sampler temp %g, dynatemp_range %g, dynatemp_exp %g, mirostat %lld, mirostat_lr %g, mirostat_ent %g\n",
        (long long)p->repeat_last_n, p->repeat_penalty, p->presence_penalty, p->frequency_penalty, p->dry_multiplier,
        p->dry_base, (long long)p->dry_allowed_length, (long long)p->dry_last_n, p->top_n_sigma, (long long)p->top_k,
        p->typical_p, p->top_p, p->min_p, p->xtc_probability, p->xtc_threshold, p->temp, p->dynatemp_range,
        p->dynatemp_exponent, (long long)p->mirostat, p->mirostat_lr, p->mirostat_ent);
}

void cf_sampler_accept(struct cf_sampler *s, uint32_t id) {
    uint32_t left;
    if (id >= s->n_vocab) return;
    if (s->window.n) {
        if (cf__window_push(&s->window, id, &left)) s->count[left]--;
        s->count[id]++;
    }
    if (s->dry.window.n) cf__window_push(&s->dry.window, id, &left);
}

/* All that are not barred, with their bias. */
static void fill(struct cf_sampler *s, const float *logits) {
    struct cf__list *l = &s->list;
    for (uint32_t id = 0; id < s->n_vocab; id++)
        l->at[id] = (struct cf_candidate){logits[id], id};
    for (uint32_t i = 0; i < s->p.n_bias; i++)
        l->at[s->bias[i].id].logit += s->bias[i].bias;
    l->n = l->n_sorted = 0;
    for (uint32_t id = 0; id < s->n_vocab; id++)
        if (l->at[id].logit > -INFINITY) l->at[l->n++] = l->at[id];
    s->scale = 1;
}

/* From the logits to the candidates and s->weight. Returns the sum of these; 0: all are barred. */
static double filter(struct cf_sampler *s, const float *logits) {
    fill(s, logits);
    if (!s->list.n) return 0;
    if (s->p.mirostat) {
        cf__temperature(s);
        cf__mirostat_cut(s);
    }
    for (uint32_t i = 0; !s->p.mirostat && i < s->p.order.n; i++)
        cf__steps[s->p.order.step[i]].apply(s);
    return cf__weights(s);
}

uint32_t cf_sampler_pick(struct cf_sampler *s, const float *logits) {
    double total = filter(s, logits);
    if (!(total > 0)) return 0;
    uint32_t i = cf__draw(s, total);
    if (s->p.mirostat) cf__mirostat_learn(s, s->weight[i] / total);
    return s->list.at[i].id;
}

void cf_sampler_state(const struct cf_sampler *s, uint64_t state[CF_SAMPLER_STATE]) {
    memcpy(state, s->random.s, sizeof s->random.s);
    memcpy(state + 4, &s->mu, sizeof s->mu);
}

void cf_sampler_restore(struct cf_sampler *s, const uint64_t state[CF_SAMPLER_STATE]) {
    memcpy(s->random.s, state, sizeof s->random.s);
    memcpy(&s->mu, state + 4, sizeof s->mu);
}

uint32_t cf_sampler_chances(struct cf_sampler *s, const float *logits, struct cf_chance *chances) {
    double total = filter(s, logits);
    if (!(total > 0)) return 0;
    for (uint32_t i = 0; i < s->list.n; i++)
        chances[i] = (struct cf_chance){s->list.at[i].id, s->weight[i] / total};
    return s->list.n;
}
