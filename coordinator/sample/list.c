/* See list.h. */
#include "coordinator/sample/list.h"

#include <string.h>

enum { AT_LEAST = 64, GROWTH = 3 }; /* sorted at a time, and how much more each time */

static void sort_to(struct cf__list *l, uint32_t want) {
    if (want <= l->n_sorted) return;
    uint32_t rest = l->n - l->n_sorted;
    uint64_t more = want - l->n_sorted, grown = (uint64_t)GROWTH * l->n_sorted;
    if (more > 1 || l->n_sorted) { /* the best alone is all that a greedy choice asks for */
        if (more < grown) more = grown;
        if (more < AT_LEAST) more = AT_LEAST;
    }
    if (more > rest) more = rest;
    cf_select_front(l->at + l->n_sorted, rest, (uint32_t)more);
    l->n_sorted += (uint32_t)more;
}

struct cf_candidate cf__list_nth(struct cf__list *l, uint32_t i) {
    sort_to(l, i + 1);
    return l->at[i];
}

float cf__list_max(const struct cf__list *l) {
    struct cf_candidate best = l->at[0];
    for (uint32_t i = l->n_sorted ? l->n : 1; i < l->n; i++)
        if (cf_candidate_before(l->at[i], best)) best = l->at[i];
    return best.logit;
}

void cf__list_keep(struct cf__list *l, uint32_t k) {
    if (k >= l->n) return;
    if (k > l->n_sorted) {
        cf_select_front(l->at + l->n_sorted, l->n - l->n_sorted, k - l->n_sorted);
        l->n_sorted = k;
    }
    l->n = k;
    if (l->n_sorted > k) l->n_sorted = k;
}

void cf__list_drop(struct cf__list *l, uint32_t k) {
    if (k) cf__list_nth(l, k - 1);
    l->n -= k;
    l->n_sorted -= k;
    memmove(l->at, l->at + k, l->n * sizeof *l->at);
}
