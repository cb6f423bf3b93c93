/* See calibrate.h. */
#include "coordinator/decode/measure/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "coordinator/decode/measure/alone.h"
#include "coordinator/decode/measure/fewer.h"
#include "coordinator/decode/measure/measure.h"
#include "coordinator/decode/measure/rates_file.h"
#include "coordinator/decode/measure/rehearse.h"
#include "node/engine/rate.h"
#include "node/memory/bandwidth.h"
#include "transport/clock.h"

enum { PASSES = 3, MOST_HOSTS = 16, PER_NOISE = 12, /* pieces */ NAPS = 40 };
static const double LOOK = 0.03, GLANCE = 0.005; /* seconds for a rate that is not in the file, and for one that is */
static const int link_rounds[CF_LINK_SIZES] = {40, 20, 3};

struct poll {
    struct cf_transport *transport;
    struct cf_error error;
    bool failed;
};
static void poll(void *ctx) {
    struct poll *p = ctx;
    if (!p->failed) p->failed = cf_progress(p->transport, &p->error) < 0;
}

/* Enough to go beyond the caches for a model that does; more would only cost time. */
static size_t look_bytes(const struct cf_gguf *g) {
    uint64_t model = 0, hash;
    cf_gguf_identity(g, &model, &hash);
    size_t bytes = (size_t)(model / 3);
    return bytes < 4u << 20 ? 4u << 20 : bytes > 256u << 20 ? 256u << 20 : bytes;
}

/* Seconds for a part of the buffer; where others have the core as well those in which thread 0 had it. */
static double read_part(struct cf_reader *r, struct cf_team *team, size_t at, size_t bytes, bool crowded) {
    double start = cf_thread_now(), seconds = cf_reader_part(r, team, at, bytes);
    return crowded ? cf_thread_now() - start : seconds;
}

/* How unevenly the rank gets on: pieces of the buffer that take about as long as a step of a layer, against what they
 * would take at the best bandwidth. */
static void look_at_noise(
    struct cf_reader *r, struct cf_team *team, double bandwidth, bool crowded, double noise[CF_NOISE]) {
    double times[CF_NOISE * PER_NOISE];
    size_t piece = cf_piece_bytes(r, CF_PIECE_SECONDS, bandwidth), at = 0;
    for (int i = 0; i < CF_NOISE * PER_NOISE; i++) {
        times[i] = read_part(r, team, at, piece, crowded);
        at = at + 2 * piece <= r->bytes ? at + piece : 0;
    }
    cf_measure_noise(times, PER_NOISE, (double)piece / bandwidth, noise);
}

/* How long after its time a rank wakes up whose neighbours at the same core compute: pieces of work as above, and a nap
 * behind each, as between the steps of a layer. */
static double look_at_waking(struct cf_reader *r, struct cf_team *team, double bandwidth) {
    struct timespec nap = {.tv_nsec = 10000};
    double late = 0;
    size_t piece = cf_piece_bytes(r, CF_PIECE_SECONDS, bandwidth);
    for (int i = 0; i < NAPS; i++) {
        cf_reader_part(r, team, 0, piece);
        double start = cf_now();
        nanosleep(&nap, NULL);
        late += cf_now() - start - 1e-9 * (double)nap.tv_nsec;
    }
    return late / NAPS;
}

/* Bytes/s that a team reads from a buffer on its node; how evenly, and how much a part of it reads, goes to *to. wake:
 * of a rank that shares its core, whose figures are then by processor time; else NULL. 0: there is no buffer. */
static double look_at_memory(struct cf_team *team, struct cf_reader *r, struct cf_rank_info *to, double *wake) {
    double best = 0, part = 0;
    for (int i = 0; r->bytes && i < PASSES; i++) {
        double rate = (double)r->bytes / read_part(r, team, 0, r->bytes, wake != NULL);
        if (rate > best) best = rate;
        cf_fewer_read(to, r, team, i, &part);
    }
    cf_fewer_scale(to, part, best);
    if (best > 0) look_at_noise(r, team, best, wake != NULL, to->noise);
    if (best > 0 && wake) *wake = look_at_waking(r, team, best);
    return best;
}

