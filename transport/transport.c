/* Opening a transport, and what it knows about its ranks. See transport.h. */
#include "transport/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

/* ---- opening ---- */

/* Over TCP, Open MPI asks the receiver before it sends what is longer than 64 KiB: two more trips for each of our
 * pieces, whose receives are posted anyway. A limit from mpirun's --mca or the environment stays; one in a file of
 * parameters (openmpi-mca-params.conf) does not, for the environment goes before it. */
static void send_pieces_unasked(void) {
    char bytes[16];
    snprintf(bytes, sizeof bytes, "%d", CF_PIECE + 256); /* with MPI's own header */
    setenv("OMPI_MCA_btl_tcp_eager_limit", bytes, 0);
}

static int start_mpi(struct cf_transport *t, int ranks, struct cf_error *e) {
    cf_transport_no_devices();
    send_pieces_unasked();
    int provided, rc = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    if (rc) return cf__mpi_failed(rc, "MPI_Init_thread", e);
    if (provided < MPI_THREAD_FUNNELED)
        return cf_fail(e, CF_ERR_UNSUPPORTED, "this MPI library cannot be called from a program with threads");
    rc = MPI_Comm_dup(MPI_COMM_WORLD, &t->comm);
    if (rc) return cf__mpi_failed(rc, "MPI_Comm_dup", e);
    MPI_Comm_set_errhandler(t->comm, MPI_ERRORS_RETURN);
    MPI_Comm_rank(t->comm, &t->rank);
    MPI_Comm_size(t->comm, &t->size);
    if (t->size == 1 && ranks > 1 && (getenv("OMPI_COMM_WORLD_SIZE") || getenv("SLURM_PROCID")))
        return cf_fail(e, CF_ERR_USAGE,
            "%d tasks were started, but MPI sees only this one: use the mpirun of the MPI library that coffer was "
            "built "
            "with, or `srun --mpi=pmix`",
            ranks);
    return 0;
}

/* One allocation for all buffers. Pages that no message ever touches are never backed by memory. */
static int make_buffers(struct cf_transport *t, struct cf_error *e) {
    const size_t control = 2 * CONTROL_BYTES;
    const size_t per_peer = CF_CREDITS * (2 * (size_t)CF_SMALL + SCRATCH_BYTES + CF_PIECE) + control;
    size_t peers = (size_t)t->size - 1;
    t->self_memory = malloc(SCRATCH_BYTES);
    if (!t->self_memory) return cf_fail(e, CF_ERR_MEMORY, "no memory for messages");
    cf_scratch_init(&t->self_scratch, t->self_memory, SCRATCH_BYTES);
    if (peers == 0) return 0;
    unsigned char *at = t->buffers = aligned_alloc(4096, peers * per_peer);
    if (!at) return cf_fail(e, CF_ERR_MEMORY, "no memory for messages: %zu bytes", peers * per_peer);
    for (int r = 0; r < t->size; r++) {
        struct peer *p = &t->peers[r];
        if (r == t->rank) continue;
        for (int k = 0; k < CF_CREDITS; k++) {
            p->in[k].buffer = at, at += CF_SMALL;
            p->in[k].memory = at, at += SCRATCH_BYTES;
            p->out[k].buffer = at, at += CF_SMALL;
            p->piece[k].buffer = at, at += CF_PIECE;
            cf_scratch_init(&p->in[k].scratch, p->in[k].memory, SCRATCH_BYTES);
        }
        p->control_in = at, at += CONTROL_BYTES;
        p->control_out = at, at += CONTROL_BYTES;
    }
    return 0;
}

static int make_tables(struct cf_transport *t, struct cf_error *e) {
    size_t n = (size_t)t->size;
    t->peers = calloc(n, sizeof *t->peers);
    t->host_names = calloc(n, sizeof *t->host_names);
    t->requests = calloc(n * LANES, sizeof(MPI_Request));
    t->indices = calloc(n * LANES, sizeof *t->indices);
    t->statuses = calloc(n * LANES, sizeof *t->statuses);
    t->window.parts = calloc(n, sizeof *t->window.parts);
    t->window.cards = calloc(n, sizeof *t->window.cards);
    if (!t->window.parts || !t->window.cards || !t->peers || !t->host_names || !t->requests || !t->indices ||
        !t->statuses)
        return cf_fail(e, CF_ERR_MEMORY, "no memory for %d ranks", t->size);
    for (size_t i = 0; i < n * LANES; i++)
        t->requests[i] = MPI_REQUEST_NULL;
    return cf__entries_grow(t, ENTRIES_AT_START * n, e);
}

static int set_up(struct cf_transport *t, struct cf_error *e) {
    int ranks;
    if (cf_transport_detect(&ranks, e)) return -1;
    t->size = 1;
    t->uses_mpi = ranks > 1;
    if (t->uses_mpi && start_mpi(t, ranks, e)) return -1;
    if (make_tables(t, e) || make_buffers(t, e)) return -1;
    if (cf__identify(t, e)) return -1;
    if (t->uses_mpi && cf__post_receives(t, e)) return -1;
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); // naps last what they say, not 50 us longer
    double now = t->last_turn = cf_now();
    t->next_check = now;
    for (int r = 0; r < t->size; r++) {
        struct peer *p = &t->peers[r];
        p->heard = p->spoke = now;
        p->inline_most = p->host == t->peers[t->rank].host ? INLINE_ON_HOST : CF_SMALL;
    }
    return 0;
}

int cf_transport_open(struct cf_transport **out, const struct cf_transport_options *options, struct cf_error *e) {
    *out = NULL;
    struct cf_transport *t = calloc(1, sizeof *t);
    if (!t) return cf_fail(e, CF_ERR_MEMORY, "no memory for a transport");
    t->timeout = options->timeout > 0 ? options->timeout : 60;
    t->beat = t->timeout / 5 < 1 ? t->timeout / 5 : 1;
    t->sleep_at_once = options->sleep_at_once;
    t->tolerant = options->tolerant;
    t->failed_rank = -1;
    t->host_comm = MPI_COMM_NULL;
    t->window.win = MPI_WIN_NULL;
    if (set_up(t, e)) {
        t->uses_mpi = false; // peers may not have come as far: nothing is agreed with them, MPI is left as it is
        cf_transport_close(t, false);
        return -1;
    }
    *out = t;
    return 0;
}

/* ---- what it knows ---- */

int cf_transport_rank(const struct cf_transport *t) {
    return t->rank;
}
int cf_transport_size(const struct cf_transport *t) {
    return t->size;
}
int cf_transport_host_of(const struct cf_transport *t, int rank) {
    return t->peers[rank].host;
}
int cf_transport_machine_of(const struct cf_transport *t, int rank) {
    return t->peers[rank].machine;
}
const char *cf_transport_host_name(const struct cf_transport *t, int rank) {
    return t->host_names[rank];
}
int cf_transport_hosts(const struct cf_transport *t) {
    return t->hosts;
}
const struct cf_traffic *cf_transport_traffic(const struct cf_transport *t, int to) {
    return &t->peers[to].traffic;
}
int cf_transport_local_rank(const struct cf_transport *t) {
    return t->local_rank;
}
int cf_transport_local_size(const struct cf_transport *t) {
    return t->local_size;
}

void cf_transport_on_message(struct cf_transport *t, cf_on_message fn, void *ctx) {
    t->on_message = fn;
    t->on_message_ctx = ctx;
}

void cf_transport_on_beat(struct cf_transport *t, void (*fn)(void *ctx), void *ctx) {
    t->on_beat = fn;
    t->on_beat_ctx = ctx;
}
