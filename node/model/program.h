/* What one rank does for a batch: the plan compiled into a list of instructions and the exchanges between them.
 *
 * Every rank compiles the same plan and numbers the same exchanges, but keeps only its own ends of them. An instruction
 * that waits (TAKE_*, ADD, SHARE) names the exchange whose parts it needs; the others run at once.
 *
 * Parts between ranks of different hosts travel as the plan's `wire` says, all others as f32 (README of transport).
 */
#ifndef COFFER_NODE_MODEL_PROGRAM_H
#define COFFER_NODE_MODEL_PROGRAM_H

#include "node/model/plan.h"
#include "transport/exchange.h"

enum cf_op {
    CF_OP_EMBED,       /* token rows that this rank holds -> their receivers */
    CF_OP_TAKE_EMBED,  /* -> h */
    CF_OP_QKV,         /* norm(h) -> q, k, v of this rank's heads, rotated */
    CF_OP_TAKE_QKV,    /* slices of q, k, v from LEFT_HEMI -> TEMPORAL */
    CF_OP_ATTEND,      /* append k, v; attend */
    CF_OP_TAKE_HEADS,  /* slices of attention output from TEMPORAL -> LEFT_HEMI */
    CF_OP_OUT,         /* output projection -> partial sums */
    CF_OP_MLP,         /* norm(h), gate, up, SiLU, down -> partial sums */
    CF_OP_ADD,         /* all partial sums -> h (small), or this rank's share of columns -> the others (large) */
    CF_OP_SHARE,       /* the others' shares -> h */
    CF_OP_HOP,         /* h -> the next stage (or the rows wanted -> the head) */
    CF_OP_TAKE_HIDDEN, /* -> h (or the rows wanted) */
    CF_OP_HEAD,        /* norm, head rows -> slices of the logits */
    CF_OP_TAKE_LOGITS, /* rank 0: slices -> full rows */
};

enum cf_step {
    CF_STEP_EMBED,
    CF_STEP_QKV,
    CF_STEP_HEADS,
    CF_STEP_ATTN_SUM,
    CF_STEP_ATTN_SHARE,
    CF_STEP_FFN_SUM,
    CF_STEP_FFN_SHARE,
    CF_STEP_HIDDEN,
    CF_STEP_LOGITS,
    CF_STEP_KINDS
};
const char *cf_step_name(enum cf_step step);

struct cf_instr {
    enum cf_op op;
    uint32_t layer;
    int32_t route;
}; /* route: index, or -1 */

/* An exchange with what its columns mean. */
struct cf_route {
    struct cf_exchange x;
    enum cf_step step;
    bool wanted_only; /* rows: only those whose logits are wanted */
    /* QKV and HEADS: heads of each part; `self` is what stays on this rank (q0 == q1: nothing). */
    struct cf_heads in_heads[CF_MAX_PARTS], out_heads[CF_MAX_PARTS], self;
    uint32_t self_columns;
    /* EMBED and LOGITS: vocabulary rows of each part's sender; own range of this rank. */
    uint32_t in_row0[CF_MAX_PARTS], in_row1[CF_MAX_PARTS], own_row0, own_row1;
    /* Sums: vectors of each sender, and this rank's. */
    struct cf_tree_program tree;
    uint32_t in_vector[CF_MAX_PARTS], own_vector, n_own;
    struct cf_subtree own[16];
    /* Shares of columns among the receivers, cut at multiples of 16; only if three or more. */
    uint32_t n_shares, share_cut[CF_MAX_PARTS + 1];
    enum cf_dtype share_dtype; /* as what sums go between hosts, if these receivers are on several */
    size_t share_bytes;        /* a vector larger than this, in that type, goes by shares */
    int my_share;              /* -1: not a receiver */
    bool receives;
    uint32_t line; /* columns of a line of its parts (transport/payload.h); 0: a part's row is one line */
    bool rounds;   /* what this rank gives is rounded as the wire does it, also what it keeps and what stays on its host
                    */
};

struct cf_program {
    uint32_t n_instrs;
    struct cf_instr *instrs;
    uint32_t n_routes;
    struct cf_route *routes;              /* route i has exchange id i */
    const struct cf_exchange **exchanges; /* [n_routes], for the mail room */
    size_t slot_bytes;                    /* of the mail room */
    uint32_t most_own;                    /* most vectors that this rank makes in one step */
    size_t packed_sums, packed_stage;     /* bytes of what leaves for other hosts from either kind of outlet */
    size_t unpacked_floats;               /* most that comes as another type than f32 in one exchange */
};

/* Does an instruction wait for a sum to which this rank has given a part, or for its finished shares? The others of the
 * group will soon be there: so many seconds it is worth holding on to the batch, before another one is taken up. */
#define CF_PROGRAM_HOLD 2e-4
bool cf_program_holds(const struct cf_program *p, uint32_t pc);

/* The largest vector that goes whole, bytes: `receivers` of a sum of `vectors` vectors; apart: on several hosts. */
size_t cf_route_share_limit(uint32_t receivers, uint32_t vectors, bool apart);
/* Do sums of this batch go by shares (reduce-scatter, then all-gather)? */
bool cf_route_by_shares(const struct cf_route *r, uint32_t rows, uint32_t n_embd);

/* What passes in part k of a route's `out`, or of its `in`, for a batch of `rows` rows (of EMBED: rows of those tokens
 * that the sender holds), and its bytes. An exchange that does not take place has rows 0. The engine, the planner and
 * whoever simulates them go by this. */
/* The place among the shares of part k's receiver. */
uint32_t cf_route_share(const struct cf_route *r, bool out, uint32_t k);
struct cf_extent cf_route_extent(const struct cf_route *r, bool out, uint32_t k, uint32_t rows, uint32_t n_embd);
size_t cf_route_bytes(const struct cf_route *r, bool out, uint32_t k, uint32_t rows, uint32_t n_embd);

/* Private to this folder: what the parts of a route need at most, into *r and *p. */
void cf__route_measure(struct cf_route *r, enum cf_dtype wire, uint32_t n_embd, struct cf_program *p);

int cf_program_compile(
    struct cf_program *p, const struct cf_plan *plan, const struct cf_model *m, int rank, struct cf_error *e);
void cf_program_free(struct cf_program *p);

#endif
