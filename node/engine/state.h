/* Inside the engine: a batch in flight, the buffers, and the rank's state. Shared by the files of this
 * folder only: here the loop and its messages, in steps/ what a rank computes, in memory/ what it holds.
 */
#ifndef COFFER_NODE_ENGINE_STATE_H
#define COFFER_NODE_ENGINE_STATE_H

#include "node/engine/engine.h"
#include "node/engine/memory/kv.h"
#include "node/model/program.h"
#include "node/engine/memory/weights.h"

enum { CF_ROW_BLOCK = 48 };   /* rows that one product call takes: whole groups of 16 */
enum { CF_QUERY_BLOCK = 64 }; /* queries (heads x rows) that read a KV page together */

/* Attention and MLP have sums of their own, so that neither waits until the other's have been read everywhere. */
enum { CF_SUMS_ATTN, CF_SUMS_FFN, CF_SUMS };

/* A batch in flight on this rank. */
struct cf_context {
    bool used;
    uint32_t id, n_rows, n_want;
    uint32_t *sequence, *position, *token, *want; /* [plan.n_rows], want [plan.n_want] */
    uint32_t pc;                                  /* next instruction */
    bool compact;                                 /* h holds the wanted rows only */
    bool hidden;                                  /* these themselves are wanted, not their logits */
    bool done;
    float *h; /* [rows][n_embd] residual stream */
    float *
        rope; /* [2][rows][n_dims] cos and sin: of layers that see everything, then of windowed ones if there are any */
    float *sums;  /* partial sums on their way out: sums_out of the step in hand */
    float *stage; /* slices on their way out */
    struct cf_outlet sums_out[CF_SUMS], stage_out;
    float *logits; /* rank 0: [n_want][n_vocab], or hidden rows [n_want][n_embd] */
};

/* Activations rounded for quantised products beside their f32 form. */
struct cf_activation {
    float *f;
    int8_t *q;
    float *d;
    int16_t *sum;
    float *scaled; /* filled where the kernels read it */
    size_t stride;
};

/* Which rows of a batch go to which experts (choose.c), and what these make of them (experts.c). A pair is a row and
 * one of its experts. Pairs are sorted by expert, then by row. */
struct cf_moe {
    float *scores; /* [rows][score_stride] of the router */
    size_t score_stride;
    uint32_t *chosen;           /* [rows][used], ascending */
    float *weights;             /* [rows][used] */
    float *shared;              /* [rows] weight of the shared expert */
    uint32_t *first;            /* [experts + 1] first pair of each expert */
    uint32_t *active, n_active; /* [experts] those with pairs, ascending */
    uint32_t n_pairs;
    uint32_t *pair_row;         /* [pairs] */
    float *pair_weight;         /* [pairs] */
    struct cf_activation in;    /* [pairs] rows of x; with one row in the batch that of x itself */
    struct cf_activation inner; /* [pairs] columns of this rank's chunks */
    float *sums;                /* [threads][chunks][CF_MOE_ROWS][16] */
    size_t sum_floats;          /* per thread */
};
enum { CF_MOE_ROWS = 128 }; /* rows times tiles that a thread adds up at a time */

/* Between the projections of latent attention (latent.c). */
struct cf_latent_room {
    struct cf_activation query; /* [rows] the latent query */
    float *q;                   /* [rows][heads][plain + rot] */
    float *kv;                  /* [rows][latent + rot] */
    struct cf_activation plain; /* [rows][heads][plain, to whole blocks] */
    struct cf_activation out;   /* [rows][heads][d_o] */
};

/* Work of the queue: batches and KV operations in the order in which rank 0 sent them. */
struct cf_queued {
    bool kv, hidden;
    uint32_t id, n_rows, n_want;
    uint32_t *sequence, *position, *token, *want;
    uint32_t after, kv_kind, kv_sequence, kv_position;
};

/* KvOperation.kind */
enum { CF_KV_TRUNCATE, CF_KV_COPY, CF_KV_EXPORT, CF_KV_IMPORT };

/* An export that has come to its turn. */
struct cf_give {
    bool wanted;
    uint32_t sequence, positions;
    int pending; /* messages that MPI still sends from the pages */
};

struct cf__carry; /* carry.c */

/* Positions of a sequence, queued ones included; and what the batch in hand adds. */
struct cf_filled {
    uint32_t n, added, end;
};

struct cf_engine {
    struct cf_engine_options o;
    int rank, size;
    struct cf_plan plan;
    bool have_plan, started;
    struct cf_program program;
    struct cf_weights weights;
    struct cf_kv kv;
    struct cf_arena arena;
    struct cf_arena window; /* outlets, where the ranks of this host share a window; else they are in the arena */
    struct cf_mailroom mail;
    struct cf_exchange end;      /* without exchange: tells rank 0 that a batch is over elsewhere */
    struct cf_context *contexts; /* [plan.n_flight] */
    struct cf_queued *queue;     /* ring of queue_room */
    uint32_t queue_room, queue_first, queue_n;
    uint32_t next_id;
    bool *works;              /* rank 0: [size] who is told of batches and of the KV cache: those that hold anything */
    struct cf_filled *filled; /* [plan.n_seqs] */

