/* From a row of logits to one token id, as llama.cpp does it: logit bias, then a chain of steps in an order that the
 * caller may change, then a draw from the distribution that is left. The draw itself is our own: the same seed gives
 * the same ids on every machine (own generator, own exp and log, one order of summation).
 *
 *     logits -> bias -> penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature -> draw
 *     logits -> bias -> temperature, mirostat (which draws itself)         with --mirostat
 *
 * What was said lately (penalties, dry) is told with cf_sampler_accept: the prompt's ids first, then every id that was
 * picked. A sampler changes no logits and allocates nothing after cf_sampler_new. Formulas: steps.c, penalties.c,
 * dry.c, mirostat.c.
 */
#ifndef COFFER_COORDINATOR_SAMPLE_SAMPLER_H
#define COFFER_COORDINATOR_SAMPLE_SAMPLER_H

#include <stdint.h>
#include <stdio.h>

#include "coordinator/sample/breakers.h"
#include "proto/error.h"

enum cf_sampler_step {
    CF_STEP_PENALTIES,
    CF_STEP_DRY,
    CF_STEP_TOP_N_SIGMA,
    CF_STEP_TOP_K,
    CF_STEP_TYPICAL,
    CF_STEP_TOP_P,
    CF_STEP_MIN_P,
    CF_STEP_XTC,
    CF_STEP_TEMPERATURE,
    CF_STEPS
};

enum { CF_ORDER_LONGEST = 32 };

struct cf_sampler_order {
    enum cf_sampler_step step[CF_ORDER_LONGEST]; /* [n] */
    uint32_t n;
};

struct cf_logit_bias {
    uint32_t id;
    float bias; /* -INFINITY: never */
};

struct cf_sampler_params {
    int64_t seed;             /* -1: random */
    double temp;              /* <= 0: only the best stays, of equals the one with the lowest id */
    double dynatemp_range;    /* > 0: the temperature follows the entropy, temp -/+ range */
    double dynatemp_exponent; /* how: (entropy / greatest possible entropy)^exponent */
    int64_t top_k;            /* keep the k best; <= 0: all */
    double top_p;             /* keep the fewest that together have this probability; >= 1: all */
    double min_p;             /* keep those with at least min_p times the probability of the best; <= 0: all */
    double typical_p;         /* keep the most typical that together have more than this probability; >= 1: all */
    double top_n_sigma;       /* keep what is at most so many standard deviations below the best logit; <= 0: all */
    double xtc_probability;   /* how often XTC takes place */
    double xtc_threshold;     /* drops all tokens of at least this probability but the last of them; > 0.5: none */
    double repeat_penalty;    /* positive logits of ids in the window are divided by it, others multiplied; 1: none */
    double presence_penalty;  /* taken from the logits of ids in the window; 0: none */
    double frequency_penalty; /* the same, as often as they stand there */
    int64_t repeat_last_n;    /* length of the window; 0: none. The caller replaces -1 by the context size */
    double dry_multiplier;    /* 0: no DRY */
    double dry_base;
    int64_t dry_allowed_length;
    int64_t dry_last_n;  /* length of DRY's window, as repeat_last_n */
    int64_t mirostat;    /* 0, or the version: 1, 2 */
    double mirostat_lr;  /* eta */
    double mirostat_ent; /* tau, bits */
    struct cf_sampler_order order;
    const struct cf_logit_bias *bias; /* [n_bias], may go after cf_sampler_new */
    uint32_t n_bias;
    const struct cf_breakers *breakers; /* of DRY, NULL: none. Must outlive the sampler */
};

/* llama.cpp's (its help of 2026), with seed -1 and without breakers, which need a tokenizer. */
struct cf_sampler_params cf_sampler_defaults(void);

/* An order by names ("top_k;top_p;temperature", also with hyphens or with neither) or by letters ("kpt"), the letters
 * of llama.cpp. Fails with CF_ERR_USAGE. */
int cf_sampler_order_names(struct cf_sampler_order *order, const char *names, struct cf_error *e);
int cf_sampler_order_letters(struct cf_sampler_order *order, const char *letters, struct cf_error *e);

struct cf_sampler;

/* Fails with CF_ERR_USAGE on a parameter that makes no sense, naming its option. Freed by cf_sampler_free (NULL is
 * fine). */
int cf_sampler_new(
    struct cf_sampler **out, const struct cf_sampler_params *params, uint32_t n_vocab, struct cf_error *e);
void cf_sampler_free(struct cf_sampler *s);

/* The seed in use: what --seed said, or the one that was drawn. */
uint64_t cf_sampler_seed(const struct cf_sampler *s);

/* All parameters and the order, a few lines that begin with "sampler". */
void cf_sampler_print(const struct cf_sampler *s, FILE *to);

/* Puts an id (< n_vocab) into the windows of the penalties; the oldest leaves. */
void cf_sampler_accept(struct cf_sampler *s, uint32_t id);

/* Picks an id from logits[n_vocab]. -INFINITY bars a token; NaN counts as barred. If all are barred: 0. Does not
 * accept. */
uint32_t cf_sampler_pick(struct cf_sampler *s, const float *logits);

/* What the draws so far have changed: the generator and mirostat's state. With the same parameters, and after the same
 * ids have been accepted, a sampler that gets it back goes on as the other would have. */
enum { CF_SAMPLER_STATE = 5 };
void cf_sampler_state(const struct cf_sampler *s, uint64_t state[CF_SAMPLER_STATE]);
void cf_sampler_restore(struct cf_sampler *s, const uint64_t state[CF_SAMPLER_STATE]);

/* What cf_sampler_pick would draw from: chances[returned], at most n_vocab, their sum is 1. XTC throws its dice here,
 * too; mirostat's state stays. */
struct cf_chance {
    uint32_t id;
    double p;
};
uint32_t cf_sampler_chances(struct cf_sampler *s, const float *logits, struct cf_chance *chances);

#endif
