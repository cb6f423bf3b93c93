/* The engine of one rank: its slices, its cache, and the message-driven loop that runs batches through the plan.
 *
 * Every rank opens an engine and starts it with the plan (rank 0 gives it, the others receive it). Then rank 0 submits
 * batches and waits for their logits while the others serve. Several batches may be in flight; each rank goes on with
 * one until it must wait, then with the oldest whose inputs have arrived. After start nothing is allocated.
 *
 * All calls are made inside cf_team_run()'s body, by thread 0.
 */
#ifndef COFFER_NODE_ENGINE_ENGINE_H
#define COFFER_NODE_ENGINE_ENGINE_H

#include "node/engine/ship/ship.h"
#include "node/kernels/kernels.h"
#include "node/memory/arena.h"
#include "node/memory/team.h"
#include "node/model/program.h"
#include "transport/transport.h"

struct cf_engine;

enum { CF_NOTE_BYTES = 480 };

/* How payloads pass between ranks of one host: through a shared window where it can be had, only so, or never so. */
enum cf_exchange_way { CF_EXCHANGE_AUTO, CF_EXCHANGE_WINDOW, CF_EXCHANGE_MESSAGES };

struct cf_engine_options {
    struct cf_transport *transport;
    struct cf_team *team;
    const struct cf_gguf *gguf;
    const struct cf_model *model;
    const struct cf_kernels *kernels;
    int node; /* os index of this rank's NUMA node, -1: do not bind */
    enum cf_numa_policy policy;
    bool huge;
    const char *note; /* for cf_rank_ready.note, besides what the memory has to say; NULL or "": nothing */
    enum cf_exchange_way exchange;
    struct cf_ship *ship; /* brings what this host lacks of the file before it is loaded; NULL: all have it */
    /* For measurements, the same on all ranks: nothing is exchanged but the batches and their ends. Every rank goes on
     * with zeros for what others should have sent, so the logits are meaningless. */
    bool no_exchange;
    /* Rank 0: file bytes loaded by all ranks so far and to load. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

struct cf_batch {
    uint32_t id; /* ascending from 1; given by cf_engine_submit */
    uint32_t n_rows;
    const uint32_t *sequence, *position, *token; /* [n_rows] */
    uint32_t n_want;
    const uint32_t *want; /* [n_want] ascending rows whose logits are wanted */
    bool hidden;          /* instead of logits: the rows as they enter the output head, after the final norm */
};

/* What a rank reported when it was ready, and its counters. */
struct cf_rank_ready {
    bool ready;
    uint32_t threads; /* that compute */
    uint64_t bytes, pages, local, huge;
    uint64_t window; /* of the bytes: in the window of its host, 0: none */
    double load_seconds, read_seconds, pack_seconds, audit_seconds; /* the first is the sum of these and the rest */
    uint64_t load_bytes;                                            /* of the file */
    char note[CF_NOTE_BYTES];
};
struct cf_domain_count {
    uint32_t tensors;
    uint64_t bytes, hits, bytes_read;
    double seconds;
};
/* What rounding for other hosts has done to the numbers that a rank sent. */
struct cf_wire_count {
    uint64_t values, cut;  /* cut: beyond what f16 holds, made the largest that it does */
    double error2, value2; /* sums of squares: of the errors, of the numbers */
    double most;           /* largest error, as a part of the largest number of its line */
};
struct cf_rank_counts {
    bool here;
    double compute, exchange, wait;
    uint64_t resident, peak; /* bytes of memory, now and at most (cf_memory_peak) */
    struct cf_domain_count domain[CF_DOMAINS];
    struct cf_wire_count wire[CF_STEP_KINDS];
};
void cf_wire_count_add(struct cf_wire_count *to, const struct cf_wire_count *more);

int cf_engine_open(struct cf_engine **out, const struct cf_engine_options *o, struct cf_error *e);

/* Bytes that `rank` needs under a plan: weights, KV cache, and buffers. What the planner fits to free memory. */
int cf_engine_bytes(const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g, int rank,
    uint32_t threads, uint64_t *weights, uint64_t *kv, uint64_t *buffers, struct cf_error *e);

/* plan: on rank 0, which sends it to all; NULL elsewhere (waits for it). Checks, binds, loads, audits; returns when
 * every rank is ready (rank 0) or this one is. */
int cf_engine_start(struct cf_engine *g, const struct cf_plan *plan, struct cf_error *e);
const struct cf_rank_ready *cf_engine_ready(const struct cf_engine *g, int rank); /* rank 0 */

/* Rank 0. Queues a batch on all ranks that hold anything (arrays are copied); gives it its id. Fails if n_flight are
 * out.
 */
int cf_engine_submit(struct cf_engine *g, struct cf_batch *b, struct cf_error *e);
/* Runs until batch `id` is done; its logits then stay until cf_engine_finish(id). */
int cf_engine_wait(struct cf_engine *g, uint32_t id, struct cf_error *e);
/* Full row of raw logits of the i-th wanted row: [n_vocab]. */
const float *cf_engine_logits(const struct cf_engine *g, uint32_t id, uint32_t i);
/* Of a batch that wants them: the i-th wanted row, [n_embd]. */
const float *cf_engine_hidden(const struct cf_engine *g, uint32_t id, uint32_t i);
void cf_engine_finish(struct cf_engine *g, uint32_t id);
/* Forgets positions >= position of a sequence, wherever it is cached, after all batches submitted so far. */
int cf_engine_truncate(struct cf_engine *g, uint32_t sequence, uint32_t position, struct cf_error *e);
/* Rank 0, with nothing in flight: what the cache holds of positions < `positions` of a sequence, in a form that does
 * not depend on ranks or layout: pages of 64 positions, the last one filled with zeros, of cf_engine_kv_page_bytes()
 * each. Export: sink(ctx, offset, data, n) gets every byte once, in no order. Import: source(ctx, page, out) writes one
 * page after the other; the sequence then has just these positions. */
typedef int (*cf_kv_sink)(void *ctx, uint64_t offset, const void *data, size_t n, struct cf_error *e);
typedef int (*cf_kv_source)(void *ctx, uint32_t page, void *out, struct cf_error *e);
uint64_t cf_engine_kv_page_bytes(const struct cf_engine *g);
int cf_engine_kv_export(
    struct cf_engine *g, uint32_t sequence, uint32_t positions, cf_kv_sink sink, void *ctx, struct cf_error *e);
int cf_engine_kv_import(
    struct cf_engine *g, uint32_t sequence, uint32_t positions, cf_kv_source source, void *ctx, struct cf_error *e);
/* Asks every rank for its counters. counts[size]. */
int cf_engine_counts(struct cf_engine *g, struct cf_rank_counts *counts, struct cf_error *e);
/* Rank 0: what `from` had sent to each rank since it was ready, when it was last asked: [size], until it is asked
 * again.
 */
const struct cf_traffic *cf_engine_traffic(const struct cf_engine *g, int from);
/* Ends all ranks' serve(). last: tells them that no other engine follows (cf_engine_was_last). */
int cf_engine_shutdown(struct cf_engine *g, bool last, struct cf_error *e);

/* Other ranks: works until rank 0 says shutdown and all batches are done. Then another engine may be opened. */
int cf_engine_serve(struct cf_engine *g, struct cf_error *e);
bool cf_engine_was_last(const struct cf_engine *g);

void cf_engine_close(struct cf_engine *g);

#endif
