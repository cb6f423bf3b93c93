/* See seats.h. */
#include "coordinator/plan/forecast/seats.h"

#include <stdlib.h>
#include <string.h>

static bool same_cores(const struct cf_rank_info *a, const struct cf_rank_info *b) {
    return a->host_index == b->host_index && a->seat == b->seat && b->seat_cores;
}

int cf_seats_new(struct cf_seats *s, const struct cf_figures *f) {
    uint32_t n = f->n_ranks;
    *s = (struct cf_seats){.figures = f};
    s->seat = calloc(n, sizeof *s->seat), s->busy = calloc(n, sizeof *s->busy);
    s->threads = calloc(n, sizeof *s->threads);
    if (!s->seat || !s->busy || !s->threads) return -1;
    for (uint32_t r = 0; r < n; r++) {
        uint32_t first = 0;
        while (first < r && !same_cores(&f->ranks[first], &f->ranks[r]))
            first++;
        s->seat[r] = first, s->threads[first] += f->ranks[r].threads;
    }
    return 0;
}

void cf_seats_free(struct cf_seats *s) {
    free(s->seat);
    free(s->threads);
    free(s->busy);
    memset(s, 0, sizeof *s);
}

void cf_seats_clear(struct cf_seats *s) {
    memset(s->busy, 0, s->figures->n_ranks * sizeof *s->busy);
}

void cf_seats_change(struct cf_seats *s, uint32_t rank, bool begins) {
    uint32_t threads = s->figures->ranks[rank].threads;
    s->busy[s->seat[rank]] += begins ? threads : -threads;
}

double cf_seats_pace(const struct cf_seats *s, uint32_t rank) {
    const struct cf_rank_info *info = &s->figures->ranks[rank];
    uint32_t fair = info->threads > info->seat_cores ? info->threads : info->seat_cores;
    uint32_t all = s->threads[s->seat[rank]], now = s->busy[s->seat[rank]];
    return all > fair ? (double)(now > fair ? now : fair) / all : 1;
}

uint32_t cf_seats_next(const struct cf_seats *s, uint32_t rank, uint32_t from) {
    uint32_t seat = s->seat[rank], n = s->figures->n_ranks;
    if (s->threads[seat] == s->figures->ranks[rank].threads) return n; /* it has them for itself */
    for (uint32_t r = from > seat ? from : seat; r < n; r++)
        if (s->seat[r] == seat && r != rank) return r;
    return n;
}
