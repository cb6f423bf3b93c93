/* One turn of the transport: see what MPI has completed, deliver what has arrived, send what has become possible.
 *
 * A message is delivered from the buffer that MPI received it into. When the callback refuses a piece, the buffer
 * simply stays as it is: its receive is not posted again, no credit goes back, and so the sender stops by itself.
 */
#include "transport/internal.h"

#include <string.h>

/* ---- receives ---- */

static int post_receive(
    struct cf_transport *t, int from, int lane, int tag, void *buffer, int bytes, struct cf_error *e) {
    int rc = MPI_Irecv(buffer, bytes, MPI_BYTE, from, tag, t->comm, &t->requests[from * LANES + lane]);
    return rc ? cf__mpi_failed(rc, "MPI_Irecv", e) : 0;
}

static int post_envelope(struct cf_transport *t, int from, int k, struct cf_error *e) {
    struct receive_slot *slot = &t->peers[from].in[k];
    slot->envelope = NULL;
    return post_receive(t, from, LANE_IN_ENVELOPE + k, TAG_ENVELOPE, slot->buffer, CF_SMALL, e);
}

static int post_piece(struct cf_transport *t, int from, int k, struct cf_error *e) {
    struct piece_slot *slot = &t->peers[from].piece[k];
    slot->bytes = -1;
    return post_receive(t, from, LANE_IN_PIECE + k, TAG_PIECE, slot->buffer, CF_PIECE, e);
}

static int post_control(struct cf_transport *t, int from, struct cf_error *e) {
    return post_receive(t, from, LANE_IN_CONTROL, TAG_CONTROL, t->peers[from].control_in, CONTROL_BYTES, e);
}

int cf__post_receives(struct cf_transport *t, struct cf_error *e) {
    for (int r = 0; r < t->size; r++) {
        if (r == t->rank) continue;
        for (int k = 0; k < CF_CREDITS; k++)
            if (post_envelope(t, r, k, e) || post_piece(t, r, k, e)) return -1;
        if (post_control(t, r, e)) return -1;
    }
    return 0;
}

/* An envelope has arrived in slot k: unpacks it, checks its place in the order and takes its credits. That happens at
 * once and not at delivery, so that a refused message never holds back the credits behind it. */
static int open_envelope(struct cf_transport *t, int from, int k, int bytes, struct cf_error *e) {
    struct peer *p = &t->peers[from];
    struct receive_slot *slot = &p->in[k];
    const void *packed, *inlined;
    size_t packed_bytes, inline_bytes;
    if (cf_frame_open(slot->buffer, (size_t)bytes, &packed, &packed_bytes, &inlined, &inline_bytes, e)) return -1;
    Cf__Envelope *env = cf_wire_unpack(&slot->scratch, packed, packed_bytes, e);
    if (!env) return -1;
    uint32_t ahead = (uint32_t)((k - p->in_head + CF_CREDITS) % CF_CREDITS);
    if (env->sequence != p->next_in + ahead)
        return cf_fail(e, CF_ERR_FORMAT, "message %u came where %u was due", env->sequence, p->next_in + ahead);
    if (env->credits > (uint32_t)p->unacked) return cf_fail(e, CF_ERR_FORMAT, "credit for messages never sent");
    if (env->piece_bytes > CF_PIECE) return cf_fail(e, CF_ERR_FORMAT, "a piece of %u bytes", env->piece_bytes);
    if (inline_bytes != (env->piece_inline ? env->piece_bytes : 0))
        return cf_fail(e, CF_ERR_FORMAT, "%zu bytes behind an envelope that announces others", inline_bytes);
    p->unacked -= (int)env->credits;
    slot->envelope = env;
    slot->inlined = inlined;
    return 0;
}

static int arrived(struct cf_transport *t, int from, int lane, int bytes, struct cf_error *e) {
    struct peer *p = &t->peers[from];
    p->touched = true;
    p->heard = t->last_turn;
    if (lane == LANE_IN_CONTROL) {
        if (cf__control_arrived(t, from, bytes, e)) return -1;
        return post_control(t, from, e);
    }
    if (t->broken) return 0; // only control messages matter now
    if (lane >= LANE_IN_PIECE) {
        p->piece[lane - LANE_IN_PIECE].bytes = bytes;
        return 0;
    }
    return open_envelope(t, from, lane - LANE_IN_ENVELOPE, bytes, e);
}

