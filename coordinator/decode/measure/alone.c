/* See alone.h. */
#include "coordinator/decode/measure/alone.h"

#include <math.h>
#include <stdlib.h>

#include "coordinator/decode/measure/measure.h"
#include "coordinator/decode/measure/rehearse.h"
#include "transport/clock.h"

enum { TURNS = 3 };
static const double TURN = 6e-3, CROWDED_TURN = 15e-3, PIECE = 1e-3; /* seconds */

struct memory {
    bool shared, anywhere; /* this rank's; some rank's */
    bool first;            /* of those that share it */
};

/* Do two ranks, each on a node (os index), read the same memory? */
static bool same_memory(const struct cf_transport *t, int a, int node_a, int b, int node_b) {
    return node_a == node_b && cf_transport_machine_of(t, a) == cf_transport_machine_of(t, b);
}

/* Where everybody sits, before the hello that tells all. */
static int look_around(struct cf_job *j, struct memory *m, struct cf_error *e) {
    struct cf_transport *t = j->transport;
    Cf__Hello h = CF__HELLO__INIT;
    Cf__Verdict *all = NULL;
    int me = cf_transport_rank(t);
    h.node = j->machine.nodes[j->seat.node].os_index;
    cf_gguf_identity(j->gguf, &h.model_bytes, &h.model_hash);
    if (cf_transport_hello(t, &h, &all, e)) return -1;
    *m = (struct memory){.first = true};
    for (int a = 0; a < cf_transport_size(t); a++)
        for (int b = 0; b < a; b++) {
            if (!same_memory(t, a, (int)all->hellos[a]->node, b, (int)all->hellos[b]->node)) continue;
            m->anywhere = true;
            m->shared |= a == me || b == me;
            if (a == me) m->first = false;
        }
    cf__verdict__free_unpacked(all, NULL);
    return 0;
}

/* Bytes/s of a turn. */
static double read_on(const struct cf_job *j, struct cf_reader *r, double bandwidth, double turn) {
    size_t piece = cf_piece_bytes(r, PIECE, bandwidth), at = 0;
    double begin = cf_now(), start = j->seat.crowded ? cf_thread_now() : begin, bytes = 0, seconds;
    do {
        cf_reader_part(r, j->team, at, piece);
        at = at + 2 * piece <= r->bytes ? at + piece : 0, bytes += (double)piece;
    } while (cf_now() - begin < turn);
    seconds = (j->seat.crowded ? cf_thread_now() : cf_now()) - start;
    return seconds > 0 ? bytes / seconds : 0;
}

static double median(double of[TURNS]) {
    qsort(of, TURNS, sizeof *of, cf_measure_ascending);
    return of[TURNS / 2];
}

/* Seconds of a turn, or -1: long enough, also where so many ranks meet that some of them begin late. */
static double turn_of(struct cf_job *j, struct cf_error *e) {
    double turn = j->seat.crowded ? CROWDED_TURN : TURN, start = cf_now();
    if (cf_measure_meet(j, 0, e) < 0) return -1;
    double sum = cf_measure_meet(j, cf_now() - start, e);
    return sum < 0 ? -1 : fmax(turn, 4 * sum / j->n_ranks);
}

int cf_alone_look(struct cf_job *j, struct cf_reader *r, double bandwidth, double *together, struct cf_error *e) {
    struct memory m;
    double all[TURNS] = {0}, times[TURNS] = {0};
    j->own.alone = *together = 0;
    if (j->n_ranks == 1) return 0;
    if (look_around(j, &m, e)) return -1;
    if (!m.anywhere) return 0;
    double turn = turn_of(j, e);
    if (turn < 0) return -1;
    for (int i = 0; i < TURNS; i++) {
        if (cf_measure_meet(j, 0, e) < 0) return -1;
        if (m.shared && r->bytes) all[i] = read_on(j, r, bandwidth, turn);
        if (cf_measure_meet(j, 0, e) < 0) return -1;
        if (m.first && all[i] > 0) times[i] = read_on(j, r, bandwidth, turn) / all[i];
    }
    if (cf_measure_meet(j, 0, e) < 0) return -1; /* what comes now is not to disturb the last one */
    *together = median(all);
    if (m.shared && m.first) j->own.alone = fmax(median(times), 1);
    return 0;
}

void cf_alone_settle(struct cf_job *j) {
    struct cf_rank_info *ranks = j->ranks;
    for (uint32_t r = 0; r < j->n_ranks; r++) {
        uint32_t first = 0;
        while (first < r && !same_memory(j->transport, (int)first, ranks[first].node, (int)r, ranks[r].node))
            first++;
        ranks[r].memory = first, ranks[r].alone = ranks[first].alone;
    }
}
