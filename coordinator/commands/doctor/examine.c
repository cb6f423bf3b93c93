/* What every rank does for the doctor: looks at itself, then at its links, and tells rank 0 both. Nothing in here stops
 * because something is wrong with this rank: that is what rank 0 is to hear.
 *
 *     hello (tolerant: who is on my host, which cores do they see) -> seat -> all compute at once -> facts to rank 0
 *     -> links, pair after pair in one order that all know -> links to rank 0
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/doctor/doctor.h"
#include "node/check/check.h"
#include "node/kernels/kernels.h"
#include "proto/wire.h"

enum { SMALL = 8, SMALL_ROUNDS = 50, LARGE = 1 << 20, LARGE_ROUNDS = 3, MOST_HOSTS = 16 };
static const double SPIN_SECONDS = 0.15;

/* The texts that a Checkup points at. */
struct self {
    struct cf_transport *transport;
    struct cf_machine machine;
    struct cf_seat seat;
    bool seated;
    struct cf_check_host host;
    char mpi[CF_CHECK_TEXT];
    char isa[CF_ISA_NAME];
    struct cf_error error, model_error;
    Cf__Error error_message, model_error_message;
    Cf__Checkup facts;
};

static Cf__Error *error_of(const struct cf_error *e, Cf__Error *message) {
    if (!e->code) return NULL;
    cf__error__init(message);
    message->code = (uint32_t)e->code, message->text = cf_wire_text(e->text);
    return message;
}

static void poll(void *ctx) {
    struct cf_error ignored; /* it comes again at the next wait */
    cf_progress(ctx, &ignored);
}

static void look_at_model(struct self *s, const struct cf__examination *x) {
    struct cf_gguf *g = NULL;
    if (!x->model || cf_gguf_open(&g, x->model, &s->model_error)) return;
    cf_gguf_identity(g, &s->facts.model_bytes, &s->facts.model_hash);
    cf_check_content(g, x->whole, poll, s->transport, &s->facts.model_content, &s->model_error);
    cf_gguf_close(g);
}

/* The first round: who sees which cores. Then the seat that a run would take. */
static int take_seat(struct self *s, struct cf_error *e) {
    struct cf_transport *t = s->transport;
    int local = cf_transport_local_size(t), me = cf_transport_rank(t), at = 0;
    Cf__Hello h = CF__HELLO__INIT;
    Cf__Verdict *all = NULL;
    uint64_t *hashes = calloc((size_t)local, sizeof *hashes);
    if (!hashes) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    h.cpus_hash = s->machine.cpus_hash;
    int rc = cf_transport_hello(t, &h, &all, e);
    for (int r = 0; !rc && r < cf_transport_size(t); r++) {
        if (cf_transport_host_of(t, r) != cf_transport_host_of(t, me)) continue;
        s->facts.sharers += all->hellos[r]->cpus_hash == s->machine.cpus_hash;
        hashes[at++] = all->hellos[r]->cpus_hash;
    }
    if (all) cf__verdict__free_unpacked(all, NULL);
    if (!rc && !s->error.code)
        s->seated =
            !cf_seat_assign_bound(&s->seat, &s->machine, cf_transport_local_rank(t), local, NULL, hashes, &s->error);
    free(hashes);
    return rc;
}

static void look_at_memory(Cf__Checkup *c, uint32_t node) {
    struct cf_check_memory m;
    cf_check_memory(node, &m);
    c->memory_free = m.free, c->memory_limit = m.limit, c->memory_nodes = m.nodes, c->mbind = m.mbind;
    c->move_pages = m.move_pages, c->memlock = m.memlock, c->huge_page = m.huge_page, c->huge_free = m.huge_free;
}

static void look_at_seat(struct self *s) {
    Cf__Checkup *c = &s->facts;
    c->node = s->machine.nodes[s->seat.node].os_index;
    for (uint32_t i = 0; i < s->machine.n_nodes; i++)
        c->nodes += s->machine.nodes[i].n_cores > 0;
    c->cpus = s->seat.cores, c->n_cpus = s->seat.n_cores;
    c->node_cores = cf_check_node_cores(c->node);
    c->widened = s->machine.widened;
    look_at_memory(c, c->node);
    cf_check_share(&s->seat, SPIN_SECONDS, &c->core_share, &c->core_worst, &s->error);
}

static void look_at_host(struct self *s) {
    Cf__Checkup *c = &s->facts;
    struct cf_check_host *h = &s->host;
    cf_check_host("", s->seated ? s->seat.cores[0] : 0, h);
    c->kernel = h->kernel, c->machine = h->machine, c->governor = h->governor, c->thp = h->thp;
    c->numa_balancing = h->numa_balancing, c->shm_free = h->shm_free, c->rdma = h->rdma;
    const struct cf_kernels *kernels = cf_kernels_choose(getenv("COFFER_ISA"));
    snprintf(s->isa, sizeof s->isa, "%s", kernels ? kernels->isa : "");
    cf_transport_library(s->mpi, sizeof s->mpi);
    c->protocol = CF_PROTOCOL_VERSION, c->program = cf_wire_text(COFFER_VERSION), c->mpi = s->mpi, c->isa = s->isa;
}

