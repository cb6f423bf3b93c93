/* See measure.h. */
#include "coordinator/decode/measure/measure.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/decode/measure/rehearse.h"
#include "node/engine/rate.h"
#include "node/memory/bandwidth.h"
#include "transport/clock.h"

enum { PASSES = 5 };

const int cf_measure_rounds[CF_LINK_SIZES] = {200, 50, 7};

static size_t buffer_bytes(const struct cf_job *j) {
    const char *mib = getenv("COFFER_TEST_READ_MIB"); /* test hook: tests of all but the figure need not wait for it */
    if (mib && atoi(mib) > 0) return (size_t)atoi(mib) << 20;
    uint64_t want = (uint64_t)2 << 30;
    if (want < 4 * j->machine.llc_bytes) want = 4 * j->machine.llc_bytes;
    uint64_t half = cf_memory_share(j->machine.nodes[j->seat.node].memory_free, j->seat.sharers, j->machine.limit_free,
                        (uint32_t)cf_transport_local_size(j->transport)) /
                    2;
    return (size_t)(want < half ? want : half);
}

static void poll(void *ctx) {
    struct cf_measure_life *l = ctx;
    if (!l->failed) l->failed = cf_progress(l->job->transport, &l->error) < 0;
}

void cf_measure_life_begin(struct cf_measure_life *l, struct cf_job *j) {
    *l = (struct cf_measure_life){.job = j};
    cf_team_poll(j->team, poll, l, 0.05);
}

int cf_measure_life_end(struct cf_measure_life *l, struct cf_error *e) {
    cf_team_poll(l->job->team, NULL, NULL, 1.0);
    if (l->failed) *e = l->error;
    return l->failed ? -1 : 0;
}

/* rates: [n_ranks] of all, or NULL. */
static double meet(struct cf_job *j, double rate, double *rates, struct cf_error *e) {
    Cf__Hello h = CF__HELLO__INIT;
    Cf__Verdict *all = NULL;
    double sum = 0;
    h.bandwidth = rate;
    cf_gguf_identity(j->gguf, &h.model_bytes, &h.model_hash);
    if (cf_transport_hello(j->transport, &h, &all, e)) return -1;
    for (size_t r = 0; r < all->n_hellos; r++) {
        sum += all->hellos[r]->bandwidth;
        if (rates) rates[r] = all->hellos[r]->bandwidth;
    }
    cf__verdict__free_unpacked(all, NULL);
    return sum;
}

double cf_measure_meet(struct cf_job *j, double rate, struct cf_error *e) {
    return meet(j, rate, NULL, e);
}

static int passes(struct cf_job *j, struct cf_reader *r, const struct cf_measure_life *l, struct cf_error *e) {
    double best = 0, rate = 0;
    for (int i = 0; i <= PASSES; i++) {
        double sum = cf_measure_meet(j, rate, e); /* what they read in the pass before */
        if (sum < 0) return -1;
        if (sum > best) best = sum, j->own.bandwidth = rate;
        if (i < PASSES) rate = cf_reader_pass(r, j->team);
        if (l->failed) return -1;
    }
    return 0;
}

int cf_measure_bandwidth(struct cf_job *j, struct cf_error *e) {
    struct cf_reader r;
    struct cf_measure_life life;
    int node = (int)j->machine.nodes[j->seat.node].os_index;
    cf_measure_life_begin(&life, j);
    int rc = cf_reader_open(&r, j->team, buffer_bytes(j), node, e);
    if (!rc) rc = passes(j, &r, &life, e);
    cf_reader_close(&r);
    if (cf_measure_life_end(&life, e) || rc) return -1;
    if (!j->streamed) j->streamed = calloc((size_t)cf_transport_size(j->transport), sizeof *j->streamed);
    if (!j->streamed) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    return meet(j, j->own.bandwidth, j->streamed, e) < 0 ? -1 : 0;
}

