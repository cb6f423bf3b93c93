/* The candidates on their way through the steps of a sampler (private to coordinator/sample). Steps that want them best
 * first ask for as many as they look at: the vocabulary is never sorted as a whole unless somebody looks at all of it.
 */
#ifndef COFFER_COORDINATOR_SAMPLE_LIST_H
#define COFFER_COORDINATOR_SAMPLE_LIST_H

#include "coordinator/sample/select.h"

struct cf__list {
    struct cf_candidate *at; /* [n] */
    uint32_t n;
    uint32_t n_sorted; /* so many at the front are the best, best first */
};

/* The i-th best, i < n. */
struct cf_candidate cf__list_nth(struct cf__list *l, uint32_t i);

/* The best logit; n > 0. Sorts nothing. */
float cf__list_max(const struct cf__list *l);

/* Keeps the k best, k > 0. */
void cf__list_keep(struct cf__list *l, uint32_t k);

/* Throws the k best away, k < n. */
void cf__list_drop(struct cf__list *l, uint32_t k);

#endif
