/* The best tokens of a row with their probabilities, for --logprobs: raw, before bias, penalties and temperature. */
#ifndef COFFER_COORDINATOR_SAMPLE_TOP_H
#define COFFER_COORDINATOR_SAMPLE_TOP_H

#include "coordinator/sample/select.h"

struct cf_top {
    uint32_t id;
    float logit;
    double logprob; /* logit - log(sum over the vocabulary of exp(logit)): natural logarithm */
};

/* The k best of logits[n], best first, ties to the lower id: out[min(k, n)]. scratch holds min(k, n) candidates.
 * Returns how many. */
uint32_t cf_sampler_top(const float *logits, uint32_t n, uint32_t k, struct cf_top *out, struct cf_candidate *scratch);

#endif
