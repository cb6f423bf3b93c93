/* What a model is made of: its numbers, its tensors with domain, split rule and shape, its axes.
 *
 * An architecture is a row of data (arch.h); the header of the file gives the numbers (numbers.c, positions.c), and
 * every tensor is checked against them (model.c, tensors.c). The steps of a layer read tensors by role.
 */
#ifndef COFFER_NODE_MODEL_MODEL_H
#define COFFER_NODE_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "node/gguf/gguf.h"
#include "node/kernels/rope.h"
#include "node/model/arch.h"
#include "node/model/axis.h"

enum { CF_MAX_EXPERTS = 1024, CF_MAX_CHOSEN = 64 };

/* Experts of a layer, and how a token finds its own. */
struct cf_experts {
    uint32_t n, used;             /* 0: no layer has experts */
    uint32_t n_ff;                /* width of one */
    uint32_t shared;              /* width of the shared expert, 0: none */
    uint32_t dense;               /* leading layers without experts */
    uint32_t groups, groups_used; /* choice among the best groups only; groups < 2: among all */
    enum cf_gating gating;
    bool norm;   /* weights of the chosen ones are divided by their sum */
    bool floats; /* gate or up of the experts is a float matrix in some layer */
    bool whole;  /* a member holds whole experts, not a part of each (cf_model_whole_experts) */
    bool fused;  /* the file has gate and up of each in one tensor, gate first */
    bool single; /* the file has no stacks, but tensors for each (Mixtral before April 2024) */
    float scale; /* and multiplied by this */
};

/* Multi-head latent attention; latent 0: the model has none. The cache then holds one KV head: d_k is latent + rotated
 * columns, d_v the latent ones, which are its value, too. */
struct cf_latent {
    uint32_t latent;     /* kv_lora_rank */
    uint32_t query;      /* q_lora_rank; 0: queries come straight from the hidden state */
    uint32_t plain, rot; /* columns of a query head without and with position */
};

struct cf_model {
    const struct cf_arch *a;
    const char *arch;
    uint32_t n_layers, n_embd, n_head, n_head_kv, n_ff, n_vocab, n_ctx_train;
    uint32_t d_k, d_v; /* columns of a key and a value head, as the KV cache holds them */
    uint32_t
        d_v_apart; /* what a position of the cache holds beside its key: d_v, or 0 where the value begins the key */
    uint32_t d_o;  /* columns of a head that enter the output projection: d_v, but for latent attention */
    float rms_eps;
    float embd_scale;                /* of embedding rows, 1: none */
    float attn_scale;                /* of attention scores */
    float attn_cap, logit_cap;       /* c tanh(x / c), 0: none */
    uint32_t window;                 /* keys that a windowed layer sees, its own included */
    bool *windowed;                  /* [n_layers], owned; NULL: none is */
    struct cf_rope rope, rope_local; /* of layers that see everything, of windowed layers */
    float *rope_factors, *rope_long; /* owned, or NULL; the second beyond the original context */
    struct cf_experts experts;
    struct cf_latent latent;
    bool fused_qkv, fused_gate_up; /* one tensor holds them, one behind the other (experts: see there) */
    bool fused_kv_b;               /* K_B, transposed, and V_B likewise, head by head (files from before 2025) */
    bool tied;                     /* the head is the token embedding */
    bool quantised;                /* any matrix is: then logits are bit-identical everywhere */
    struct cf_axis attn;           /* n_head * d_o columns */
    struct cf_axis ffn;            /* n_ff columns */
    struct cf_axis expert;         /* columns of an expert */
    struct cf_axis exps;           /* what members share of the experts: the same, or the experts themselves if whole */
    struct cf_axis shared;         /* columns of the shared one (at most as many chunks as exps) */
    uint32_t vocab_tiles;          /* of 16 tokens */
};

/* Are the bytes of the tensor of this name read by cf_model_open()? Such tensors are small. */
bool cf_model_reads_at_open(const char *tensor);
/* Reads numbers and checks every tensor's presence, type and shape. */
int cf_model_open(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e);
void cf_model_close(struct cf_model *m);

/* From now on members hold whole experts: the chunks of RIGHT_HEMI in layers with experts are runs of experts. All
 * ranks do it, or none; before the plan. Without experts nothing changes. */
