/* Moving messages between ranks: the only room that sees MPI.
 *
 * Think of a transport as this rank's desk in an office of `size` desks: it posts envelopes to other desks without
 * waiting, and a single callback is told of every piece that arrives. All calls are made by one thread (the one that
 * opened it; MPI_THREAD_FUNNELED). MPI moves data only while it is called, so long computations call cf_progress() at
 * least every millisecond.
 *
 * With one rank and no launcher the transport has size 1 and MPI is never initialised.
 *
 * What this room does not know: what a layer, a token or a page is.
 */
#ifndef COFFER_TRANSPORT_TRANSPORT_H
#define COFFER_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coffer.pb-c.h" /* generated: Cf__Envelope, ... */
#include "proto/error.h"

enum {
    CF_PIECE = 256 * 1024, /* most payload bytes per MPI message */
    CF_SMALL = 64 * 1024,  /* most bytes of an envelope with its inline payload */
    CF_CREDITS = 2,        /* unacknowledged messages per ordered pair */
};

struct cf_transport;

struct cf_transport_options {
    double timeout;     /* seconds without a sign of life after which a peer counts as dead */
    bool sleep_at_once; /* more ranks or threads than cores: waiting yields the core immediately */
    bool tolerant;      /* hello rounds refuse nobody: for `coffer doctor`, which wants to see what differs */
};

/* Was this process started by a launcher (mpirun, srun with PMI)? Looks at the environment only. Several Slurm tasks
 * without PMI/PMIx are an error that names `srun --mpi=pmix`. *ranks gets the number of ranks (1 without launcher). */
int cf_transport_detect(int *ranks, struct cf_error *e);
/* Is there a launcher at all? Tells `mpirun -n 1 coffer` from plain `coffer`. Environment only. */
bool cf_transport_launched(void);

/* Changes the environment, unless the user has set it, so that Open MPI's hwloc does not look for GPUs, of which we use
 * none: it connects to X displays (and waits for a name server that may not answer, where /etc/hosts lacks localhost)
 * and starts OpenCL and CUDA, in every rank. For this process before it opens a transport, and for an mpirun to be
 * started. */
void cf_transport_no_devices(void);

int cf_transport_open(struct cf_transport **out, const struct cf_transport_options *options, struct cf_error *e);

/* Changes options.sleep_at_once, once the ranks know how many share the cores. */
void cf_transport_sleep_at_once(struct cf_transport *t, bool at_once);

int cf_transport_rank(const struct cf_transport *t);
int cf_transport_size(const struct cf_transport *t);
/* Hosts are told apart by shared memory and boot identity, never by name. Index 0.. in order of each host's first rank.
 */
int cf_transport_host_of(const struct cf_transport *t, int rank);
/* The first rank on the same running kernel: hosts that are containers or pods of one machine share its memories. Where
 * that cannot be known, the host's first rank. */
int cf_transport_machine_of(const struct cf_transport *t, int rank);
const char *cf_transport_host_name(const struct cf_transport *t, int rank);
int cf_transport_hosts(const struct cf_transport *t);
int cf_transport_local_rank(const struct cf_transport *t);
int cf_transport_local_size(const struct cf_transport *t);

/* What this rank has sent to another one since the transport was opened. */
struct cf_traffic {
    uint64_t messages; /* that cf_post() was given */
    uint64_t payload;  /* bytes behind them: activations, pages of the KV cache */
    uint64_t bytes;    /* all that MPI was given: payloads and their envelopes, heartbeats, bare credits */
    uint64_t window;   /* bytes that the other one was told to read in the host's shared window instead */
};
/* Of this rank itself: zeros. */
const struct cf_traffic *cf_transport_traffic(const struct cf_transport *t, int to);

/* Told of every piece of every message. `data` and *env are valid during the call only. offset + n ==
 * env->payload_bytes marks the last piece (messages without payload: one call with n = 0). Return 0 when taken; 1 to
 * refuse for now (the piece is offered again at a later cf_progress(), and everything behind it from that peer waits);
 * -1 on error. May call cf_post(); cf_progress() from within it does nothing. Kinds that this room handles itself
 * (Hello, Verdict, Probe, heartbeats, errors, farewells) do not come here. */
typedef int (*cf_on_message)(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e);
void cf_transport_on_message(struct cf_transport *t, cf_on_message fn, void *ctx);

/* Called about as often as other ranks hear of this one, as long as cf_progress() is called and there are others: who
 * hears of it knows that this rank's loop turns. */
void cf_transport_on_beat(struct cf_transport *t, void (*fn)(void *ctx), void *ctx);

