/* From a row of logits to one token id, as llama.cpp does it by default: penalties, top-k, top-p, min-p, temperature,
 * then a draw from the distribution that is left. The draw itself is our own: the same seed gives the same ids on every
 * machine (own generator, own exp, one order of summation).
 *
 * Who is in the penalty window is told with cf_sampler_accept: the prompt's ids first, then every id that was picked. A
 * sampler changes no logits and allocates nothing after cf_sampler_new.
 */
#ifndef COFFER_COORDINATOR_DECODE_SAMPLER_H
#define COFFER_COORDINATOR_DECODE_SAMPLER_H

#include <stdint.h>

#include "proto/error.h"

struct cf_sampler_params {
    double temp;           /* <= 0: greedy, the best logit after penalties, ties to the lower id */
    int64_t top_k;         /* keep the k best; <= 0: all */
    double top_p;          /* keep the fewest that together have this probability; >= 1: all */
    double min_p;          /* keep those with at least min_p times the probability of the best; <= 0: all */
    double repeat_penalty; /* positive logits of ids in the window are divided by it, others multiplied; 1: none */
    int64_t repeat_last_n; /* length of the window; 0: none. The caller replaces -1 by the context size */
    int64_t seed;          /* -1: random */
};

/* llama.cpp's: temp 0.8, top-k 40, top-p 0.95, min-p 0.05, repeat-penalty 1, repeat-last-n 64, seed -1. */
struct cf_sampler_params cf_sampler_defaults(void);

struct cf_sampler;

/* Fails with CF_ERR_USAGE on a parameter that makes no sense, naming its option. Freed by cf_sampler_free (NULL is
 * fine). */
int cf_sampler_new(
    struct cf_sampler **out, const struct cf_sampler_params *params, uint32_t n_vocab, struct cf_error *e);
void cf_sampler_free(struct cf_sampler *s);

/* The seed in use: what --seed said, or the one that was drawn. */
uint64_t cf_sampler_seed(const struct cf_sampler *s);

/* Puts an id (< n_vocab) into the penalty window; the oldest leaves. */
void cf_sampler_accept(struct cf_sampler *s, uint32_t id);

/* Picks an id from logits[n_vocab]. -INFINITY bars a token; NaN counts as barred. If all are barred: 0. Does not
 * accept. */
uint32_t cf_sampler_pick(struct cf_sampler *s, const float *logits);

/* One of the best tokens of a row, for --logprobs. */
struct cf_top {
    uint32_t id;
    float logit;
    double logprob; /* logit - log(sum over the vocabulary of exp(logit)): natural logarithm, before temperature */
};

/* The k best of logits[n], best first, ties to the lower id: out[min(k, n)]. scratch holds min(k, n) candidates
 * (select.h). Returns how many. */
struct cf_candidate;
uint32_t cf_sampler_top(const float *logits, uint32_t n, uint32_t k, struct cf_top *out, struct cf_candidate *scratch);

#endif
