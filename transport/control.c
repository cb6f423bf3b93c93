/* What may not wait behind data: heartbeats, credits when nothing else goes back, errors, shutdown.
 *
 * At most one control message per peer is on its way; what is wanted meanwhile is remembered as flags and goes with the
 * next one. Every control message carries the credits that are owed.
 */
#include "transport/internal.h"

#include <string.h>

static const double ACKNOWLEDGE_WITHIN = 1e-3; // seconds that credits wait for an envelope going back
static const double EXPLAIN_WITHIN = 0.5;      // seconds between a peer's leaving and the news why

/* ---- out ---- */

static int send_control(struct cf_transport *t, int to, const Cf__Envelope *env, struct cf_error *e) {
    struct peer *p = &t->peers[to];
    unsigned char body[CONTROL_BYTES];
    size_t body_bytes;
    size_t most = CONTROL_BYTES - CF_FRAME_PREFIX - CF_HEAD_MOST - CF_FRAME_ALIGN;
    if (cf_wire_pack_body(env, body, most, &body_bytes, e)) return -1;
    Cf__Envelope head = CF__ENVELOPE__INIT;
    head.credits = (uint32_t)p->owed;
    size_t bytes = cf_frame_pack(&head, body, body_bytes, p->control_out, CONTROL_BYTES);
    int rc = MPI_Isend(
        p->control_out, (int)bytes, MPI_BYTE, to, TAG_CONTROL, t->comm, &t->requests[to * LANES + LANE_OUT_CONTROL]);
    if (rc) return cf__mpi_failed(rc, "MPI_Isend", e);
    cf__ring(t, to);
    p->traffic.bytes += bytes;
    p->control_busy = true;
    p->spoke = t->last_turn;
    if (p->owed > 0) t->owing--;
    p->owed = 0;
    p->acknowledge_now = false;
    return 0;
}

/* Sends the most urgent thing: an error, then the farewell, else a heartbeat with whatever credits are owed. */
int cf__control_send(struct cf_transport *t, int to, struct cf_error *e) {
    struct peer *p = &t->peers[to];
    if (p->control_busy) return 0;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    Cf__Error error = CF__ERROR__INIT;
    Cf__Shutdown shutdown = CF__SHUTDOWN__INIT;
    Cf__Heartbeat heartbeat = CF__HEARTBEAT__INIT;
    if (p->tell_failure) {
        error.code = (uint32_t)t->why.code;
        error.text = t->told;
        error.rank = (uint32_t)t->failed_rank;
        error.host = t->host_names[t->failed_rank];
        env.body_case = CF__ENVELOPE__BODY_ERROR;
        env.error = &error;
        p->tell_failure = false;
        p->failure_told = true;
    } else if (p->tell_shutdown) {
        shutdown.status = t->broken;
        env.body_case = CF__ENVELOPE__BODY_SHUTDOWN;
        env.shutdown = &shutdown;
        p->tell_shutdown = false;
        p->shutdown_told = true;
    } else {
        env.body_case = CF__ENVELOPE__BODY_HEARTBEAT;
        env.heartbeat = &heartbeat;
    }
    return send_control(t, to, &env, e);
}

/* ---- in ---- */

static int failure_arrived(struct cf_transport *t, int from, const Cf__Error *error) {
    if (t->broken) return 0; // already known, or our own came first
    struct cf_error why = {.code = CF_ERR_PEER};
    if (error->code > CF_OK && error->code < CF_ERR_END) why.code = (enum cf_code)error->code;
    int origin = error->rank < (uint32_t)t->size ? (int)error->rank : from;
    cf_fail(&why, why.code, "rank %d (%s): %s", origin, t->host_names[origin], error->text);
    return cf__break(t, &why, origin);
}

static void shutdown_arrived(struct cf_transport *t, int from, uint32_t status) {
    struct peer *p = &t->peers[from];
    p->shutdown_seen = true;
    p->shutdown_status = status;
    p->shutdown_at = t->last_turn;
}

int cf__control_arrived(struct cf_transport *t, int from, int bytes, struct cf_error *e) {
    struct peer *p = &t->peers[from];
    unsigned char memory[8 * CONTROL_BYTES];
    struct cf_scratch scratch;
    cf_scratch_init(&scratch, memory, sizeof memory);
    const void *packed, *rest;
    size_t packed_bytes, rest_bytes;
    if (cf_frame_open(p->control_in, (size_t)bytes, &packed, &packed_bytes, &rest, &rest_bytes, e)) return -1;
    const Cf__Envelope *env = cf_wire_unpack(&scratch, packed, packed_bytes, e);
    if (!env) return -1;
    if (env->credits > (uint32_t)p->unacked) return cf_fail(e, CF_ERR_FORMAT, "credit for messages never sent");
    p->unacked -= (int)env->credits;
    switch (env->body_case) {
    case CF__ENVELOPE__BODY_HEARTBEAT: return 0;
    case CF__ENVELOPE__BODY_ERROR: return failure_arrived(t, from, env->error), 0;
    case CF__ENVELOPE__BODY_SHUTDOWN: return shutdown_arrived(t, from, env->shutdown->status), 0;
    default: return cf_fail(e, CF_ERR_FORMAT, "no message for the control lane");
    }
}

/* ---- signs of life ---- */

void cf__restart_clocks(struct cf_transport *t, double now) {
    for (int r = 0; r < t->size; r++)
        t->peers[r].heard = now;
}

/* A peer that leaves because of a failure has heard of it from somebody who tells us, too. Only if that does not come
 * is its leaving the failure. */
static int check_leaving(const struct cf_transport *t, int r, double now, struct cf_error *e) {
    const struct peer *p = &t->peers[r];
    if (!p->shutdown_seen || p->shutdown_status == 0 || now - p->shutdown_at < EXPLAIN_WITHIN) return 0;
    return cf_fail(e, CF_ERR_LOST, "rank %d (%s) gave up", r, t->host_names[r]);
}

static int check_silence(const struct cf_transport *t, int r, double now, struct cf_error *e) {
    const struct peer *p = &t->peers[r];
    if (now - p->heard <= t->timeout || (p->shutdown_seen && p->shutdown_told)) return 0;
    return cf_fail(e, CF_ERR_LOST, "rank %d (%s) gave no sign of life for %g s", r, t->host_names[r], t->timeout);
}

int cf__look_after_peers(struct cf_transport *t, double now, struct cf_error *e) {
    bool all = now >= t->next_check;
    if (all) t->next_check = now + t->beat / 4;
    for (int r = 0; r < t->size; r++) {
        struct peer *p = &t->peers[r];
        if (r == t->rank) continue;
        bool speak = p->owed > 0 && (p->acknowledge_now || now - p->owed_since > ACKNOWLEDGE_WITHIN);
        if (all) {
            if (check_leaving(t, r, now, e) || check_silence(t, r, now, e)) return -1;
            speak = speak || p->tell_failure || p->tell_shutdown;
            speak = speak || (now - p->spoke >= t->beat && !p->shutdown_told);
        }
        if (speak && cf__control_send(t, r, e)) return -1;
    }
    if (t->on_beat && now >= t->next_beat) {
        t->next_beat = now + t->beat;
        t->on_beat(t->on_beat_ctx);
    }
    return 0;
}
