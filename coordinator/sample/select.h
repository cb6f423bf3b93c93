/* The best of many logits, without sorting all of them. One order everywhere: higher logit first, then lower id. */
#ifndef COFFER_COORDINATOR_SAMPLE_SELECT_H
#define COFFER_COORDINATOR_SAMPLE_SELECT_H

#include <stdbool.h>
#include <stdint.h>

struct cf_candidate {
    float logit;
    uint32_t id;
};

/* Does a come before b? NaN comes last. */
bool cf_candidate_before(struct cf_candidate a, struct cf_candidate b);

/* The k best of logits[n], best first: out[k], k <= n. O(n log k) at worst, close to one comparison per logit in
 * practice. */
void cf_select(const float *logits, uint32_t n, struct cf_candidate *out, uint32_t k);

/* Moves the k best of at[n] to its front, best first; the others follow in any order. The same cost. */
void cf_select_front(struct cf_candidate *at, uint32_t n, uint32_t k);

#endif
