/* The shared window of a host: memory that all ranks of one host see, one part per rank.
 *
 * A rank writes a payload into its own part, tells a receiver of the host where it lies (a small message, as always),
 * and the receiver reads it there: no copy, and no limit of MPI's on what is on its way. When a receiver has read it,
 * it raises a counter beside the payload; the writer compares that with the number of receivers that it told.
 *
 * Each part lies with the rank that *writes* it. A sum that several ranks need is then written once, to near memory,
 * and each of them reads it once across the link, in a stream that the prefetchers follow; the other way round it would
 * be written across the link once per receiver, and a store that misses fetches its line first.
 *
 * What this file does not know: NUMA nodes. The caller places its part in a callback.
 */
#ifndef COFFER_TRANSPORT_WINDOW_H
#define COFFER_TRANSPORT_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct cf_transport;

enum {
    CF_WINDOW_SLOTS = 1024,           /* most counters of a part */
    CF_WINDOW_CONTROL = 68 * 1024,    /* bytes of a part in front of the payloads: the counters, and the bell */
    CF_WINDOW_UNIT = 2 * 1024 * 1024, /* MPI is asked for multiples of this */
};

/* Binds and touches memory that nobody has touched yet. -1 with *e: this part cannot be had. */
typedef int (*cf_window_settle)(void *ctx, void *base, size_t bytes, struct cf_error *e);

/* A round of all ranks, each with its own wish: a window whose part of this rank has room for `bytes` of payload, on
 * each host where all ranks want one, which has several ranks, and whose /dev/shm has room for all parts. What an
 * earlier round made is gone then. Returns 0 with or without a window; -1 only if a rank has failed. */
int cf_window_open(
    struct cf_transport *t, bool wanted, size_t bytes, cf_window_settle settle, void *ctx, struct cf_error *e);

/* Why there is none, one line; "" if there is one, or nobody here wanted one. */
const char *cf_window_note(const struct cf_transport *t);
/* This rank's part, counters included: page aligned, NULL without window. Payloads begin at
 * CF_WINDOW_CONTROL. */
void *cf_window_own(const struct cf_transport *t, size_t *bytes);
/* Do payloads between this rank and `rank` pass through the window? Both answer the same. */
bool cf_window_reaches(const struct cf_transport *t, int rank);
/* `bytes` of f32 at `offset` of a rank's part; NULL if that is not within its payloads. What the rank wrote before it
 * posted the message that led here is visible. */
const void *cf_window_read(const struct cf_transport *t, int rank, uint64_t offset, uint64_t bytes);
/* What this rank has written is visible to those who hear of it from now on; `to` will hear of so many bytes. */
void cf_window_publish(struct cf_transport *t, int to, size_t bytes);

/* The receiver's side: a payload of this slot of a rank's part has been read. */
void cf_window_release(const struct cf_transport *t, int rank, uint32_t slot);
/* The writer's side: how often a slot has been released since the round, modulo 2^32. */
uint32_t cf_window_released(const struct cf_transport *t, uint32_t slot);

#endif