static int completed(struct cf_transport *t, int index, const MPI_Status *status, bool failed, struct cf_error *e) {
    int peer = index / LANES, lane = index % LANES, bytes = 0, rc = 0;
    if (failed && status->MPI_ERROR != MPI_SUCCESS) {
        cf__mpi_failed(status->MPI_ERROR, lane < LANE_OUT_ENVELOPE ? "receiving" : "sending", e);
        rc = -1;
    } else if (lane >= LANE_OUT_ENVELOPE) {
        cf__sent(t, peer, lane);
    } else {
        MPI_Get_count(status, MPI_BYTE, &bytes);
        rc = arrived(t, peer, lane, bytes, e);
    }
    if (rc && e && !t->broken) cf_fail_in(e, "rank %d (%s)", peer, t->host_names[peer]);
    return rc;
}

int cf__collect(struct cf_transport *t, struct cf_error *e) {
    if (!t->uses_mpi) return 0;
    int n = 0, most = t->size * LANES, rc = MPI_SUCCESS;
    // Testsome lets MPI work only when it finds nothing completed; what that work completed is seen by the second call.
    for (int attempt = 0; attempt < 2 && n == 0; attempt++) {
        rc = MPI_Testsome(most, t->requests, &n, t->indices, t->statuses);
        if (rc && rc != MPI_ERR_IN_STATUS) return cf__mpi_failed(rc, "MPI_Testsome", e);
        if (n == MPI_UNDEFINED) n = 0;
    }
    int result = 0;
    for (int i = 0; i < n; i++) {
        int lane = t->indices[i] % LANES;
        if (completed(t, t->indices[i], &t->statuses[i], rc == MPI_ERR_IN_STATUS, result < 0 ? NULL : e))
            result = -1;
        else if (result >= 0 && lane != LANE_IN_CONTROL && lane != LANE_OUT_CONTROL)
            result++;
    }
    return result;
}

/* ---- delivery ---- */

/* 0 taken, 1 refused, -1 error. Some kinds wait until the round they belong to has begun. */
static int dispatch(struct cf_transport *t, int from, const Cf__Envelope *env, const void *data, size_t offset,
    size_t n, struct cf_error *e) {
    if (t->closing) return 0;
    if (env->body_case == CF__ENVELOPE__BODY_PROBE && !t->probing) return 1;
    bool greeting = env->body_case == CF__ENVELOPE__BODY_HELLO || env->body_case == CF__ENVELOPE__BODY_VERDICT;
    if (greeting && !t->greeting) return 1;
    if (env->body_case == CF__ENVELOPE__BODY_WINDOW) return cf__window_card(t, from, env->window);
    if (!t->on_message) return 1;
    return t->on_message(t->on_message_ctx, from, env, data, offset, n, e);
}

/* The message at the head of the inbox was taken: its buffers wait for the next one, and a credit is due. */
static int take(struct cf_transport *t, int from, bool apart, bool more, struct cf_error *e) {
    struct peer *p = &t->peers[from];
    int k = p->in_head;
    p->in_head = (k + 1) % CF_CREDITS;
    p->next_in++;
    if (post_envelope(t, from, k, e)) return -1;
    if (apart) {
        int q = p->piece_head;
        p->piece_head = (q + 1) % CF_CREDITS;
        if (post_piece(t, from, q, e)) return -1;
    }
    if (p->owed++ == 0) {
        t->owing++;
        p->owed_since = t->last_turn;
    }
    int waiting = 0;
    for (int s = 0; s < CF_CREDITS; s++)
        waiting += p->in[s].envelope != NULL;
    // The pieces of a large payload must not wait for acknowledgements, nor must a peer that has no credit left.
    if (more || p->owed + waiting >= CF_CREDITS) p->acknowledge_now = true;
    return 0;
}

