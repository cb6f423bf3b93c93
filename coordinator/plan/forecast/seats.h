/* Who shares cores with whom in a simulation, and how many of them are at work. Private to simulate.c.
 *
 * Figures of ranks that sit at the same cores are those of all at work (cf_figures_crowd). One whose neighbours wait is
 * faster: by as much as it has more of a core now.
 */
#ifndef COFFER_COORDINATOR_PLAN_FORECAST_SEATS_H
#define COFFER_COORDINATOR_PLAN_FORECAST_SEATS_H

#include "coordinator/plan/forecast/figures.h"

struct cf_seats {
    const struct cf_figures *figures;
    uint32_t *seat;           /* [n_ranks] first rank of those that share its cores */
    uint32_t *threads, *busy; /* [n_ranks] of a seat's first rank: threads of its ranks, and of those at work */
};

int cf_seats_new(struct cf_seats *s, const struct cf_figures *f); /* -1: no memory */
void cf_seats_free(struct cf_seats *s);                           /* also of a zeroed one */
void cf_seats_clear(struct cf_seats *s);                          /* nobody is at work */
void cf_seats_change(struct cf_seats *s, uint32_t rank, bool begins);

/* By what a rank's seconds are multiplied, as things are now. What more threads than cores of its own cost is in the
 * figures. */
double cf_seats_pace(const struct cf_seats *s, uint32_t rank);

/* Is anybody at work at the rank's cores? */
static inline bool cf_seats_busy(const struct cf_seats *s, uint32_t rank) {
    return s->busy[s->seat[rank]] > 0;
}

/* The first rank from `from` on that shares its cores with `rank` and is not it; n_ranks: there is none. */
uint32_t cf_seats_next(const struct cf_seats *s, uint32_t rank, uint32_t from);

#endif
