/* See rehearse.h. */
#include "coordinator/decode/measure/rehearse.h"

#include <stdlib.h>

#include "coordinator/decode/measure/measure.h"
#include "transport/clock.h"

enum { ROUNDS = 40, MOST_ROUNDS = 64, BUFFER = 64 << 20 };
static const double MOST_SECONDS = 1e-3;

size_t cf_piece_bytes(const struct cf_reader *r, double seconds, double bandwidth) {
    size_t piece = (size_t)(bandwidth * seconds) >> 18 << 18;
    if (piece < 1u << 18) piece = 1u << 18;
    return piece < r->bytes ? piece : r->bytes;
}

struct work {
    struct cf_reader reader;
    struct cf_team *team;
    size_t half, at;
    double seconds[MOST_ROUNDS]; /* of second halves */
    int n;
};

static void read_half(struct work *w) {
    if (!w->half) return; /* there was no memory for it */
    cf_reader_part(&w->reader, w->team, w->at, w->half);
    w->at = w->at + 2 * w->half <= w->reader.bytes ? w->at + w->half : 0;
}

/* A message is felt in the first half of the work behind it. */
static void work(void *ctx) {
    struct work *w = ctx;
    read_half(w);
    double start = cf_now();
    read_half(w);
    if (w->n < MOST_ROUNDS) w->seconds[w->n++] = cf_now() - start;
}

/* Seconds of a piece without a message, as the transport reckons its rounds: the mean of all but the slowest tenth. */
static double work_alone(struct work *w) {
    double sum = 0;
    int most = w->n - w->n / 10;
    qsort(w->seconds, (size_t)w->n, sizeof *w->seconds, cf_measure_ascending);
    for (int i = 0; i < most; i++)
        sum += 2 * w->seconds[i];
    return most > 0 ? sum / most : 0;
}

double cf_rehearse_piece(double model_bytes, uint32_t layers, double bandwidth) {
    double seconds = bandwidth > 0 && layers ? model_bytes / (2.0 * layers) / bandwidth : 0;
    return seconds < CF_PIECE_SECONDS ? CF_PIECE_SECONDS : seconds < MOST_SECONDS ? seconds : MOST_SECONDS;
}

int cf_rehearse(struct cf_job *j, int peer, double more[CF_APART], struct cf_error *e) {
    struct work w = {.team = j->team};
    double round;
    uint64_t model = 0, hash;
    struct cf_error ignored;
    int node = (int)j->machine.nodes[j->seat.node].os_index;
    bool works = !cf_reader_open(&w.reader, j->team, BUFFER, node, &ignored);
    cf_gguf_identity(j->gguf, &model, &hash);
    double seconds = cf_rehearse_piece((double)model, j->model.n_layers, j->n_ranks * j->own.bandwidth);
    w.half = works ? cf_piece_bytes(&w.reader, seconds / 2, j->own.bandwidth) : 0;
    int rc = 0;
    for (int i = 0; i < CF_APART && !rc; i++) {
        size_t bytes = sizeof(float) * j->model.n_embd * cf_apart_rows[i];
        w.n = 0;
        rc = cf_transport_rehearse(j->transport, peer, bytes, ROUNDS, work, &w, &round, e);
        double alone = rc || !works ? 0 : work_alone(&w);
        if (alone > 0 && round > alone) more[i] = round - alone;
    }
    cf_reader_close(&w.reader);
    return rc;
}
