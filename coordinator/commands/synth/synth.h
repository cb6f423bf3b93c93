/* Private to `coffer synth` and `coffer bench --synthetic`: the model that was asked for (synth.c), what its
 * architecture consists of (synth_arch.c), its keys (synth_keys.c), its vocabulary (synth_vocab.c), its tensors
 * (synth_weights.c) and their bytes (synth_bytes.c).
 *
 * Names of tensors and keys are here once more, beside those of node/model, on purpose: what one of both has wrong, the
 * other one shows. */
#ifndef COFFER_COORDINATOR_COMMANDS_SYNTH_H
#define COFFER_COORDINATOR_COMMANDS_SYNTH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "node/gguf/write.h"

enum { CF__SYNTH_UNSET = -1 };

/* The command line; zero (or CF__SYNTH_UNSET, where zero says something) for a number that was not given, until synth.c
 * has completed it. */
struct cf__synth {
    const char *arch, *out, *type, *head_type, *expert_type, *tokenizer, *rope_scaling, *gating;
    int64_t layers, dim, heads, kv_heads, head_dim, value_dim, rope_dim, ffn, vocab, ctx, seed;
    int64_t window, window_pattern;
    int64_t experts, experts_used, expert_ffn, shared_experts, dense_layers, groups, groups_used;
    int64_t q_rank, kv_rank, nextn;
    double rope_base, rope_factor;
    bool untied, qk_norm, fused_kv_b, fused_gate_up, complete;
};

/* ---- architectures ---- */

/* Tensors that a layer may have; the shapes and spreads are in synth_weights.c. */
enum cf__synth_weight {
    W_ATTN_NORM,
    W_Q,
    W_Q_BIAS,
    W_K,
    W_K_BIAS,
    W_V,
    W_V_BIAS,
    W_QKV, /* Q, K and V in one */
    W_Q_NORM,
    W_K_NORM,
    W_SINKS,
    W_Q_A, /* Q by way of a vector of low rank */
    W_Q_A_NORM,
    W_Q_B,
    W_KV_A,
    W_KV_A_NORM,
    W_K_B,
    W_V_B,
    W_KV_B, /* both in one, as in older files */
    W_O,
    W_O_BIAS,
    W_ATTN_POST_NORM,
    W_FFN_NORM,
    W_GATE,
    W_UP,
    W_GATE_UP, /* both in one, called ffn_up */
    W_DOWN,
    W_ROUTER,
    W_ROUTER_BIAS,
    W_CHOICE_BIAS,
    W_GATE_EXPS,
    W_GATE_EXPS_BIAS,
    W_UP_EXPS,
    W_UP_EXPS_BIAS,
    W_GATE_UP_EXPS, /* both in one, expert by expert */
    W_GATE_UP_EXPS_BIAS,
    W_DOWN_EXPS,
    W_DOWN_EXPS_BIAS,
    W_SHARED_ROUTER,
    W_GATE_SHARED,
    W_UP_SHARED,
    W_DOWN_SHARED,
    W_FFN_POST_NORM,
    W_NEXTN_PROJECTION,
    W_NEXTN_EMBD_NORM,
    W_NEXTN_HIDDEN_NORM,
    W_NEXTN_HEAD_NORM,
    CF__SYNTH_WEIGHTS
};

struct cf__synth_arch {
    const char *name, *rope_scaling, *rope_factors; /* the scaling that is a tensor, if any; NULL: none */
    uint64_t attention, mlp, moe;                   /* sets of tensors: 1 << W_... */
    int64_t experts, experts_used, shared_experts, dense_layers, groups, groups_used;
    int64_t window;               /* 0: it has none */
    int64_t value_dim, rope_part; /* value heads where they have a size of their own; 1 / of a head that turns */
    double rope_base;
    bool latent, nextn, untied;
};

/* NULL if there is none of that name. */
const struct cf__synth_arch *cf__synth_arch(const char *name);
/* "llama, qwen2, ...". Returns text. */
const char *cf__synth_arch_list(char *text, size_t size);
/* The tensors of a layer, as a set. */
uint64_t cf__synth_layer(const struct cf__synth_arch *arch, const struct cf__synth *s, int64_t layer);

/* Checks and completes what was asked for, once; a usage error names the flag at fault. */
int cf__synth_complete(struct cf__synth *s, struct cf_error *e);

/* The keys ARCH.*. */
int cf__synth_keys(struct cf_gguf_writer *w, const struct cf__synth *s, struct cf_error *e);

/* The keys tokenizer.*: n_vocab tokens of the kind `model` ("llama" or "gpt2"). */
int cf__synth_vocab(struct cf_gguf_writer *w, const char *model, uint32_t n_vocab, struct cf_error *e);

struct cf__synth_tensor {
    char name[64];
    const char *role; /* name without layer */
    const struct cf_type *type;
    uint32_t n_dims;
    uint64_t ne[3], elements, bytes;
    float mean, spread;
    const float *given; /* values that are not random, or NULL */
};

/* Encoded elements that the large tensors of a role share: such a tensor is a random sequence of pieces of them. */
struct cf__synth_pool {
    const char *role;
    const struct cf_type *type;
    unsigned char *bytes; /* owned */
};

enum { CF__SYNTH_POOLS = 48 };

struct cf__synth_tensors {
    uint64_t seed, bytes;
    size_t n;
    struct cf__synth_tensor *list;
    float *rope; /* [2][rope_dim / 2] */
    pthread_mutex_t lock;
    struct cf__synth_pool pools[CF__SYNTH_POOLS]; /* [n_pools], made when first needed, under the lock */
    size_t n_pools;
};

/* All tensors; a usage error names the flag at fault. */
int cf__synth_tensors_new(struct cf__synth_tensors **out, const struct cf__synth *s, struct cf_error *e);
void cf__synth_tensors_free(struct cf__synth_tensors *t);
uint64_t cf__synth_tensors_bytes(const struct cf__synth_tensors *t);
/* Adds them to w, begins the data and writes it; or (hole) leaves it a hole. */
int cf__synth_tensors_write(struct cf__synth_tensors *t, struct cf_gguf_writer *w, bool hole, struct cf_error *e);
/* Bytes [offset, offset + n) of a tensor: what _write writes there. Any thread. */
int cf__synth_bytes(struct cf__synth_tensors *t, const struct cf__synth_tensor *x, uint64_t offset, void *buf, size_t n,
    struct cf_error *e);

/* Of the whole command: the defaults of every option, and checking, completing and writing what was asked for. _measure
 * does all but the writing: *bytes of weights. */
void cf__synth_defaults(void *config);
int cf__synth_measure(struct cf__synth *s, uint64_t *bytes, struct cf_error *e);
int cf__synth_make(struct cf__synth *s, uint64_t *bytes, struct cf_error *e);
/* The same model without its file: a header in memory, and weights that are made where they are read (cf_gguf_fill). *t
 * must live as long as *g. */
int cf__synth_open(struct cf_gguf **g, struct cf__synth_tensors **t, struct cf__synth *s, struct cf_error *e);

#endif