/* ---- links ---- */

/* Rank 0 with everybody, the first rank of each host with the others of it, and the first ranks of two hosts. */
static bool is_pair(const struct cf_transport *t, const int *first, int a, int b) {
    int x = cf_transport_host_of(t, a), y = cf_transport_host_of(t, b);
    if (a == 0 || x == y) return a == 0 || first[x] == a;
    return cf_transport_hosts(t) <= MOST_HOSTS && first[x] == a && first[y] == b;
}

static int look_at_link(struct cf_transport *t, int peer, Cf__CheckupLink *link, struct cf_error *e) {
    double large;
    link->peer = (uint32_t)peer;
    if (cf_transport_clock(t, peer, &link->clock, &link->clock_error, e) ||
        cf_transport_probe(t, peer, SMALL, SMALL_ROUNDS, &link->latency, e) ||
        cf_transport_probe(t, peer, LARGE, LARGE_ROUNDS, &large, e))
        return -1;
    link->bandwidth = LARGE / large;
    return 0;
}

static int look_at_links(struct cf_transport *t, Cf__CheckupLink *links, size_t *n, struct cf_error *e) {
    int size = cf_transport_size(t), me = cf_transport_rank(t), rc = 0;
    int *first = calloc((size_t)cf_transport_hosts(t), sizeof *first);
    if (!first) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (int r = size - 1; r >= 0; r--)
        first[cf_transport_host_of(t, r)] = r;
    for (int a = 0; a < size && !rc; a++)
        for (int b = a + 1; b < size && !rc; b++) {
            if ((a != me && b != me) || !is_pair(t, first, a, b)) continue;
            Cf__CheckupLink unwanted, *link = a == me ? &links[*n] : &unwanted;
            cf__checkup_link__init(link);
            rc = look_at_link(t, a == me ? b : a, link, e);
            *n += a == me;
        }
    free(first);
    return rc;
}

static int tell_links(struct cf_transport *t, Cf__Checkup **all, struct cf_error *e) {
    size_t size = (size_t)cf_transport_size(t);
    Cf__Checkup c = CF__CHECKUP__INIT;
    Cf__CheckupLink *links = calloc(size, sizeof *links), **list = calloc(size, sizeof(Cf__CheckupLink *));
    int rc = links && list ? look_at_links(t, links, &c.n_links, e) : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < c.n_links && list; i++)
        list[i] = &links[i];
    c.links = list;
    if (!rc) rc = cf_transport_collect(t, &c, all, e);
    free(list);
    free(links);
    return rc;
}

/* ---- the whole ---- */

static int open_ward(struct cf_transport *t, struct cf__ward *w, struct cf_error *e) {
    w->n_ranks = cf_transport_size(t);
    w->patients = calloc((size_t)w->n_ranks, sizeof *w->patients);
    if (!w->patients) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (int r = 0; r < w->n_ranks; r++) {
        snprintf(w->patients[r].host, sizeof w->patients[r].host, "%s", cf_transport_host_name(t, r));
        w->patients[r].host_index = cf_transport_host_of(t, r);
    }
    return 0;
}

void cf__ward_free(struct cf__ward *w) {
    for (int r = 0; r < w->n_ranks && w->patients; r++) {
        if (w->patients[r].facts) cf__checkup__free_unpacked(w->patients[r].facts, NULL);
        if (w->patients[r].links) cf__checkup__free_unpacked(w->patients[r].links, NULL);
    }
    free(w->patients);
    w->patients = NULL;
}

static int examine(struct self *s, const struct cf__examination *x, struct cf__ward *w, struct cf_error *e) {
    struct cf_transport *t = s->transport;
    Cf__Checkup **all = calloc((size_t)cf_transport_size(t), sizeof(Cf__Checkup *));
    if (!all) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    bool first = cf_transport_rank(t) == 0;
    int rc = take_seat(s, e);
    if (!rc && s->seated) look_at_seat(s);
    if (!rc) {
        look_at_host(s);
        look_at_model(s, x);
        s->facts.error = error_of(&s->error, &s->error_message);
        s->facts.model_error = error_of(&s->model_error, &s->model_error_message);
        rc = cf_transport_collect(t, &s->facts, all, e);
    }
    for (int r = 0; first && r < w->n_ranks; r++)
        w->patients[r].facts = all[r], all[r] = NULL;
    if (!rc) rc = tell_links(t, all, e);
    for (int r = 0; first && r < w->n_ranks; r++)
        w->patients[r].links = all[r];
    free(all);
    return rc;
}

int cf__examine(struct cf_transport *t, const struct cf__examination *x, struct cf__ward *w, struct cf_error *e) {
    struct self *s = calloc(1, sizeof *s);
    if (!s || open_ward(t, w, e)) {
        free(s);
        return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    s->transport = t;
    cf__checkup__init(&s->facts);
    cf_machine_read(&s->machine, cf_transport_local_size(t), &s->error);
    int rc = examine(s, x, w, e);
    cf_machine_free(&s->machine);
    free(s);
    return rc;
}