/* One without bytes if there is no memory for it. */
static void open_reader(struct cf_reader *r, struct cf_team *team, size_t bytes, int node) {
    struct cf_error ignored;
    if (!cf_reader_open(r, team, bytes, node, &ignored)) return;
    cf_reader_close(r);
    *r = (struct cf_reader){.bytes = 0};
}

/* A rate that was measured while others used the machine is too low, never too high. */
static void keep_best(struct cf_rates_file *f, const char *name, double now, double *best) {
    if (now <= *best) return;
    *best = now;
    cf_rates_set(f, name, now);
}

/* What products of a type do: *rate that is there (measured in earnest), or a look, or what the file has if that is
 * better. */
typedef double product_fn(struct cf_team *, const struct cf_kernels *, const struct cf_type *, double seconds);
static void look_at_product(struct cf_rates_file *f, struct cf_team *team, const struct cf_kernels *kernels,
    uint32_t type, const char *how, product_fn *measure, double *rate) {
    char name[CF_RATES_NAME];
    double now = *rate;
    const struct cf_type *t = cf_type_by_id(type);
    snprintf(name, sizeof name, "%s, %u threads, %s%s", kernels->isa, cf_team_size(team), t->name, how);
    *rate = 0;
    bool known = cf_rates_get(f, name, rate);
    keep_best(f, name, now > 0 ? now : measure(team, kernels, t, known ? GLANCE : LOOK), rate);
}

/* All rates of *to that are not known, of products for the types of the model's matrices. */
static void look_at_kernels(struct cf_team *team, const struct cf_kernels *kernels, const struct cf_model *m,
    const struct cf_gguf *g, struct cf_rank_info *to) {
    struct cf_rates_file file;
    char name[CF_RATES_NAME];
    uint32_t threads = cf_team_size(team), heads = m->n_head_kv ? m->n_head / m->n_head_kv : 1;
    cf_rates_open(&file);
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(g, i);
        if (t->n_dims < 2 || t->type >= CF_TYPE_LIMIT || !cf_type_by_id(t->type)) continue;
        look_at_product(&file, team, kernels, t->type, "", cf_team_product_rate, &to->rates[t->type]);
        look_at_product(&file, team, kernels, t->type, CF_RATES_SINGLE, cf_team_single_rate, &to->single[t->type]);
        look_at_product(&file, team, kernels, t->type, CF_RATES_FEW, cf_team_few_rate, &to->few[t->type]);
    }
    snprintf(name, sizeof name, "%s, %u threads, attention %u+%u of %u", kernels->isa, threads, m->d_k, m->d_v, heads);
    bool known = cf_rates_get(&file, name, &to->attention);
    keep_best(&file, name, cf_team_attention_rate(team, kernels, m->d_k, m->d_v, heads, known ? GLANCE : LOOK),
        &to->attention);
    snprintf(name, sizeof name, "%s, %u threads, " CF_RATES_BETWEEN, kernels->isa, threads);
    known = cf_rates_get(&file, name, &to->between);
    keep_best(&file, name, cf_team_between_rate(team, kernels, known ? GLANCE : LOOK), &to->between);
    cf_rates_close(&file);
    to->step = cf_team_round_seconds(team);
}

struct look {
    const struct cf_model *m;
    const struct cf_gguf *g;
    int node; /* os index */
    struct cf_rank_info *to;
};
static int look_body(struct cf_team *team, void *ctx) {
    const struct look *l = ctx;
    const struct cf_kernels *kernels = cf_kernels_choose(getenv("COFFER_ISA"));
    if (l->to->bandwidth <= 0) {
        struct cf_reader r;
        open_reader(&r, team, look_bytes(l->g), l->node);
        l->to->bandwidth = look_at_memory(team, &r, l->to, NULL);
        cf_reader_close(&r);
    }
    if (kernels) look_at_kernels(team, kernels, l->m, l->g, l->to);
    l->to->threads = cf_team_size(team);
    return 0;
}