/* Delivers what has arrived from one peer; the number of pieces taken, or -1. */
static int deliver(struct cf_transport *t, int from, struct cf_error *e) {
    struct peer *p = &t->peers[from];
    int events = 0;
    for (;;) {
        struct receive_slot *slot = &p->in[p->in_head];
        const Cf__Envelope *env = slot->envelope;
        if (!env) return events;
        const void *data = slot->inlined;
        bool apart = env->piece_bytes > 0 && !env->piece_inline;
        if (apart) {
            const struct piece_slot *piece = &p->piece[p->piece_head];
            if (piece->bytes < 0) return events;
            if ((uint32_t)piece->bytes != env->piece_bytes)
                return cf_fail(e, CF_ERR_FORMAT, "rank %d (%s): a piece of %d bytes where %u were announced", from,
                    t->host_names[from], piece->bytes, env->piece_bytes);
            data = piece->buffer;
        }
        bool more = env->piece_offset + env->piece_bytes < env->payload_bytes;
        int rc = dispatch(t, from, env, data, (size_t)env->piece_offset, env->piece_bytes, e);
        if (rc < 0) return -1;
        if (rc > 0) return events;
        events++;
        if (take(t, from, apart, more, e)) return -1;
    }
}

/* Messages to oneself: those that were in the outbox when the turn began. */
static int deliver_own(struct cf_transport *t, struct cf_error *e) {
    struct peer *p = &t->peers[t->rank];
    const struct entry *end = p->last;
    int events = 0;
    for (bool more = p->first != NULL; more;) {
        struct entry *entry = p->first;
        Cf__Envelope *env = cf_wire_unpack(&t->self_scratch, entry->body, entry->body_bytes, e);
        if (!env) return -1;
        size_t n = entry->bytes - entry->sent;
        if (n > CF_PIECE) n = CF_PIECE;
        env->sequence = p->next_out;
        env->payload_bytes = entry->bytes;
        env->piece_offset = entry->sent;
        env->piece_bytes = (uint32_t)n;
        int rc = dispatch(t, t->rank, env, n ? entry->payload + entry->sent : NULL, entry->sent, n, e);
        if (rc < 0) return -1;
        if (rc > 0) return events;
        events++;
        p->next_out++;
        entry->sent += n;
        if (entry->sent < entry->bytes) continue;
        more = entry != end;
        p->first = entry->next;
        if (!p->first) p->last = NULL;
        cf__entry_done(t, entry);
    }
    return events;
}

/* ---- the turn ---- */

/* After a long pause of our own, everybody's silence is our fault: read what lies there, then start the clocks anew. */
static int come_back(struct cf_transport *t, double now, struct cf_error *e) {
    int events = 0, n = 1;
    for (int i = 0; i < 100 && n > 0; i++) {
        n = cf__collect(t, e);
        if (n < 0) return -1;
        events += n;
    }
    cf__restart_clocks(t, now);
    return events;
}

static int serve_peers(struct cf_transport *t, struct cf_error *e) {
    int events = 0;
    for (int r = 0; r < t->size; r++) {
        struct peer *p = &t->peers[r];
        if (r == t->rank) continue;
        if (!p->touched && !p->in[p->in_head].envelope) continue;
        p->touched = false;
        int n = deliver(t, r, e);
        if (n < 0 || cf__pump(t, r, e)) return -1;
        if (p->acknowledge_now && cf__control_send(t, r, e)) return -1;
        events += n;
    }
    // A callback may have posted to a peer that had been served before.
    for (int r = 0; r < t->size; r++)
        if (r != t->rank && t->peers[r].touched && cf__pump(t, r, e)) return -1;
    return events;
}

int cf__turn(struct cf_transport *t, struct cf_error *e) {
    double now = cf_now();
    double pause = now - t->last_turn;
    t->last_turn = now;
    int own = deliver_own(t, e);
    if (own < 0) return -1;
    if (!t->uses_mpi) return own;
    int moved = pause > t->timeout / 4 ? come_back(t, now, e) : cf__collect(t, e);
    if (moved < 0 || t->broken) return -1;
    int delivered = serve_peers(t, e);
    if (delivered < 0) return -1;
    if (now >= t->next_check || t->owing > 0)
        if (cf__look_after_peers(t, now, e)) return -1;
    return own + moved + delivered;
}

int cf_progress(struct cf_transport *t, struct cf_error *e) {
    if (t->broken) {
        if (e) *e = t->why;
        return -1;
    }
    if (t->inside) return 0;
    t->inside = true;
    struct cf_error why = {0};
    int events = cf__turn(t, &why);
    t->inside = false;
    if (events >= 0) return events;
    cf__break(t, &why, t->rank);
    if (e) *e = t->why;
    return -1;
}