void cf_model_whole_experts(struct cf_model *m);

/* Has this layer experts? A window (0: it sees everything)? */
static inline bool cf_model_has_experts(const struct cf_model *m, uint32_t layer) {
    return m->experts.n && layer >= m->experts.dense;
}
static inline uint32_t cf_model_window(const struct cf_model *m, uint32_t layer) {
    return m->windowed && m->windowed[layer] ? m->window : 0;
}
/* The axis whose chunks RIGHT_HEMI of a layer is split by. */
static inline const struct cf_axis *cf_model_mlp_axis(const struct cf_model *m, uint32_t layer) {
    return cf_model_has_experts(m, layer) ? &m->exps : &m->ffn;
}

/* Angles for a context of n_ctx positions (some files have other factors for long ones). */
struct cf_rope cf_model_rope(const struct cf_model *m, bool windowed, uint32_t n_ctx);

/* The roles (bits) that a layer must have, and may have. */
uint64_t cf_model_needs(const struct cf_model *m, uint32_t layer);
uint64_t cf_model_may(const struct cf_model *m, uint32_t layer);

/* The file's tensor of a role (layer ignored for roles without), NULL if the layer has none. The head of a tied model
 * is the token embedding; of fused tensors each role names the same one; of single experts it is the first one's. */
const struct cf_gguf_tensor *cf_model_tensor(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer);
/* The tensor that holds a part of a role: another one for each expert if they are single. */
const struct cf_gguf_tensor *cf_model_part_tensor(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer, uint32_t part);
/* Have the parts of a role tensors of their own? */
bool cf_model_parts_apart(const struct cf_model *m, enum cf_role role);
/* Its name, which may be another one than the role's for this architecture. */
void cf_model_tensor_name(const struct cf_model *m, enum cf_role role, uint32_t layer, uint32_t part, char name[64]);
/* Where a role lies in the file's tensor: its first row, and the rows from one part to the next (0: each part has a
 * tensor of its own); of vectors its first column. A transposed role has its columns as rows there, and is held in f32.
 */
struct cf_place {
    uint32_t row, part_rows;
    bool transposed;
};
struct cf_place cf_model_place(const struct cf_model *m, enum cf_role role);

/* The whole of a role: `parts` matrices of rows x columns behind each other (experts, heads; else one). A vector has
 * one row; of experts' biases each expert is a row. */
struct cf_shape {
    uint64_t columns, rows, parts;
};
struct cf_shape cf_model_shape(const struct cf_model *m, enum cf_role role);

/* Bytes of a role in the file, of one layer; 0 if it has none. active: of experts only what one token needs. */
uint64_t cf_model_bytes(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer, bool active);
/* Of all roles of a domain: of one layer, or of the whole for PREFRONTAL (active: of an embedding of its own nothing, a
 * token needs one row of it). TEMPORAL: weights only, not the cache. */
uint64_t cf_model_domain_bytes(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_domain domain, uint32_t layer, bool active);

/* What of a role's tensor a member with chunks (or vocabulary tiles) [first, last) holds: of parts [part0, part1) rows
 * [row0, row1) and columns [c0, c1). Of vectors that are split with the rows of their matrix the columns are cut. */
struct cf_slice {
    uint32_t part0, part1, row0, row1, c0, c1;
};
struct cf_slice cf_model_slice(const struct cf_model *m, enum cf_role role, uint32_t first, uint32_t last);

/* Query and KV heads of attention chunks [first, last). */
struct cf_heads {
    uint32_t q0, q1, kv0, kv1;
};
struct cf_heads cf_model_heads(const struct cf_model *m, uint32_t first, uint32_t last);

/* numbers.c and positions.c: the header, for model.c. */
int cf__model_numbers(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e);
int cf__model_positions(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e);

/* A key of the architecture: "NAME.suffix". The value keeps its default when the key is absent and not required. */
int cf__model_u32(const struct cf_model *m, const struct cf_gguf *g, const char *suffix, bool required, uint32_t *v,
    struct cf_error *e);
int cf__model_f32(
    const struct cf_model *m, const struct cf_gguf *g, const char *suffix, bool required, float *v, struct cf_error *e);

#endif
