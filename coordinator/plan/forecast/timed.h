/* The programs of all ranks, priced and made small: instructions with their cost, what each waits for, and the messages
 * that it sends. Private to simulate.c.
 */
#ifndef COFFER_COORDINATOR_PLAN_FORECAST_TIMED_H
#define COFFER_COORDINATOR_PLAN_FORECAST_TIMED_H

#include "coordinator/plan/forecast/cost.h"

enum { CF_SIM_FLIGHT = 64 }; /* most batches in flight, as --micro-batches allows */

/* A message to another rank, for the instruction there that waits for this route. */
struct cf_timed_send {
    uint32_t to;
    int32_t route;
    float bytes;       /* per row */
    float share_bytes; /* per row, where the sum goes by shares; 0: the same */
    bool only_shares;
    bool mutual; /* the receiver sends as much this way at the same time: members of a group */
};

struct cf_timed_instr {
    struct cf_cost cost;
    uint32_t n_in;           /* parts that it waits for */
    uint32_t send0, n_sends; /* in the rank's list */
    uint32_t share_rows;     /* from so many rows on sums go by shares; UINT32_MAX: never */
    double read, share_read; /* bytes per row of what others wrote that it reads, whole or by shares */
    bool wanted;             /* its rows are those whose logits are wanted */
    bool only_shares;        /* it has something to do only then */
    bool computes;           /* a step of a domain, not of an exchange */
    bool holds;              /* its batch is waited for, for a moment (cf_program_holds) */
};

struct cf_timed_rank {
    uint32_t n, n_sends;
    struct cf_timed_instr *instrs;
    struct cf_timed_send *sends;
    int32_t *takes; /* [n_routes] the instruction that waits for a route, -1: none */
};

struct cf_timed {
    uint32_t n_ranks, n_routes;
    struct cf_timed_rank *ranks;
};

int cf_timed_new(struct cf_timed *t, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    const struct cf_figures *f, struct cf_error *e);
void cf_timed_free(struct cf_timed *t); /* also of a zeroed one */

/* The instruction of its receiver that waits for a message; -1: none does. */
static inline int32_t cf_timed_receiver(const struct cf_timed *t, const struct cf_timed_send *m) {
    return t->ranks[m->to].takes[m->route];
}

#endif