int cf_calibrate_here(struct cf_rank_info *to, const struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    struct cf_machine machine;
    struct cf_seat seat;
    if (cf_machine_read(&machine, 1, e)) return -1;
    int rc = cf_seat_assign(&seat, &machine, 0, 1, NULL, e);
    if (!rc) {
        struct cf_team_options o = {seat.n_cores, seat.cores, seat.n_cores, false};
        struct look l = {m, g, (int)machine.nodes[seat.node].os_index, to};
        if (to->bandwidth <= 0) rc = cf_fewer_meet(to, &seat, e);
        if (!rc) rc = cf_team_run(&o, look_body, &l, e);
    }
    cf_machine_free(&machine);
    return rc;
}

/* A bandwidth that others share is not the best that was found: the pieces of work are what they were, but are held
 * against that. */
static void settle_for(struct cf_rank_info *own, double best, double bandwidth) {
    double share = best > 0 ? bandwidth / best : 1;
    for (int i = 0; i < CF_NOISE; i++)
        if (own->noise[i] > 0) own->noise[i] = fmax(share * own->noise[i], 1);
    for (uint32_t i = 0; i < own->n_fewer; i++)
        own->fewer[i].bandwidth *= share;
}

int cf_calibrate_rank(struct cf_job *j, struct cf_error *e) {
    struct poll p = {.transport = j->transport};
    cf_team_poll(j->team, poll, &p, 0.05); /* signs of life */
    struct cf_reader r;
    double *wake = j->seat.crowded ? &j->own.wake : NULL;
    open_reader(&r, j->team, look_bytes(j->gguf), (int)j->machine.nodes[j->seat.node].os_index);
    double quick = look_at_memory(j->team, &r, &j->own, wake), together = 0;
    int rc = cf_alone_look(j, &r, quick, &together, e);
    cf_reader_close(&r);
    bool earnest = j->own.bandwidth > 0 && !j->seat.crowded; /* which goes by the clock */
    double bandwidth = earnest ? j->own.bandwidth : together > 0 ? together : quick;
    if (together > 0) settle_for(&j->own, quick, bandwidth);
    j->own.bandwidth = bandwidth;
    if (!rc) look_at_kernels(j->team, j->kernels, &j->model, j->gguf, &j->own);
    cf_team_poll(j->team, NULL, NULL, 1.0);
    if (p.failed) *e = p.error;
    return p.failed ? -1 : rc;
}

/* ---- links ---- */

/* The n-th rank of a host, -1: it has fewer. */
static int rank_of(const struct cf_job *j, int host, int n) {
    for (int r = 0; r < (int)j->n_ranks; r++)
        if (cf_transport_host_of(j->transport, r) == host && n-- == 0) return r;
    return -1;
}

/* What a rank and its partner measure belongs to both of their hosts. rehearse: also a sum, if these are two. */
static int probe(struct cf_job *j, int a, int b, bool rehearse, struct cf_error *e) {
    int me = cf_transport_rank(j->transport), hosts = (int)j->figures.n_hosts;
    if (a < 0 || b < 0 || a == b || (me != a && me != b)) return 0;
    int here = cf_transport_host_of(j->transport, a), there = cf_transport_host_of(j->transport, b);
    int own = me == a ? here : there, other_host = me == a ? there : here;
    for (int i = 0; i < CF_LINK_SIZES; i++) {
        struct cf_link *one = &j->figures.links[here * hosts + there], *other = &j->figures.links[there * hosts + here];
        int peer = me == a ? b : a;
        if (cf_transport_probe(j->transport, peer, cf_link_sizes[i], link_rounds[i], &one->seconds[i], e) ||
            cf_measure_both(j, peer, i, link_rounds[i], &one->both[i], e))
            return -1;
        if (one->both[i] < one->seconds[i]) one->both[i] = one->seconds[i]; /* that was noise */
        *other = *one;
    }
    if (here == there || !rehearse) return 0;
    return cf_rehearse(j, me == a ? b : a, j->figures.links[own * hosts + other_host].apart, e);
}

/* Everybody meets everybody once, and rehearses a sum with the first one, all tables playing at the same time (the
 * circle method): host 0 stays, the others move on by one seat; with an odd number one seat is empty. */