    /* Buffers of one step; nothing in them outlives a wait. */
    struct cf_activation x;    /* n_embd columns */
    struct cf_activation wide; /* attention or MLP columns of this rank */
    float *q, *k, *v;          /* [rows][local heads * d] */
    float *att;                /* [rows][local heads * d_v], which is wide.f */
    float *post;               /* [rows][n_embd] sums on their way to a norm of their own, or NULL */
    struct cf_moe moe;
    struct cf_latent_room latent;
    float *thread_scratch; /* [threads][thread_floats] */
    size_t thread_floats;
    uint16_t *page_room; /* [threads][64 * (d_k + d_v)] pages as the kernels want them, if the cache has others */
    float *span_states;  /* attention split over spans */
    size_t span_floats;
    double *rope_freq[2]; /* [n_dims / 2]: of layers that see everything, of windowed ones */
    float rope_mscale[2];
    size_t ahead;          /* bytes of weights that a waiting thread fetches ahead */
    const float **vectors; /* [threads][CF_MAX_VECTORS] */
    float *unpacked;       /* what came from other hosts, as f32: of the step in hand */
    size_t unpacked_floats;
    struct cf_wire_count *wire_counts; /* [threads] of the rounding in hand */

    struct cf_rank_ready *ready;    /* rank 0: [size] */
    struct cf_rank_counts *counts;  /* rank 0: [size] */
    struct cf_traffic *traffic;     /* rank 0: [size][size] from, to */
    struct cf_traffic *sent_before; /* [size] before this engine was ready */
    Cf__Traffic *sent, **sent_list; /* [size] scratch of an answer about it */
    uint64_t *loaded, *to_load;     /* rank 0: [size] */
    bool shutdown, last, counts_wanted;
    struct cf_give give;
    struct cf__carry *carry; /* rank 0, during an export */
    struct cf_rank_counts own;
    struct cf_error poll_error;
    bool poll_failed;
    double load_start;
    struct cf_load_stats load_stats;
};

/* messages.c */
struct cf_queued *cf__queue_at(struct cf_engine *g, uint32_t i);
int cf__take_batch(struct cf_engine *g, const Cf__Batch *b, struct cf_error *e);
int cf__take_kv(struct cf_engine *g, const Cf__KvOperation *k, struct cf_error *e);
int cf__on_message(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e);
/* Called by thread 0 between tiles; cf__polled() tells of an error that it met. */
void cf__poll(void *ctx);
int cf__polled(struct cf_engine *g, struct cf_error *e);

/* engine.c */
struct cf_context *cf__context_of(const struct cf_engine *g, uint32_t id);
/* Moves queued work into free contexts, in order. */
void cf__open_contexts(struct cf_engine *g);
/* Opens what is queued, runs the oldest batch that can go on, or waits for a message. */
int cf__engine_turn(struct cf_engine *g, struct cf_error *e);
bool cf__unfinished(const struct cf_engine *g);
/* coordinate.c: the same operation on all ranks that hold anything, in order with the batches. */
int cf__kv_operation(struct cf_engine *g, uint32_t kind, uint32_t sequence, uint32_t position, struct cf_error *e);
/* carry.c */
int cf__give_pages(struct cf_engine *g, struct cf_error *e);
int cf__take_page(struct cf_engine *g, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n,
    struct cf_error *e);
int cf__answer_counts(struct cf_engine *g, struct cf_error *e);

/* Runs one instruction whose inputs are there. */
int cf__step_run(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e);
/* Which parts of the route this batch will bring (bit per part). */
uint32_t cf__step_expects(const struct cf_engine *g, const struct cf_context *c, const struct cf_instr *i);
/* May the instruction, and what must follow it at once, write what it sends? An outlet may still be read by others. */
bool cf__step_may_write(const struct cf_engine *g, const struct cf_context *c, const struct cf_instr *i);
/* Appends k, v and attends: engine->q, k, v -> wide.f. */
int cf__attend(struct cf_engine *g, struct cf_context *c, uint32_t layer, struct cf_error *e);
/* Sizes of all buffers in bytes, outlets included; with an arena, takes them: the outlets from the window if there is
 * one. */
int cf__buffers(struct cf_engine *g, uint32_t threads, struct cf_arena *arena, uint64_t *bytes, struct cf_error *e);
/* Of the outlets alone, in bytes. */
uint64_t cf__outlet_bytes(const struct cf_engine *g);
/* window.c: the window of this host, if it is wanted and can be had, and what follows from it for the exchanges. */
int cf__open_window(struct cf_engine *g, struct cf_error *e);
/* Without exchange: what takes its place. */
int cf__leave_out_exchange(struct cf_engine *g, struct cf_error *e);
/* Waits until MPI no longer sends from a buffer. */
int cf__wait_sent(struct cf_engine *g, const int *pending, struct cf_error *e);

#endif
