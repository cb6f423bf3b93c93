/* See sampling.h. */
#include "coordinator/commands/shared/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct cf_sampling, field)
#define P(field) offsetof(struct cf_sampling, params.field)

const struct cf_option cf__sampling_options[] = {
    {"seed", 's', CF_OPT_INT, P(seed), "N", "seed of the sampler; -1 random (default -1)", -1, 9e15, NULL},
    {"samplers", 0, CF_OPT_STRING, AT(samplers), "NAMES",
        "what is done with the logits, in this order, parted by ; (default "
        "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature)",
        0, 0, NULL},
    {"sampler-seq", 0, CF_OPT_STRING, AT(sampler_seq), "LETTERS", "the same by letters (default edskypmxt)", 0, 0,
        "sampling-seq"},
    {"temp", 0, CF_OPT_REAL, P(temp), "T", "temperature; 0 takes the best token (default 0.8)", 0, 1e6, "temperature"},
    {"dynatemp-range", 0, CF_OPT_REAL, P(dynatemp_range), "X",
        "dynamic temperature: from T - X to T + X, by the entropy (default 0, off)", 0, 1e6, NULL},
    {"dynatemp-exp", 0, CF_OPT_REAL, P(dynatemp_exponent), "X", "exponent of dynamic temperature (default 1)", 0, 1e6,
        NULL},
    {"top-k", 0, CF_OPT_INT, P(top_k), "K", "keep the K best tokens; 0 all (default 40)", -1, 1e9, NULL},
    {"top-p", 0, CF_OPT_REAL, P(top_p), "P", "keep the fewest tokens that together have probability P (default 0.95)",
        0, 1, NULL},
    {"min-p", 0, CF_OPT_REAL, P(min_p), "P", "drop tokens below P times the best one's probability (default 0.05)", 0,
        1, NULL},
    {"typical", 0, CF_OPT_REAL, P(typical_p), "P",
        "locally typical sampling: keep the tokens nearest to the entropy that together have probability P (default "
        "1, off)",
        0, 1, "typical-p"},
    {"top-n-sigma", 0, CF_OPT_REAL, P(top_n_sigma), "N",
        "drop tokens more than N standard deviations below the best logit (default -1, off)", -1, 1e6, "top-nsigma"},
    {"xtc-probability", 0, CF_OPT_REAL, P(xtc_probability), "P",
        "exclude top choices: with probability P, all tokens above the threshold but the last of them (default 0, off)",
        0, 1, NULL},
    {"xtc-threshold", 0, CF_OPT_REAL, P(xtc_threshold), "P", "XTC's threshold; above 0.5 off (default 0.1)", 0, 1,
        NULL},
    {"repeat-penalty", 0, CF_OPT_REAL, P(repeat_penalty), "X", "penalty of tokens seen lately (default 1, none)", 1e-6,
        1e6, NULL},
    {"presence-penalty", 0, CF_OPT_REAL, P(presence_penalty), "X",
        "taken from the logits of tokens seen lately (default 0)", -1e6, 1e6, NULL},
    {"frequency-penalty", 0, CF_OPT_REAL, P(frequency_penalty), "X", "the same, as often as they were seen (default 0)",
        -1e6, 1e6, NULL},
    {"repeat-last-n", 0, CF_OPT_INT, P(repeat_last_n), "N",
        "tokens that the penalties look back; -1 the context (default 64)", -1, 1 << 24, NULL},
    {"dry-multiplier", 0, CF_OPT_REAL, P(dry_multiplier), "X",
        "DRY: what would go on with a sequence said before loses X * base^(its length - allowed) (default 0, off)", 0,
        1e6, NULL},
    {"dry-base", 0, CF_OPT_REAL, P(dry_base), "X", "DRY's base (default 1.75)", 1, 1e6, NULL},
    {"dry-allowed-length", 0, CF_OPT_INT, P(dry_allowed_length), "N", "DRY's allowed length (default 2)", 0, 1 << 24,
        NULL},
    {"dry-penalty-last-n", 0, CF_OPT_INT, P(dry_last_n), "N", "tokens that DRY looks back; -1 the context (default 64)",
        -1, 1 << 24, NULL},
    {"dry-sequence-breaker", 0, CF_OPT_LIST, AT(breakers), "TEXT",
        "DRY sees no sequence across TEXT; may be repeated; \"none\": no breakers (default \\n, :, \", *)", 0, 0, NULL},
    {"mirostat", 0, CF_OPT_INT, P(mirostat), "V",
        "Mirostat 1 or 2 in place of all of these but temperature and logit bias (default 0, off)", 0, 2, NULL},
    {"mirostat-lr", 0, CF_OPT_REAL, P(mirostat_lr), "X", "Mirostat's learning rate eta (default 0.1)", 0, 1e6, NULL},
    {"mirostat-ent", 0, CF_OPT_REAL, P(mirostat_ent), "X", "Mirostat's target entropy tau in bits (default 5)", 0, 1e6,
        NULL},
    {"logit-bias", 'l', CF_OPT_LIST, AT(bias), "ID+-X",
        "adds X to the logit of a token: 15043+1, 15043-inf; EOS-inf bars all end tokens; may be repeated", 0, 0, NULL},
    {"ignore-eos", 0, CF_OPT_FLAG, AT(ignore_eos), NULL,
        "do not stop at end tokens (they stay candidates, unlike llama.cpp; bar them with -l EOS-inf)", 0, 0, NULL},
    {"stop", 0, CF_OPT_LIST, AT(stop), "TEXT",
        "end at TEXT, which is not printed; may be repeated; knows \\n and the like", 0, 0, NULL},
    {"reverse-prompt", 'r', CF_OPT_LIST, AT(stop), "TEXT", "the same, as llama.cpp calls it", 0, 0, NULL},
    {0},
};