static int tournament(struct cf_job *j, int hosts, struct cf_error *e) {
    int seats = hosts + (hosts & 1);
    for (int round = 0; round < seats - 1; round++)
        for (int table = 0; table < seats / 2; table++) {
            int a = table ? 1 + (round + table - 1) % (seats - 1) : 0;
            int b = 1 + (round + seats - 2 - table) % (seats - 1);
            if (a < hosts && b < hosts && probe(j, rank_of(j, a, 0), rank_of(j, b, 0), round == 0, e)) return -1;
        }
    return 0;
}

int cf_calibrate_links(struct cf_job *j, struct cf_error *e) {
    int hosts = (int)j->figures.n_hosts, here = cf_transport_host_of(j->transport, cf_transport_rank(j->transport));
    if (probe(j, rank_of(j, here, 0), rank_of(j, here, 1), false, e)) return -1;
    if (hosts <= MOST_HOSTS) return tournament(j, hosts, e);
    for (int h = 1; h < hosts; h++)
        if (probe(j, rank_of(j, 0, 0), rank_of(j, h, 0), h == 1, e)) return -1;
    return 0;
}

/* ---- telling each other ---- */

enum { FIGURES = 2 * CF_LINK_SIZES + CF_APART }; /* of a link */

static double *figure(struct cf_link *l, size_t number) {
    size_t i = number % FIGURES;
    if (i >= 2 * CF_LINK_SIZES) return &l->apart[i - 2 * CF_LINK_SIZES];
    return i < CF_LINK_SIZES ? &l->seconds[i] : &l->both[i - CF_LINK_SIZES];
}

static void tell_fewer(const struct cf_rank_info *own, Cf__Hello *h, struct cf_calibrate_room *room) {
    uint32_t n = 0;
    for (const struct cf_fewer *f = own->fewer; n < own->n_fewer && f->bandwidth > 0; f++, n++)
        room->fewer[n] = f->threads, room->fewer_bandwidth[n] = f->bandwidth, room->fewer_step[n] = f->step;
    h->fewer = room->fewer, h->fewer_bandwidth = room->fewer_bandwidth, h->fewer_step = room->fewer_step;
    h->n_fewer = h->n_fewer_bandwidth = h->n_fewer_step = n;
}

int cf_calibrate_tell(const struct cf_job *j, Cf__Hello *h, struct cf_calibrate_room *room, struct cf_error *e) {
    size_t here = (size_t)cf_transport_host_of(j->transport, cf_transport_rank(j->transport)),
           hosts = j->figures.n_hosts;
    size_t n = hosts <= MOST_HOSTS || cf_transport_rank(j->transport) == 0 ? hosts * FIGURES : 0;
    room->links = calloc(n + 1, sizeof *room->links);
    if (!room->links) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    h->bandwidth = j->own.bandwidth, h->attention = j->own.attention, h->step = j->own.step, h->wake = j->own.wake;
    h->alone = j->own.alone, h->between = j->own.between;
    tell_fewer(&j->own, h, room);
    if (j->own.noise[0] > 0) memcpy(room->noise, j->own.noise, sizeof room->noise), h->n_noise = CF_NOISE;
    h->noise = room->noise, h->rate_types = room->types, h->rates = room->rates, h->single_rates = room->single,
    h->few_rates = room->few, h->links = room->links, h->n_links = n;
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        if (j->own.rates[id] <= 0) continue;
        room->types[h->n_rate_types++] = id;
        room->rates[h->n_rates++] = j->own.rates[id];
        room->single[h->n_single_rates++] = j->own.single[id];
        room->few[h->n_few_rates++] = j->own.few[id];
    }
    for (size_t k = 0; k < n; k++)
        room->links[k] = *figure(&j->figures.links[here * hosts + k / FIGURES], k);
    return 0;
}

/* Numbers of threads that fall to one, each with its figures. */
static int hear_fewer(struct cf_rank_info *info, int rank, const Cf__Hello *h, struct cf_error *e) {
    uint32_t before = h->threads;
    bool good = h->n_fewer <= CF_FEWER && h->n_fewer_bandwidth == h->n_fewer && h->n_fewer_step == h->n_fewer;
    for (size_t i = 0; good && i < h->n_fewer; i++) {
        good = h->fewer[i] && h->fewer[i] < before && h->fewer_bandwidth[i] > 0 && h->fewer_step[i] >= 0;
        before = h->fewer[i];
        info->fewer[i] = (struct cf_fewer){before, h->fewer_bandwidth[i], h->fewer_step[i]};
    }
    info->n_fewer = good ? (uint32_t)h->n_fewer : 0;
    return good ? 0 : cf_fail(e, CF_ERR_FORMAT, "rank %d: a hello with wrong figures of fewer threads", rank);
}

