/* Sets of hosts that a search (search.h) tries together, and the orders in which it adds one to another. */
#ifndef COFFER_COORDINATOR_PLAN_SETS_H
#define COFFER_COORDINATOR_PLAN_SETS_H

#include <stdbool.h>
#include <stddef.h>

#include "coordinator/plan/forecast/figures.h"

struct cf_sets {
    const struct cf_figures *f; /* borrowed */
    bool *of;                   /* [n][n_hosts] which hosts have been tried together; set 0 is rank 0 alone */
    uint32_t n;
    bool *in;        /* [n_hosts] a set in the making */
    uint32_t *order; /* [n_hosts] hosts */
};

int cf_sets_new(struct cf_sets *s, const struct cf_figures *f, struct cf_error *e);
/* Also after a failed cf_sets_new(). */
void cf_sets_free(struct cf_sets *s);

/* The number of the set in in[], which is one more; 0 if it has been tried, or there are too many. */
uint32_t cf_sets_add(struct cf_sets *s);
/* A set once more in the making: in[]. */
bool *cf_sets_copy(struct cf_sets *s, uint32_t set);

/* How many hosts a set has. */
uint32_t cf_sets_hosts(const struct cf_sets *s, uint32_t set);
/* Its ranks, ascending, into use[n_ranks]. Returns how many. */
uint32_t cf_sets_ranks(const struct cf_sets *s, uint32_t set, uint32_t *use);
/* The names of the hosts in in[], the first of them: " (a, c, ...)". size: at least 32. */
void cf_sets_name(const struct cf_sets *s, char *text, size_t size);

/* order[]: rank 0's host first, then the nearest first (or whatever their distance), of them those that read most. */
void cf_sets_order(struct cf_sets *s, bool nearest);

/* Is one host as good as the other? What has been said of one of them need not be tried with both. */
bool cf_hosts_are_alike(const struct cf_figures *f, uint32_t a, uint32_t b);

#endif
