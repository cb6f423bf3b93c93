/* Who shares cores or a memory with whom in a simulation, and who of them is at work. Private to simulate.c.
 *
 * Figures of ranks that sit at the same cores, or at the same memory, are those of all at work (cf_figures_crowd,
 * decode/measure/alone.h). One whose neighbours wait is faster: by as much as it has more of a core now, and of the
 * memory's bandwidth.
 */
#ifndef COFFER_COORDINATOR_PLAN_FORECAST_SEATS_H
#define COFFER_COORDINATOR_PLAN_FORECAST_SEATS_H

#include "coordinator/plan/forecast/figures.h"

struct cf_seats {
    const struct cf_figures *figures;
    uint32_t *seat;           /* [n_ranks] first rank of those that share its cores */
    uint32_t *threads, *busy; /* [n_ranks] of a seat's first rank: threads of its ranks, and of those at work */
    uint32_t *memory;         /* [n_ranks] first rank of those whose memory it shares; n_ranks: that changes nothing */
    double *all;              /* [n_ranks] of a memory's first rank: cores that read it when all ranks work */
    double *asking;           /* [n_ranks] likewise: cores that read it now */
    double *asks; /* [n_ranks] share of its time that the rank reads, of what it works on now; 0: it waits */
};

int cf_seats_new(struct cf_seats *s, const struct cf_figures *f); /* -1: no memory */
void cf_seats_free(struct cf_seats *s);                           /* also of a zeroed one */
void cf_seats_clear(struct cf_seats *s);                          /* nobody is at work */

/* The rank goes to work on something that it reads for such a share of its time (figures of all at work). */
void cf_seats_begin(struct cf_seats *s, uint32_t rank, double reads);
void cf_seats_end(struct cf_seats *s, uint32_t rank);

/* Does anybody else's work change this rank's reading? Only then `reads` of cf_seats_begin counts. */
static inline bool cf_seats_share_memory(const struct cf_seats *s, uint32_t rank) {
    return s->all[s->memory[rank]] > 0;
}

/* By what a working rank's seconds are multiplied, as things are now. What more threads than cores of its own cost is
 * in the figures. */
double cf_seats_pace(const struct cf_seats *s, uint32_t rank);

/* Is anybody at work at the rank's cores? */
static inline bool cf_seats_busy(const struct cf_seats *s, uint32_t rank) {
    return s->busy[s->seat[rank]] > 0;
}

/* The first rank from `from` on that shares its cores or its memory with `rank` and is not it; n_ranks: there is none.
 */
uint32_t cf_seats_next(const struct cf_seats *s, uint32_t rank, uint32_t from);

#endif