int cf_measure_products(struct cf_job *j, struct cf_error *e) {
    const double seconds = 0.1;
    bool there[CF_TYPE_LIMIT] = {false};
    struct cf_measure_life life;
    for (size_t i = 0; i < cf_gguf_n_tensors(j->gguf); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(j->gguf, i);
        if (t->n_dims > 1 && t->type < CF_TYPE_LIMIT) there[t->type] = true;
    }
    cf_measure_life_begin(&life, j);
    int rc = 0;
    for (uint32_t id = 0; !rc && id < CF_TYPE_LIMIT; id++) {
        if (!there[id]) continue;
        double sum = cf_measure_meet(j, 0, e); /* all begin together */
        double rate = sum < 0 ? 0 : cf_team_product_rate(j->team, j->kernels, cf_type_by_id(id), seconds);
        j->own.rates[id] = rate;
        rc = sum < 0 || life.failed || (j->product_rates[id] = cf_measure_meet(j, rate, e)) < 0 ? -1 : 0;
    }
    return cf_measure_life_end(&life, e) ? -1 : rc;
}

static void busy(void *seconds) {
    double end = cf_now() + *(const double *)seconds;
    while (cf_now() < end) {
    }
}

int cf_measure_both(struct cf_job *j, int peer, int size, int rounds, double *seconds, struct cf_error *e) {
    double work = CF_PIECE_SECONDS, round;
    size_t bytes = cf_link_sizes[size];
    if (cf_transport_probe_both(j->transport, peer, bytes, rounds, seconds, e)) return -1;
    if (size != 1) return 0;
    if (cf_transport_rehearse(j->transport, peer, bytes, rounds, busy, &work, &round, e)) return -1;
    if (round - work < *seconds) *seconds = round - work;
    return 0;
}

static int probe(struct cf_job *j, struct cf_probe *p, struct cf_error *e) {
    uint32_t me = (uint32_t)cf_transport_rank(j->transport);
    if (me != p->a && me != p->b) return 0;
    for (int i = 0; i < CF_LINK_SIZES; i++)
        if (cf_transport_probe(j->transport, (int)(me == p->a ? p->b : p->a), cf_link_sizes[i], cf_measure_rounds[i],
                &p->seconds[i], e))
            return -1;
    return 0;
}

/* Tells all ranks what a pair has found; the next pair begins when all know. */
static int tell(struct cf_job *j, struct cf_probe *p, struct cf_error *e) {
    Cf__Hello h = CF__HELLO__INIT;
    Cf__Verdict *all = NULL;
    if (p->a == (uint32_t)cf_transport_rank(j->transport)) h.links = p->seconds, h.n_links = CF_LINK_SIZES;
    cf_gguf_identity(j->gguf, &h.model_bytes, &h.model_hash);
    if (cf_transport_hello(j->transport, &h, &all, e)) return -1;
    const Cf__Hello *a = all->hellos[p->a];
    bool known = a->n_links == CF_LINK_SIZES;
    if (known) memcpy(p->seconds, a->links, sizeof p->seconds);
    cf__verdict__free_unpacked(all, NULL);
    return known ? 0 : cf_fail(e, CF_ERR_PEER, "rank %u has not said what its link takes", p->a);
}

int cf_measure_links(struct cf_job *j, struct cf_error *e) {
    uint32_t n = (uint32_t)cf_transport_size(j->transport), firsts = n <= CF_MEASURE_PAIRED ? n : 1;
    if (j->probes) return 0; /* with other numbers of threads they are the same */
    j->probes = calloc(n * firsts + 1, sizeof *j->probes);
    if (!j->probes) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t a = 0; a < firsts; a++)
        for (uint32_t b = a + 1; b < n; b++) {
            struct cf_probe *p = &j->probes[j->n_probes++];
            p->a = a, p->b = b;
            if (probe(j, p, e) || (firsts > 1 && tell(j, p, e))) return -1;
        }
    return cf_measure_meet(j, 0, e) < 0 ? -1 : 0; /* nobody measures something else meanwhile */
}

void cf_measure_noise(double *times, int each, double best, double noise[CF_NOISE]) {
    int n = CF_NOISE * each;
    qsort(times, (size_t)n, sizeof *times, cf_measure_ascending);
    if (n > 1) times[n - 1] = times[n - 2];
    for (int i = 0; i < CF_NOISE; i++) {
        double sum = 0;
        for (int k = 0; k < each; k++)
            sum += times[i * each + k];
        noise[i] = sum / each / best;
        if (noise[i] < 1) noise[i] = 1;
    }
}

int cf_measure_ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