struct cf_sampling cf__sampling_defaults(void) {
    return (struct cf_sampling){.params = cf_sampler_defaults()};
}

/* "15043+1.5", "EOS-inf": *end_tokens is set in place of the id. */
static int parse_bias(const char *text, struct cf_logit_bias *b, bool *end_tokens, struct cf_error *e) {
    char *end, *last;
    *end_tokens = !strncasecmp(text, "EOS", 3);
    unsigned long id = *end_tokens ? 0 : strtoul(text, &end, 10);
    if (*end_tokens) end = NULL;
    const char *sign = end ? end : text + 3;
    float x = *sign == '+' || *sign == '-' ? strtof(sign + 1, &last) : NAN;
    if (sign == text || *text == '-' || *text == '+' || *text == ' ' || isnan(x) || last == sign + 1 || *last ||
        id > UINT32_MAX)
        return cf_fail(e, CF_ERR_USAGE, "--logit-bias %.60s: must be a token id (or EOS), a sign and a number", text);
    *b = (struct cf_logit_bias){(uint32_t)id, *sign == '-' ? -x : x};
    return 0;
}

int cf__sampling_check(struct cf_sampling *s, struct cf_error *e) {
    struct cf_logit_bias b;
    bool all;
    if (s->samplers && s->sampler_seq)
        return cf_fail(e, CF_ERR_USAGE, "--samplers and --sampler-seq: one order is enough");
    if (s->samplers && cf_sampler_order_names(&s->params.order, s->samplers, e)) return -1;
    if (s->sampler_seq && cf_sampler_order_letters(&s->params.order, s->sampler_seq, e)) return -1;
    for (size_t i = 0; i < s->bias.n; i++)
        if (parse_bias(s->bias.at[i], &b, &all, e)) return -1;
    for (size_t i = 0; i < s->stop.n; i++)
        if (!*s->stop.at[i]) return cf_fail(e, CF_ERR_USAGE, "--stop: the text is empty");
    return 0;
}

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

char *cf__unescape(const char *text) {
    static const char from[] = "nrt\\'\"", into[] = "\n\r\t\\'\"";
    char *out = malloc(strlen(text) + 1), *to = out;
    for (const char *s = text; out && *s; s++) {
        const char *known = *s == '\\' && s[1] ? strchr(from, s[1]) : NULL;
        if (known)
            *to++ = into[known - from], s++;
        else if (*s == '\\' && s[1] == 'x' && hex(s[2]) >= 0 && hex(s[3]) >= 0)
            *to++ = (char)(16 * hex(s[2]) + hex(s[3])), s += 3;
        else
            *to++ = *s;
    }
    if (out) *to = '\0';
    return out;
}