static int hear_one(struct cf_job *j, int rank, const Cf__Hello *h, struct cf_error *e) {
    struct cf_rank_info *info = &j->figures.ranks[rank];
    size_t here = (size_t)cf_transport_host_of(j->transport, rank), hosts = j->figures.n_hosts;
    if (h->n_rates != h->n_rate_types || h->n_single_rates != h->n_rates || h->n_few_rates != h->n_rates ||
        (h->n_links && h->n_links != hosts * FIGURES))
        return cf_fail(e, CF_ERR_FORMAT,
            "rank %d: a hello with %zu, %zu and %zu rates of %zu types and %zu figures of links", rank, h->n_rates,
            h->n_single_rates, h->n_few_rates, h->n_rate_types, h->n_links);
    info->bandwidth = h->bandwidth, info->attention = h->attention, info->step = h->step, info->wake = h->wake;
    info->alone = h->alone, info->between = h->between;
    if (h->n_noise == CF_NOISE) memcpy(info->noise, h->noise, sizeof info->noise);
    if (hear_fewer(info, rank, h, e)) return -1;
    for (size_t i = 0; i < h->n_rates; i++)
        if (h->rate_types[i] < CF_TYPE_LIMIT)
            info->rates[h->rate_types[i]] = h->rates[i], info->single[h->rate_types[i]] = h->single_rates[i],
            info->few[h->rate_types[i]] = h->few_rates[i];
    for (size_t k = 0; k < h->n_links; k++) {
        if (h->links[k] > 0) *figure(&j->figures.links[here * hosts + k / FIGURES], k) = h->links[k];
    }
    return 0;
}

/* Links that nobody has measured are like those that somebody has: hosts of one kind have cables of one kind. */
static void fill_links(struct cf_figures *f) {
    struct cf_link mean[2] = {0};
    double n[2] = {0};
    for (size_t k = 0; k < (size_t)f->n_hosts * f->n_hosts; k++) {
        bool within = k / f->n_hosts == k % f->n_hosts;
        if (f->links[k].seconds[0] <= 0) continue;
        n[within]++;
        for (int i = 0; i < CF_LINK_SIZES; i++)
            mean[within].seconds[i] += f->links[k].seconds[i], mean[within].both[i] += f->links[k].both[i];
    }
    for (size_t k = 0; k < (size_t)f->n_hosts * f->n_hosts; k++) {
        bool within = k / f->n_hosts == k % f->n_hosts;
        if (f->links[k].seconds[0] > 0 || !n[within]) continue;
        for (int i = 0; i < CF_LINK_SIZES; i++)
            f->links[k].seconds[i] = mean[within].seconds[i] / n[within],
            f->links[k].both[i] = mean[within].both[i] / n[within];
    }
    cf_figures_assume_links(f);
}

int cf_calibrate_hear(struct cf_job *j, const Cf__Verdict *all, struct cf_error *e) {
    for (uint32_t k = 0; k < j->figures.n_hosts * j->figures.n_hosts; k++)
        memset(j->figures.links[k].apart, 0, sizeof j->figures.links[k].apart); /* the own one counts as it was told */
    for (int r = 0; r < (int)j->n_ranks; r++)
        if (hear_one(j, r, all->hellos[r], e)) return -1;
    cf_alone_settle(j);
    uint64_t model = 0, hash;
    double sum = 0;
    cf_gguf_identity(j->gguf, &model, &hash);
    for (uint32_t r = 0; r < j->figures.n_ranks; r++)
        sum += j->figures.ranks[r].bandwidth;
    cf_figures_settle(&j->figures, 4.0 * j->model.n_embd, cf_rehearse_piece((double)model, j->model.n_layers, sum));
    fill_links(&j->figures);
    return 0;
}
