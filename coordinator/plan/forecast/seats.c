/* See seats.h. */
#include "coordinator/plan/forecast/seats.h"

#include <stdlib.h>
#include <string.h>

/* Below this others change nothing worth the arithmetic. */
static const double LEAST_ALONE = 1.02;

static bool same_cores(const struct cf_rank_info *a, const struct cf_rank_info *b) {
    return a->host_index == b->host_index && a->seat == b->seat && b->seat_cores;
}

static uint32_t fair_cores(const struct cf_rank_info *info) {
    return info->threads > info->seat_cores ? info->threads : info->seat_cores;
}

/* By what a rank has less of its cores than of none shared, with so many threads at work there. */
static double part_of_seat(const struct cf_seats *s, uint32_t rank, uint32_t threads) {
    uint32_t fair = fair_cores(&s->figures->ranks[rank]);
    return threads > fair ? (double)fair / threads : 1;
}

/* Cores with which a working rank reads while so many threads are at work at its seat. */
static double cores_of(const struct cf_seats *s, uint32_t rank, uint32_t threads) {
    return s->figures->ranks[rank].threads * part_of_seat(s, rank, threads);
}

static void find_memories(struct cf_seats *s) {
    const struct cf_figures *f = s->figures;
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        const struct cf_rank_info *info = &f->ranks[r];
        bool shares = info->alone >= LEAST_ALONE && info->bandwidth > 0 && info->memory < f->n_ranks;
        s->memory[r] = shares ? info->memory : f->n_ranks;
        if (shares) s->all[info->memory] += cores_of(s, r, s->threads[s->seat[r]]);
    }
}

int cf_seats_new(struct cf_seats *s, const struct cf_figures *f) {
    uint32_t n = f->n_ranks;
    *s = (struct cf_seats){.figures = f};
    s->seat = calloc(n, sizeof *s->seat), s->busy = calloc(n, sizeof *s->busy);
    s->threads = calloc(n, sizeof *s->threads), s->memory = calloc(n, sizeof *s->memory);
    s->all = calloc(n + 1, sizeof *s->all), s->asks = calloc(n, sizeof *s->asks);
    s->asking = calloc(n, sizeof *s->asking);
    if (!s->seat || !s->busy || !s->threads || !s->memory || !s->all || !s->asks || !s->asking) return -1;
    for (uint32_t r = 0; r < n; r++) {
        uint32_t first = 0;
        while (first < r && !same_cores(&f->ranks[first], &f->ranks[r]))
            first++;
        s->seat[r] = first, s->threads[first] += f->ranks[r].threads;
    }
    find_memories(s);
    return 0;
}

void cf_seats_free(struct cf_seats *s) {
    free(s->seat);
    free(s->threads);
    free(s->busy);
    free(s->memory);
    free(s->all);
    free(s->asks);
    free(s->asking);
    memset(s, 0, sizeof *s);
}

void cf_seats_clear(struct cf_seats *s) {
    memset(s->busy, 0, s->figures->n_ranks * sizeof *s->busy);
    memset(s->asks, 0, s->figures->n_ranks * sizeof *s->asks);
    memset(s->asking, 0, s->figures->n_ranks * sizeof *s->asking);
}

/* A rank of this memory, and of these cores, has begun or ended something. */
static void ask_anew(struct cf_seats *s, uint32_t memory) {
    s->asking[memory] = 0;
    for (uint32_t r = memory; r < s->figures->n_ranks; r++)
        if (s->memory[r] == memory && s->asks[r] > 0)
            s->asking[memory] += s->asks[r] * cores_of(s, r, s->busy[s->seat[r]]);
}

void cf_seats_begin(struct cf_seats *s, uint32_t rank, double reads) {
    s->busy[s->seat[rank]] += s->figures->ranks[rank].threads;
    s->asks[rank] = reads;
    if (cf_seats_share_memory(s, rank)) ask_anew(s, s->memory[rank]);
}

void cf_seats_end(struct cf_seats *s, uint32_t rank) {
    s->busy[s->seat[rank]] -= s->figures->ranks[rank].threads;
    s->asks[rank] = 0;
    if (cf_seats_share_memory(s, rank)) ask_anew(s, s->memory[rank]);
}

/* How many times as fast as with all at work a rank reads now. What a core can ask for bounds it, and the memory, whose
 * bandwidth is the sum of what all have together, shared by this rank and those that read at the same moment. */
static double reading(const struct cf_seats *s, uint32_t rank) {
    uint32_t memory = s->memory[rank];
    double cores = cores_of(s, rank, s->busy[s->seat[rank]]), alone = s->figures->ranks[rank].alone;
    double times = s->all[memory] / (s->asking[memory] + (1 - s->asks[rank]) * cores);
    return times < 1 ? 1 : times < alone ? times : alone;
}

double cf_seats_pace(const struct cf_seats *s, uint32_t rank) {
    uint32_t seat = s->seat[rank];
    double pace = part_of_seat(s, rank, s->threads[seat]) / part_of_seat(s, rank, s->busy[seat]);
    return cf_seats_share_memory(s, rank) ? pace * (1 - s->asks[rank] * (1 - 1 / reading(s, rank))) : pace;
}

uint32_t cf_seats_next(const struct cf_seats *s, uint32_t rank, uint32_t from) {
    uint32_t seat = s->seat[rank], memory = s->memory[rank], n = s->figures->n_ranks;
    bool seat_is_its_own = s->threads[seat] == s->figures->ranks[rank].threads, shares = cf_seats_share_memory(s, rank);
    if (seat_is_its_own && !shares) return n;
    uint32_t first = seat < memory ? seat : memory;
    for (uint32_t r = from > first ? from : first; r < n; r++)
        if ((s->seat[r] == seat || (shares && s->memory[r] == memory)) && r != rank) return r;
    return n;
}
