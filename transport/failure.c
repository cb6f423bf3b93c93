/* Failures: remembered once, told to everybody, and traced to the rank where they began. */
#include "transport/internal.h"

#include <sched.h>
#include <string.h>

int cf__mpi_failed(int rc, const char *what, struct cf_error *e) {
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int n;
    MPI_Error_string(rc, text, &n);
    return cf_fail(e, CF_ERR_LOST, "%s: %s", what, text);
}

int cf__break(struct cf_transport *t, const struct cf_error *why, int origin) {
    if (t->broken) return -1;
    t->broken = true;
    t->why = *why;
    memcpy(t->told, why->text, sizeof t->told);
    t->failed_rank = origin;
    return -1;
}

int cf_transport_failed_rank(const struct cf_transport *t) {
    return t->failed_rank;
}

int cf_transport_spokesman(const struct cf_transport *t) {
    double now = cf_now();
    for (int r = 0; r < t->size; r++)
        if (r == t->rank || now - t->peers[r].heard < t->timeout / 2) return r;
    return t->rank;
}

int cf_transport_suspect(const struct cf_transport *t) {
    double now = cf_now();
    for (int r = 0; r < t->size; r++) // a third rank may have noticed it first and told us
        if (r != t->rank && now - t->peers[r].heard > t->timeout / 2) return r;
    return t->failed_rank;
}

static bool all_told(const struct cf_transport *t) {
    for (int r = 0; r < t->size; r++)
        if (r != t->rank && (!t->peers[r].failure_told || t->peers[r].control_busy)) return false;
    return true;
}

/* For about a second, or until all have been told. */
static void tell_all(struct cf_transport *t) {
    if (!t->uses_mpi) return;
    for (int r = 0; r < t->size; r++)
        t->peers[r].tell_failure = r != t->rank && !t->peers[r].failure_told;
    double end = cf_now() + 1.0;
    for (double now = cf_now(); now < end && !all_told(t); now = cf_now()) {
        t->last_turn = now;
        for (int r = 0; r < t->size; r++)
            if (t->peers[r].tell_failure && cf__control_send(t, r, NULL)) t->peers[r].tell_failure = false;
        if (cf__collect(t, NULL) < 0) continue; // one broken peer must not keep the others from hearing
        sched_yield();
    }
}

void cf_transport_fail(struct cf_transport *t, const struct cf_error *why) {
    cf__break(t, why, t->rank);
    if (t->failed_rank == t->rank) tell_all(t); // else the origin has told everybody
}

void cf__refuse(struct cf_transport *t, const struct cf_error *why, int origin) {
    if (t->broken) return;
    cf__break(t, why, origin);
    if (t->size > 1) cf_fail_in(&t->why, "rank %d (%s)", origin, t->host_names[origin]);
    tell_all(t);
}