/* Queues a message to rank `to` (itself included: delivered at the next progress). Packs env->body at once; the
 * transport fills sequence, credits and the piece fields. A payload that does not travel inline (larger than about 3
 * KiB on one host, 64 KiB between hosts) is not copied. It must stay untouched until *pending, which is raised now, has
 * been lowered again (pending may be NULL only without payload). Never waits. */
int cf_post(struct cf_transport *t, int to, Cf__Envelope *env, const void *payload, size_t bytes, int *pending,
    struct cf_error *e);

/* Moves what can be moved and delivers what has arrived. Returns the number of events (0: nothing to do) or -1: a peer
 * was silent too long, an Error envelope came, or the callback failed. Cheap enough to call between tiles. */
int cf_progress(struct cf_transport *t, struct cf_error *e);

/* Progress until ready(ctx) is true: polls briefly, then yields, then sleeps in short naps (at once with
 * sleep_at_once). Adds the time spent to *waited (may be NULL). */
int cf_wait(struct cf_transport *t, bool (*ready)(void *ctx), void *ctx, double *waited, struct cf_error *e);
/* The same, but `limit` seconds at most. 0 says nothing about ready(). */
int cf_wait_for(
    struct cf_transport *t, bool (*ready)(void *ctx), void *ctx, double limit, double *waited, struct cf_error *e);

/* A hello round (there may be several, one behind the other). Every rank calls it with its own hello (protocol, program
 * and host are filled here). Rank 0 compares protocol, program, model size and hash, and refuses with a message that
 * names the rank and host that differ; all ranks then return -1 with that same text. On success *all (freed with
 * cf__verdict__free_unpacked(v, NULL)) holds every rank's hello, on every rank. */
int cf_transport_hello(struct cf_transport *t, const Cf__Hello *mine, Cf__Verdict **all, struct cf_error *e);

/* Latency and bandwidth between this rank and `peer`, both calling it: one-way seconds for n bytes, median of rounds.
 */
int cf_transport_probe(struct cf_transport *t, int peer, size_t bytes, int rounds, double *seconds, struct cf_error *e);
/* The same while both send at once, as the members of a group do: seconds from sending to having the other's message.
 */
int cf_transport_probe_both(
    struct cf_transport *t, int peer, size_t bytes, int rounds, double *seconds, struct cf_error *e);
/* The same with work before each message, as in a sum: seconds of a round, work and message: the mean of
 * all but the slowest tenth. */
int cf_transport_rehearse(struct cf_transport *t, int peer, size_t bytes, int rounds, void (*work)(void *ctx),
    void *ctx, double *seconds, struct cf_error *e);

/* The clock of `peer` (time of day) less that of this rank, in seconds, and how far from the truth that can be; both
 * call it. */
int cf_transport_clock(struct cf_transport *t, int peer, double *offset, double *uncertainty, struct cf_error *e);

/* Every rank's findings to rank 0, all calling it. all: [size] on rank 0, each freed by the caller with
 * cf__checkup__free_unpacked(c, NULL); NULL elsewhere. Filled as they arrive: after a failure those of the ranks that
 * did not answer are NULL. */
int cf_transport_collect(struct cf_transport *t, const Cf__Checkup *mine, Cf__Checkup **all, struct cf_error *e);

/* A copy of a message in memory of its own, by way of the wire format (for NAME__free_unpacked); NULL with *e set if
 * memory is short. */
void *cf_transport_copy(const ProtobufCMessage *message, struct cf_error *e);

/* Name and version of the MPI library: "Open MPI v4.1.4". */
void cf_transport_library(char *out, size_t size);

/* Tells all peers of *why (named as coming from this rank), unless they know it already, within about a second. */
void cf_transport_fail(struct cf_transport *t, const struct cf_error *why);
/* Who the failure came from: this rank's number for its own, the origin's for one received, -1 for none. */
int cf_transport_failed_rank(const struct cf_transport *t);
/* Who should say on the screen that the run has failed: the lowest rank that has not fallen silent. Usually 0. */
int cf_transport_spokesman(const struct cf_transport *t);

/* Which rank the failure is about: the peer that has fallen silent, or whoever it came from; -1 for none. */
int cf_transport_suspect(const struct cf_transport *t);

/* Closes. ok: all ranks agreed to end (waits until every peer has taken its messages; what still arrives here is
 * dropped). Not ok: never hangs for more than a few seconds, even if peers are dead; if not all peers have said
 * goodbye, MPI is not finalised and t is left as it is, because the process is about to exit with a non-zero status.
 * Else frees t. False if the spokesman is another rank and has not said goodbye: it may be too busy to say why the run
 * has failed before the launcher ends it. */
bool cf_transport_close(struct cf_transport *t, bool ok);

#endif
