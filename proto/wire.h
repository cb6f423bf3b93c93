/* The form of an envelope on its way: bounded packing and unpacking.
 *
 * A frame is what one MPI message with an envelope holds:
 *
 *     offset 0        4 bytes  magic, little endian ("CFR1"; never changes, so that any version can read any Hello)
 *            4        4 bytes  length of the packed envelope
 *            8        8 bytes  zero
 *            16       the packed Envelope
 *            ...      zero bytes up to a multiple of 16
 *            ...      the piece of the payload that travels inline, if any
 *
 * Packing happens in two parts, because the body is known when a message is posted, but its sequence number and credits
 * only when it leaves: protobuf reads the concatenation of two packed messages as their union, so a frame holds a
 * packed head (an Envelope without body) followed by a packed body (an Envelope without head).
 *
 * Unpacking allocates only in a scratch that the caller owns; a hostile message that would need more is an error, and
 * nothing is ever freed one by one. What this file does not judge: whether the content makes sense for a model or plan.
 */
#ifndef COFFER_PROTO_WIRE_H
#define COFFER_PROTO_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "coffer.pb-c.h"
#include "proto/error.h"

enum {
    CF_PROTOCOL_VERSION = 11,      /* raised with every change of a message's meaning */
    CF_FRAME_PREFIX = 16,          /* bytes in front of a packed envelope */
    CF_FRAME_ALIGN = 16,           /* alignment of an inline payload within its frame */
    CF_HEAD_MOST = 48,             /* most bytes of a packed head */
    CF_WIRE_TEXT_MOST = 4096,      /* most bytes of any string in a message */
    CF_WIRE_ROWS_MOST = 64 * 1024, /* most rows of a Batch, most elements of any list */
};

/* A bump allocator over memory of the caller's. */
struct cf_scratch {
    unsigned char *memory; /* [capacity] */
    size_t capacity, used;
    ProtobufCAllocator allocator;
};

/* `memory` must outlive *s; *s must not move afterwards (the allocator points at it). */
void cf_scratch_init(struct cf_scratch *s, void *memory, size_t capacity);

/* Unpacks and checks an envelope of `bytes` bytes. What is returned lies in *s and is valid until the next call with
 * the same scratch; never hand it to free_unpacked. NULL with *e set (CF_ERR_FORMAT, or CF_ERR_LIMIT where the scratch
 * is too small) if the message is truncated, malformed, or counts in it exceed their bounds. */
Cf__Envelope *cf_wire_unpack(struct cf_scratch *s, const void *data, size_t bytes, struct cf_error *e);

/* Bounds on what a well-formed envelope may claim: lengths of strings and lists, lists that must be equally long, piece
 * within payload. cf_wire_unpack has done this already. */
int cf_wire_check(const Cf__Envelope *env, struct cf_error *e);

/* Packed size of env's body alone (the fields of the head are ignored). */
size_t cf_wire_body_bytes(const Cf__Envelope *env);
/* Packs env's body alone into buffer[capacity]; *bytes gets its size. -1 (CF_ERR_LIMIT) if it does not fit. */
int cf_wire_pack_body(const Cf__Envelope *env, void *buffer, size_t capacity, size_t *bytes, struct cf_error *e);

/* The same text for a field of a message: protobuf-c's are not const, though packing only reads them. */
static inline char *cf_wire_text(const char *text) {
    union {
        const char *in;
        char *out;
    } both = {.in = text};
    return both.out;
}

/* Where the payload of a frame with an envelope of so many bytes begins. */
size_t cf_frame_payload_offset(size_t envelope_bytes);

/* Writes prefix, packed head (head's body is ignored), packed body and padding into buffer[capacity]; returns the
 * offset behind the padding, which is where an inline piece belongs (and the frame's length without one), 0 if it does
 * not fit. */
size_t cf_frame_pack(const Cf__Envelope *head, const void *body, size_t body_bytes, void *buffer, size_t capacity);

/* Reads the prefix of a frame of `bytes` bytes; *envelope and *envelope_bytes get the packed envelope, *payload_bytes
 * what follows it. -1 (CF_ERR_FORMAT) if the magic is wrong or the lengths do not fit. */
int cf_frame_open(const void *frame, size_t bytes, const void **envelope, size_t *envelope_bytes, const void **payload,
    size_t *payload_bytes, struct cf_error *e);

#endif
