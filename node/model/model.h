/* What a model is made of: its numbers, its tensors with domain, split rule and shape, its axes.
 *
 * An architecture is a row of data: the tensors it has and the steps of a layer read them by role. Further
 * architectures add rows to the tables of model.c and small functions to steps.c.
 */
#ifndef COFFER_NODE_MODEL_MODEL_H
#define COFFER_NODE_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "node/gguf/gguf.h"
#include "node/kernels/rope.h"
#include "node/model/axis.h"
#include "node/model/domain.h"

enum cf_role {
    CF_W_TOKEN_EMBD,
    CF_W_OUTPUT_NORM,
    CF_W_OUTPUT,
    CF_W_ATTN_NORM,
    CF_W_Q,
    CF_W_K,
    CF_W_V,
    CF_W_Q_BIAS,
    CF_W_K_BIAS,
    CF_W_V_BIAS,
    CF_W_O,
    CF_W_O_BIAS,
    CF_W_FFN_NORM,
    CF_W_GATE,
    CF_W_UP,
    CF_W_DOWN,
    CF_ROLES,
    CF_FIRST_LAYER_ROLE = CF_W_ATTN_NORM
};

enum cf_split {
    CF_SPLIT_REPLICATED,   /* every member of the group holds all of it */
    CF_SPLIT_VOCAB,        /* rows: tiles of 16 tokens */
    CF_SPLIT_Q_ROWS,       /* rows: query heads of the member's attention chunks */
    CF_SPLIT_KV_ROWS,      /* rows: the KV heads that those query heads need (shared ones are copied) */
    CF_SPLIT_ATTN_COLUMNS, /* columns: value columns of the attention chunks */
    CF_SPLIT_FFN_ROWS,     /* rows: the member's MLP chunks */
    CF_SPLIT_FFN_COLUMNS,  /* columns: likewise */
};

struct cf_tensor_spec {
    enum cf_role role;
    const char *name; /* with %u for the layer */
    enum cf_domain domain;
    enum cf_split split;
    bool optional;
};
extern const struct cf_tensor_spec cf_tensor_specs[CF_ROLES];

struct cf_model {
    const char *arch;
    uint32_t n_layers, n_embd, n_head, n_head_kv, d_k, d_v, n_ff, n_vocab, n_ctx_train;
    float rms_eps;
    struct cf_rope rope;
    float *rope_factors;  /* owned, or NULL */
    bool tied;            /* the head is the token embedding */
    bool quantised;       /* any matrix is: then logits are bit-identical everywhere */
    struct cf_axis attn;  /* n_head * d_v columns */
    struct cf_axis ffn;   /* n_ff columns */
    uint32_t vocab_tiles; /* of 16 tokens */
};

/* Reads numbers and checks every tensor's presence, type and shape. */
int cf_model_open(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e);
void cf_model_close(struct cf_model *m);

/* The file's tensor of a role (layer ignored for roles without), NULL if an optional one is absent. The head of a tied
 * model is the token embedding. */
const struct cf_gguf_tensor *cf_model_tensor(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer);

/* Which rows and columns of a role's tensor a member with chunks (or vocabulary tiles) [first, last) holds. */
struct cf_slice {
    uint32_t row0, row1, c0, c1;
};
struct cf_slice cf_model_slice(const struct cf_model *m, enum cf_role role, uint32_t first, uint32_t last);

/* Query and KV heads of attention chunks [first, last). */
struct cf_heads {
    uint32_t q0, q1, kv0, kv1;
};
struct cf_heads cf_model_heads(const struct cf_model *m, uint32_t first, uint32_t last);

#endif
