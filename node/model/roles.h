/* The roles of tensors: what each is called in a file, which domain it belongs to, and how it is split over the members
 * of that domain's group. Architectures choose from these (arch.h).
 */
#ifndef COFFER_NODE_MODEL_ROLES_H
#define COFFER_NODE_MODEL_ROLES_H

#include <stdbool.h>
#include <stdint.h>

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
    CF_W_Q_NORM, /* of each query head */
    CF_W_K_NORM,
    CF_W_SINKS, /* a score per query head that takes part in every softmax */
    CF_W_O,
    CF_W_O_BIAS,
    CF_W_ATTN_POST_NORM, /* of attention's sum, before it is added to the residual stream */

    /* Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): queries and keys by way of latent vectors. */
    CF_W_Q_A,
    CF_W_Q_A_NORM,
    CF_W_Q_B,
    CF_W_KV_A, /* the latent vector and the rotated part of the key */
    CF_W_KV_A_NORM,
    CF_W_K_B, /* per head: query without position -> latent space */
    CF_W_V_B, /* per head: latent space -> value */

    CF_W_FFN_NORM,
    CF_W_GATE,
    CF_W_UP,
    CF_W_DOWN,
    CF_W_FFN_POST_NORM, /* of the MLP's sum, before it is added to the residual stream */

    CF_W_ROUTER,
    CF_W_ROUTER_BIAS,
    CF_W_CHOICE_BIAS, /* added to the probabilities for the choice of experts, not to their weights */
    CF_W_GATE_EXPS,
    CF_W_UP_EXPS,
    CF_W_DOWN_EXPS,
    CF_W_GATE_EXPS_BIAS,
    CF_W_UP_EXPS_BIAS,
    CF_W_DOWN_EXPS_BIAS,
    CF_W_SHARED_ROUTER, /* how much of the shared expert */
    CF_W_GATE_SHARED,
    CF_W_UP_SHARED,
    CF_W_DOWN_SHARED,
    CF_ROLES,
    CF_FIRST_LAYER_ROLE = CF_W_ATTN_NORM
};

/* Sets of roles. */
#define CF_ROLE_BIT(role) (1ull << (role))

enum cf_split {
    CF_SPLIT_REPLICATED,   /* every member of the group holds all of it */
    CF_SPLIT_VOCAB,        /* rows: tiles of 16 tokens */
    CF_SPLIT_Q_ROWS,       /* rows: query heads of the member's attention chunks */
    CF_SPLIT_KV_ROWS,      /* rows: the KV heads that those query heads need (shared ones are copied) */
    CF_SPLIT_HEADS,        /* parts of a stack of matrices, or elements of a vector: query heads likewise */
    CF_SPLIT_ATTN_COLUMNS, /* columns: value columns of the attention chunks */
    CF_SPLIT_FFN_ROWS,     /* rows: the member's MLP chunks; of experts: of each */
    CF_SPLIT_FFN_COLUMNS,  /* columns: likewise */
};

struct cf_tensor_spec {
    enum cf_role role;
    const char *name; /* with %u for the layer */
    enum cf_domain domain;
    enum cf_split split;
    bool vector;
    bool of_sum; /* applied to a finished sum: held by whoever receives it, LEFT_HEMI and RIGHT_HEMI of the layer */
};
extern const struct cf_tensor_spec cf_tensor_specs[CF_ROLES];

#endif
