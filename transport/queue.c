/* The way out: posted messages wait in their peer's outbox until a credit and a send slot are free.
 *
 * An entry holds its packed body and points at the payload. A piece that fits into one frame with its envelope is
 * copied there; a larger one leaves straight from the caller's memory. At most CF_CREDITS envelopes per peer are on
 * their way or not yet taken there, so neither MPI nor the receiver ever has to store what was not expected.
 */
#include "transport/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- entries ---- */

int cf__entries_grow(struct cf_transport *t, size_t count, struct cf_error *e) {
    struct entry_slab *slab = calloc(1, sizeof *slab + count * sizeof(struct entry));
    if (!slab) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu more messages", count);
    slab->count = count;
    slab->next = t->slabs;
    t->slabs = slab;
    for (size_t i = count; i-- > 0;) {
        struct entry *entry = &slab->entries[i];
        entry->body = entry->small;
        entry->body_capacity = SMALL_BODY;
        entry->next = t->free_entries;
        t->free_entries = entry;
    }
    return 0;
}

/* A body larger than the entry's own space gets memory that the entry keeps for its next uses. */
static int make_room(struct entry *entry, size_t bytes, struct cf_error *e) {
    if (bytes <= entry->body_capacity) return 0;
    size_t capacity = entry->body_capacity;
    while (capacity < bytes)
        capacity *= 2;
    unsigned char *body = malloc(capacity);
    if (!body) return cf_fail(e, CF_ERR_MEMORY, "no memory for a message of %zu bytes", bytes);
    if (entry->body != entry->small) free(entry->body);
    entry->body = body;
    entry->body_capacity = capacity;
    return 0;
}

void cf__entry_done(struct cf_transport *t, struct entry *entry) {
    if (entry->pending) --*entry->pending;
    entry->pending = NULL;
    entry->next = t->free_entries;
    t->free_entries = entry;
}

static int enqueue(struct cf_transport *t, struct peer *p, const Cf__Envelope *env, const void *payload, size_t bytes,
    int *pending, struct cf_error *e) {
    if (!t->free_entries && cf__entries_grow(t, ENTRIES_AT_START * (size_t)t->size, e)) return -1;
    struct entry *entry = t->free_entries;
    size_t body_bytes = cf_wire_body_bytes(env);
    size_t most = CF_SMALL - CF_FRAME_PREFIX - CF_HEAD_MOST - CF_FRAME_ALIGN;
    if (body_bytes > most)
        return cf_fail(e, CF_ERR_LIMIT, "a message of %zu bytes; at most %zu can travel", body_bytes, most);
    if (make_room(entry, body_bytes, e)) return -1;
    if (cf_wire_pack_body(env, entry->body, entry->body_capacity, &entry->body_bytes, e)) return -1;
    t->free_entries = entry->next;
    entry->next = NULL;
    entry->payload = payload;
    entry->bytes = bytes;
    entry->sent = 0;
    entry->in_flight = 0;
    entry->pending = pending;
    if (pending) ++*pending;
    if (p->last)
        p->last->next = entry;
    else
        p->first = entry;
    p->last = entry;
    p->touched = true;
    return 0;
}

int cf_post(struct cf_transport *t, int to, Cf__Envelope *env, const void *payload, size_t bytes, int *pending,
    struct cf_error *e) {
    if (t->broken) {
        if (e) *e = t->why;
        return -1;
    }
    if (to < 0 || to >= t->size) return cf_fail(e, CF_ERR_USAGE, "no rank %d to post to", to);
    if (bytes > 0 && (!payload || !pending))
        return cf_fail(e, CF_ERR_USAGE, "a payload without address or pending count");
    if (enqueue(t, &t->peers[to], env, payload, bytes, pending, e)) return -1;
    if (to == t->rank) return 0; // the next turn takes it along
    t->peers[to].traffic.messages++;
    t->peers[to].traffic.payload += bytes;
    if (t->inside) return 0; // the turn under way, or the next one, takes it along
    struct cf_error why;
    if (cf__pump(t, to, &why) == 0) return 0;
    if (e) *e = why;
    return cf__break(t, &why, t->rank);
}

/* ---- sending ---- */