static int open_bias(struct cf_sampling_set *set, const struct cf_option_list *list, const struct cf_tokenizer *t,
    uint32_t n_vocab, struct cf_error *e) {
    struct cf_logit_bias b;
    bool all;
    uint32_t n = 0, n_end = 0;
    for (uint32_t id = 0; id < n_vocab; id++)
        n_end += cf_tokenizer_is_end(t, id);
    set->bias = calloc(list->n * ((size_t)n_end + 1) + 1, sizeof *set->bias);
    if (!set->bias) return cf_fail(e, CF_ERR_MEMORY, "no memory for the logit bias");
    for (size_t i = 0; i < list->n; i++) {
        if (parse_bias(list->at[i], &b, &all, e)) return -1;
        if (!all) set->bias[n++] = b;
        for (uint32_t id = 0; all && id < n_vocab; id++)
            if (cf_tokenizer_is_end(t, id)) set->bias[n++] = (struct cf_logit_bias){id, b.bias};
    }
    set->params.bias = set->bias, set->params.n_bias = n;
    return 0;
}

static void free_strings(char **strings, size_t n) {
    for (size_t i = 0; strings && i < n; i++)
        free(strings[i]);
    free(strings);
}

static char **unescape_all(const struct cf_option_list *list) {
    char **all = calloc(list->n + 1, sizeof *all);
    bool lost = !all;
    for (size_t i = 0; !lost && i < list->n; i++)
        lost = !(all[i] = cf__unescape(list->at[i]));
    if (!lost) return all;
    free_strings(all, list->n);
    return NULL;
}

/* As llama.cpp: the first one given takes the place of the default ones, "none" empties the list. */
static int open_breakers(
    struct cf_sampling_set *set, const struct cf_option_list *given, const struct cf_tokenizer *t, struct cf_error *e) {
    struct cf_option_list list = {{"\\n", ":", "\\\"", "*"}, 4};
    if (given->n) list.n = 0;
    for (size_t i = 0; i < given->n; i++)
        if (strcmp(given->at[i], "none"))
            list.at[list.n++] = given->at[i];
        else
            list.n = 0;
    char **strings = unescape_all(&list);
    if (!strings) return cf_fail(e, CF_ERR_MEMORY, "no memory for sequence breakers");
    int rc = cf_breakers_new(&set->breakers, t, (const char *const *)strings, list.n, e);
    free_strings(strings, list.n);
    set->params.breakers = set->breakers;
    return rc;
}

int cf__sampling_open(struct cf_sampling_set *set, const struct cf_sampling *s, const struct cf_tokenizer *t,
    uint32_t n_vocab, uint32_t n_ctx, struct cf_error *e) {
    *set = (struct cf_sampling_set){.params = s->params};
    if (set->params.repeat_last_n < 0) set->params.repeat_last_n = n_ctx;
    if (set->params.dry_last_n < 0) set->params.dry_last_n = n_ctx;
    if (open_bias(set, &s->bias, t, n_vocab, e)) return -1;
    if (s->params.dry_multiplier > 0 && open_breakers(set, &s->breakers, t, e)) return -1;
    set->stop = unescape_all(&s->stop);
    if (!set->stop) return cf_fail(e, CF_ERR_MEMORY, "no memory for stop strings");
    set->n_stop = s->stop.n;
    return 0;
}

void cf__sampling_close(struct cf_sampling_set *set) {
    free(set->bias);
    cf_breakers_free(set->breakers);
    free_strings(set->stop, set->n_stop);
    *set = (struct cf_sampling_set){0};
}

int cf__sampling_start(const struct cf_sampling_set *set, const struct cf_sampler_params *params, uint32_t n_vocab,
    struct cf_sampler **sampler, struct cf_stop **stop, struct cf_error *e) {
    *stop = NULL;
    if (cf_sampler_new(sampler, params, n_vocab, e)) return -1;
    return set->n_stop ? cf_stop_new(stop, (const char *const *)set->stop, set->n_stop, e) : 0;
}
