/* The best of many logits, without sorting all of them. One order everywhere: higher logit first, then lower id. */
#ifndef COFFER_COORDINATOR_DECODE_SELECT_H
#define COFFER_COORDINATOR_DECODE_SELECT_H

#include <stdbool.h>
#include <stdint.h>

struct cf_candidate {
    float logit;
    uint32_t id;
};

/* Does a come before b? NaN comes last. */
bool cf_candidate_before(struct cf_candidate a, struct cf_candidate b);

/* The k best of logits[n] as a heap whose first element is the best: out[k], k <= n. O(n log k) at worst, close to one
 * comparison per logit in practice. */
void cf_select(const float *logits, uint32_t n, struct cf_candidate *out, uint32_t k);

/* Takes the best of a heap of *n candidates. */
struct cf_candidate cf_select_pop(struct cf_candidate *heap, uint32_t *n);

#endif