static int send_slot_free(const struct peer *p) {
    for (int s = 0; s < CF_CREDITS; s++)
        if (!p->out[s].envelope_busy && !p->out[s].piece_busy) return s;
    return -1;
}

static int start_send(
    struct cf_transport *t, int to, int lane, int tag, const void *data, size_t bytes, struct cf_error *e) {
    MPI_Request *request = &t->requests[to * LANES + lane];
    int rc = MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, t->comm, request);
    t->peers[to].traffic.bytes += bytes;
    cf__ring(t, to);
    return rc ? cf__mpi_failed(rc, "MPI_Isend", e) : 0;
}

static void credits_given(struct cf_transport *t, struct peer *p) {
    if (p->owed > 0) t->owing--;
    p->owed = 0;
    p->acknowledge_now = false;
}

/* Sends the next piece of the first entry through slot s. */
static int send_piece(struct cf_transport *t, int to, int s, struct cf_error *e) {
    struct peer *p = &t->peers[to];
    struct entry *entry = p->first;
    struct send_slot *slot = &p->out[s];
    size_t n = entry->bytes - entry->sent;
    if (n > CF_PIECE) n = CF_PIECE;
    Cf__Envelope head = CF__ENVELOPE__INIT;
    head.sequence = p->next_out;
    head.credits = (uint32_t)p->owed;
    head.payload_bytes = entry->bytes;
    head.piece_offset = entry->sent;
    head.piece_bytes = (uint32_t)n;
    head.piece_inline = n > 0 && cf_frame_payload_offset(CF_HEAD_MOST + entry->body_bytes) + n <= p->inline_most;
    size_t frame = cf_frame_pack(&head, entry->body, entry->body_bytes, slot->buffer, CF_SMALL);
    if (frame == 0) return cf_fail(e, CF_ERR_LIMIT, "a message of %zu bytes is too large", entry->body_bytes);
    if (head.piece_inline) {
        memcpy(slot->buffer + frame, entry->payload + entry->sent, n);
        frame += n;
    }
    if (start_send(t, to, LANE_OUT_ENVELOPE + s, TAG_ENVELOPE, slot->buffer, frame, e)) return -1;
    slot->envelope_busy = true;
    if (n > 0 && !head.piece_inline) {
        if (start_send(t, to, LANE_OUT_PIECE + s, TAG_PIECE, entry->payload + entry->sent, n, e)) return -1;
        slot->piece_busy = true;
        slot->entry = entry;
        entry->in_flight++;
    }
    entry->sent += n;
    p->next_out++;
    p->unacked++;
    p->spoke = t->last_turn;
    credits_given(t, p);
    return 0;
}

int cf__pump(struct cf_transport *t, int to, struct cf_error *e) {
    struct peer *p = &t->peers[to];
    while (p->first && p->unacked < CF_CREDITS) {
        int s = send_slot_free(p);
        if (s < 0) return 0;
        struct entry *entry = p->first;
        if (send_piece(t, to, s, e)) return -1;
        if (entry->sent < entry->bytes) continue;
        p->first = entry->next;
        if (!p->first) p->last = NULL;
        if (entry->in_flight == 0) cf__entry_done(t, entry);
    }
    return 0;
}

/* The send in a lane is done: its buffer is free, and with its last piece the caller's payload. */
void cf__sent(struct cf_transport *t, int peer, int lane) {
    struct peer *p = &t->peers[peer];
    p->touched = true;
    if (lane == LANE_OUT_CONTROL) {
        p->control_busy = false;
    } else if (lane >= LANE_OUT_PIECE) {
        struct send_slot *slot = &p->out[lane - LANE_OUT_PIECE];
        struct entry *entry = slot->entry;
        slot->piece_busy = false;
        slot->entry = NULL;
        if (--entry->in_flight == 0 && entry->sent == entry->bytes) cf__entry_done(t, entry);
    } else {
        p->out[lane - LANE_OUT_ENVELOPE].envelope_busy = false;
    }
}

bool cf__outbox_idle(const struct cf_transport *t, int peer) {
    const struct peer *p = &t->peers[peer];
    bool busy = p->first || p->unacked > 0;
    for (int s = 0; s < CF_CREDITS; s++)
        busy = busy || p->out[s].envelope_busy || p->out[s].piece_busy;
    return !busy;
}
