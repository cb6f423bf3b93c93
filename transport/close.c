/* Leaving: together when all is well, quickly when it is not.
 *
 * Every rank says goodbye (Shutdown on the control lane) to every other. In good order that happens when the other has
 * taken all that was sent to it; after a failure at once. MPI_Finalize waits for all ranks, so it is called only if all
 * have said goodbye, and even then under a watchdog: a process that hangs at its end is worse than one that just ends.
 */
#include "transport/internal.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static const double FAREWELL_FOR = 2.0;  /* seconds, after a failure */
static const double HOST_LOST_FOR = 4.0; /* the same if a host has fallen silent */
/* Seconds for MPI to end. All have said goodbye, so a machine that takes long is merely slow, and the watchdog would
 * make a failure of a good run (seen in an emulated machine); after a failure nobody wants to wait. */
static const unsigned FINALIZE_FOR = 60, FINALIZE_FAILED_FOR = 5;

static bool parted(const struct cf_transport *t, int r) {
    const struct peer *p = &t->peers[r];
    return r == t->rank || (p->shutdown_seen && p->shutdown_told && !p->control_busy);
}

static bool all_parted(const struct cf_transport *t) {
    for (int r = 0; r < t->size; r++)
        if (!parted(t, r)) return false;
    return true;
}

/* Also true if those that have not parted have been dead for long: nothing is gained by waiting for them. */
static bool living_parted(const struct cf_transport *t, double now) {
    for (int r = 0; r < t->size; r++)
        if (!parted(t, r) && now - t->peers[r].heard < t->timeout) return false;
    return true;
}

/* Waits until every peer has taken everything and says the same of us. False if a failure comes between. */
static bool part_in_order(struct cf_transport *t) {
    struct cf_error why = {0};
    struct nap nap = {.since = cf_now()};
    t->closing = true;
    t->inside = true;
    while (!all_parted(t)) {
        int events = cf__turn(t, &why);
        if (events < 0) {
            cf__break(t, &why, t->rank);
            return false;
        }
        for (int r = 0; r < t->size; r++) {
            struct peer *p = &t->peers[r];
            if (r == t->rank || p->shutdown_told || !cf__outbox_idle(t, r)) continue;
            p->tell_shutdown = true;
            if (cf__control_send(t, r, &why)) return false;
        }
        if (events > 0)
            nap = (struct nap){.since = cf_now()};
        else
            cf__rest(t, &nap, cf_now());
    }
    return true;
}

/* A whole host has fallen silent. mpirun can find that out by itself (oob_tcp_keepalive_*), but only while it has
 * nothing to tell that host: were we to end before, it would wait for the host to confirm, for minutes. */
static bool host_lost(const struct cf_transport *t, double now) {
    for (int r = 0; r < t->size; r++)
        if (t->peers[r].host != t->peers[t->rank].host && now - t->peers[r].heard >= t->timeout / 2) return true;
    return false;
}

static bool part_in_haste(struct cf_transport *t) {
    struct cf_error why = {.code = CF_ERR_PEER, .text = "gave up"};
    cf__break(t, &why, t->rank);
    t->closing = true;
    struct nap nap = {.since = cf_now()};
    bool linger = host_lost(t, cf_now());
    double end = cf_now() + (linger ? HOST_LOST_FOR : FAREWELL_FOR);
    for (int r = 0; r < t->size; r++)
        t->peers[r].tell_shutdown = r != t->rank;
    for (double now = cf_now(); now < end && (linger || !living_parted(t, now)); now = cf_now()) {
        t->last_turn = now;
        for (int r = 0; r < t->size; r++) {
            struct peer *p = &t->peers[r];
            if ((p->tell_shutdown || p->tell_failure) && cf__control_send(t, r, NULL)) p->tell_shutdown = false;
        }
        if (cf__collect(t, NULL) <= 0) cf__rest(t, &nap, now);
    }
    return all_parted(t);
}

static void end_now(int signal_number) {
    (void)signal_number;
    _exit(1);
}

static void leave_mpi(struct cf_transport *t, unsigned seconds) {
    struct sigaction watchdog = {.sa_handler = end_now}, before;
    sigaction(SIGALRM, &watchdog, &before);
    alarm(seconds);
    for (int i = 0; i < t->size * LANES; i++) {
        if (t->requests[i] == MPI_REQUEST_NULL) continue;
        if (i % LANES < LANE_OUT_ENVELOPE) MPI_Cancel(&t->requests[i]);
        MPI_Request_free(&t->requests[i]);
    }
    cf__window_free(t);
    if (t->host_comm != MPI_COMM_NULL) MPI_Comm_free(&t->host_comm);
    MPI_Comm_free(&t->comm);
    MPI_Finalize();
    alarm(0);
    sigaction(SIGALRM, &before, NULL);
}

static void release(struct cf_transport *t) {
    for (struct entry_slab *slab = t->slabs, *next; slab; slab = next) {
        next = slab->next;
        for (size_t i = 0; i < slab->count; i++)
            if (slab->entries[i].body != slab->entries[i].small) free(slab->entries[i].body);
        free(slab);
    }
    free(t->buffers);
    free(t->self_memory);
    free(t->statuses);
    free(t->indices);
    free(t->requests);
    free(t->host_names);
    free(t->window.parts);
    free(t->window.cards);
    free(t->peers);
    free(t);
}

bool cf_transport_close(struct cf_transport *t, bool ok) {
    if (!t) return true;
    if (t->uses_mpi) {
        int spokesman = cf_transport_spokesman(t);
        bool in_order = ok && !t->broken && part_in_order(t);
        if (!in_order && !part_in_haste(t))
            return parted(t, spokesman); // MPI may still write into the buffers: they, and MPI, end with the process
        leave_mpi(t, in_order ? FINALIZE_FOR : FINALIZE_FAILED_FOR);
    }
    release(t);
    return true;
}
