/* A plan: rows (domain, layers) -> group of ranks with one slice per member. Made by the coordinator, sent to every
 * rank, proven to cover the model before anything is loaded.
 */
#ifndef COFFER_NODE_MODEL_PLAN_H
#define COFFER_NODE_MODEL_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "coffer.pb-c.h"
#include "node/model/model.h"
#include "transport/payload.h"
#include "transport/tree.h"

enum cf_layout { CF_LAYOUT_TENSOR, CF_LAYOUT_LAYERS, CF_LAYOUT_HYBRID, CF_LAYOUT_DOMAIN, CF_LAYOUTS };
const char *cf_layout_name(enum cf_layout layout);

/* Members in order; member i holds chunks [cuts[i], cuts[i+1]) of the domain's axis: attention chunks (LEFT_HEMI,
 * TEMPORAL), MLP chunks (RIGHT_HEMI), vocabulary tiles (PREFRONTAL, whose row has layers [0, n_layers)). */
struct cf_plan_row {
    enum cf_domain domain;
    uint32_t layer0, layer1;
    uint32_t n;
    int ranks[CF_MAX_MEMBERS];
    uint32_t cuts[CF_MAX_MEMBERS + 1];
};

struct cf_plan {
    enum cf_layout layout;
    uint32_t n_layers;
    uint32_t n_ctx;            /* positions per sequence */
    uint32_t n_seqs;           /* sequences that the cache holds at once */
    uint32_t n_rows;           /* most rows of a batch */
    uint32_t n_flight;         /* most batches in flight */
    uint32_t n_want;           /* most rows of a batch whose logits are wanted */
    uint32_t kv_size, kv_keep; /* a query sees the first kv_keep positions and its last kv_size - kv_keep; 0: all */
    uint32_t kv_type;          /* enum cf_kv_type (node/engine/memory/kv_type.h) */
    enum cf_dtype wire;        /* of activations between hosts */
    uint32_t n_hosts;          /* [n_hosts] of host: ranks, or 0 */
    uint32_t *host;            /* which host each rank is on; NULL: all on one; owned */
    int zero_rank;             /* test hook: this rank's weights are zeroed; -1 none */
    uint32_t n_plan_rows;
    struct cf_plan_row *rows; /* owned */
};

void cf_plan_free(struct cf_plan *p);

/* The row of a domain at a layer (any layer for PREFRONTAL). Never NULL in a checked plan. */
const struct cf_plan_row *cf_plan_find(const struct cf_plan *p, enum cf_domain domain, uint32_t layer);
/* This rank's place in a row, or -1; *first, *last its chunks. A member with an empty slice counts as -1. */
int cf_plan_member(const struct cf_plan_row *row, int rank, uint32_t *first, uint32_t *last);
/* Does the rank hold anything? */
bool cf_plan_works(const struct cf_plan *p, int rank);
/* Chunks of a domain's axis. */
uint32_t cf_plan_axis_chunks(const struct cf_model *m, enum cf_domain domain, uint32_t layer);

/* Proves that every domain of every layer is covered exactly once, that ranks exist and groups are small enough. */
int cf_plan_check(const struct cf_plan *p, const struct cf_model *m, int n_ranks, struct cf_error *e);

/* To and from the wire; both bounded. The message is freed with cf__plan__free_unpacked(msg, NULL). */
Cf__Plan *cf_plan_to_message(const struct cf_plan *p);
int cf_plan_from_message(struct cf_plan *p, const Cf__Plan *msg, struct cf_error *e);

#endif
