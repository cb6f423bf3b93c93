/* See sampler.h. The filters never sort the vocabulary: candidates are taken best first from a heap until a filter says
 * that the rest is out. */
#include "coordinator/decode/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "coordinator/decode/select.h"
#include "node/kernels/kernels.h"

struct cf_sampler {
    struct cf_sampler_params p;
    uint64_t seed;
    uint64_t state[4];             /* of xoshiro256** */
    uint32_t n_vocab, n_heap;      /* n_heap: candidates after top-k */
    uint32_t n_window, at, filled; /* the penalty window, a ring */
    uint32_t *window;              /* [n_window] */
    uint32_t *count;               /* [n_vocab]: how often an id stands in the window */
    float *logits;                 /* [n_vocab]: after penalties */
    struct cf_candidate *heap;     /* [n_heap] */
    struct cf_candidate *kept;     /* [n_heap]: after all filters, in the order of the draw */
    double *weight;                /* [n_heap]: of kept */
};

struct cf_sampler_params cf_sampler_defaults(void) {
    return (struct cf_sampler_params){
        .temp = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .repeat_penalty = 1.0, .repeat_last_n = 64, .seed = -1};
}

/* splitmix64 (Steele, Lea, Flood 2014), to spread the seed over the state. */
static uint64_t splitmix64(uint64_t *x) {
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

/* xoshiro256** 1.0 (Blackman, Vigna 2018). */
static uint64_t next_random(uint64_t s[4]) {
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* [0, 1) in steps of 2^-53. */
static double uniform(struct cf_sampler *s) {
    return (double)(next_random(s->state) >> 11) * 0x1p-53;
}

static int check(const struct cf_sampler_params *p, uint32_t n_vocab, struct cf_error *e) {
    if (!n_vocab) return cf_fail(e, CF_ERR_USAGE, "the sampler needs a vocabulary");
    if (!isfinite(p->temp)) return cf_fail(e, CF_ERR_USAGE, "--temp is not a number");
    if (isnan(p->top_p) || p->top_p < 0) return cf_fail(e, CF_ERR_USAGE, "--top-p %g: must not be negative", p->top_p);
    if (isnan(p->min_p) || p->min_p > 1) return cf_fail(e, CF_ERR_USAGE, "--min-p %g: must be at most 1", p->min_p);
    if (!isfinite(p->repeat_penalty) || p->repeat_penalty <= 0)
        return cf_fail(e, CF_ERR_USAGE, "--repeat-penalty %g: must be positive", p->repeat_penalty);
    if (p->repeat_last_n < 0 || p->repeat_last_n > 1 << 24)
        return cf_fail(e, CF_ERR_USAGE, "--repeat-last-n %lld: must be 0 to 16777216", (long long)p->repeat_last_n);
    if (p->seed < -1) return cf_fail(e, CF_ERR_USAGE, "--seed %lld: must be -1 or more", (long long)p->seed);
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
    uint64_t x = s->seed;
    for (int i = 0; i < 4; i++)
        s->state[i] = splitmix64(&x);
    return 0;
}

int cf_sampler_new(
    struct cf_sampler **out, const struct cf_sampler_params *params, uint32_t n_vocab, struct cf_error *e) {
    *out = NULL;
    if (check(params, n_vocab, e)) return -1;
    struct cf_sampler *s = calloc(1, sizeof *s);
    if (!s) return cf_fail(e, CF_ERR_MEMORY, "no memory for the sampler");
    s->p = *params;
    s->n_vocab = n_vocab;
    s->n_heap = params->top_k > 0 && params->top_k < n_vocab ? (uint32_t)params->top_k : n_vocab;
    s->n_window = params->repeat_penalty == 1.0 ? 0 : (uint32_t)params->repeat_last_n;
    s->window = calloc(s->n_window + 1, sizeof *s->window);
    s->count = calloc(n_vocab, sizeof *s->count);
    s->logits = calloc(n_vocab, sizeof *s->logits);
    s->heap = calloc(s->n_heap, sizeof *s->heap);
    s->kept = calloc(s->n_heap, sizeof *s->kept);
    s->weight = calloc(s->n_heap, sizeof *s->weight);
    bool whole = s->window && s->count && s->logits && s->heap && s->kept && s->weight;
    if (!whole) cf_fail(e, CF_ERR_MEMORY, "no memory for the sampler of %u tokens", n_vocab);
    if (!whole || choose_seed(s, e)) {
        cf_sampler_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void cf_sampler_free(struct cf_sampler *s) {
    if (!s) return;
    free(s->window);
    free(s->count);
    free(s->logits);
    free(s->heap);
    free(s->kept);
    free(s->weight);
    free(s);
}

uint64_t cf_sampler_seed(const struct cf_sampler *s) {
    return s->seed;
}

void cf_sampler_accept(struct cf_sampler *s, uint32_t id) {
    if (!s->n_window || id >= s->n_vocab) return;
    if (s->filled == s->n_window)
        s->count[s->window[s->at]]--;
    else
        s->filled++;
    s->window[s->at] = id;
    s->count[id]++;
    s->at = s->at + 1 == s->n_window ? 0 : s->at + 1;
}

/* Each id of the window once, however often it stands there (Keskar et al. 2019, CTRL, section 4.1, with the sign rule
 * of its later implementations). */
static void penalise(struct cf_sampler *s) {
    float penalty = (float)s->p.repeat_penalty;
    for (uint32_t i = 0; i < s->filled; i++) {
        uint32_t id = s->window[i];
        if (!s->count[id]) continue; /* was here already */
        s->logits[id] = s->logits[id] <= 0 ? s->logits[id] * penalty : s->logits[id] / penalty;
        s->count[id] = 0; /* restored below */
    }
    for (uint32_t i = 0; i < s->filled; i++)
        s->count[s->window[i]]++;
}

/* exp((logit - max) / temp), 1 for the best whatever it is, 0 for the barred. */
static double weigh(float logit, float max, double temp) {
    if (logit == max) return 1;
    if (!(logit > -INFINITY)) return 0;
    return cf_exp(((double)logit - (double)max) / temp);
}

/* Without a filter by probability nothing needs an order: all candidates stay as they are. */
static uint32_t keep_all(struct cf_sampler *s) {
    memcpy(s->kept, s->heap, s->n_heap * sizeof *s->kept);
    return s->n_heap;
}

/* top-p and min-p look at the probabilities before temperature, best first; min-p compares with the best alone. */
static uint32_t keep_probable(struct cf_sampler *s, float max) {
    bool by_top_p = s->p.top_p < 1;
    double total = 0, sum = 0;
    for (uint32_t i = 0; by_top_p && i < s->n_heap; i++)
        total += weigh(s->heap[i].logit, max, 1);
    uint32_t left = s->n_heap, n = 0;
    while (left) {
        struct cf_candidate c = cf_select_pop(s->heap, &left);
        double w = weigh(c.logit, max, 1);
        if (n && s->p.min_p > 0 && w < s->p.min_p) break;
        s->kept[n++] = c;
        sum += w;
        if (by_top_p && sum >= s->p.top_p * total) break;
    }
    return n;
}

static uint32_t draw(struct cf_sampler *s, uint32_t n, float max) {
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += s->weight[i] = weigh(s->kept[i].logit, max, s->p.temp);
    double target = uniform(s) * total, sum = 0;
    uint32_t last = 0; /* rounding may leave target beyond the sum: then the last one that can be */
    for (uint32_t i = 0; i < n; i++) {
        if (s->weight[i] > 0) last = i;
        sum += s->weight[i];
        if (target < sum) break;
    }
    return s->kept[last].id;
}

uint32_t cf_sampler_pick(struct cf_sampler *s, const float *logits) {
    memcpy(s->logits, logits, s->n_vocab * sizeof *logits);
    if (s->filled) penalise(s);
    bool greedy = s->p.temp <= 0;
    cf_select(s->logits, s->n_vocab, s->heap, greedy ? 1 : s->n_heap);
    struct cf_candidate best = s->heap[0];
    if (!(best.logit > -INFINITY)) return 0;
    if (greedy) return best.id;
    bool by_probability = s->p.top_p < 1 || s->p.min_p > 0;
    uint32_t n = by_probability ? keep_probable(s, best.logit) : keep_all(s);
    return draw(s, n, best.logit);
}

uint32_t cf_sampler_top(const float *logits, uint32_t n, uint32_t k, struct cf_top *out, struct cf_candidate *scratch) {
    if (k > n) k = n;
    if (!k) return 0;
    cf_select(logits, n, scratch, k);
    float max = scratch[0].logit;
    double sum = 0;
    for (uint32_t id = 0; id < n; id++)
        sum += weigh(logits[id], max, 1);
    double log_sum = cf_log(sum);
    for (uint32_t i = 0, left = k; i < k; i++) {
        struct cf_candidate c = cf_select_pop(scratch, &left);
        out[i] = (struct cf_top){c.id, c.logit, c.logit == max ? -log_sum : (double)c.logit - (double)max - log_sum};
    }
    return k;
}
