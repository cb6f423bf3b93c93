/* Architectures as data: which tensors a layer has, and in what a layer program differs from that of llama.
 *
 * What a row does not say, the file's header does (model.h). Adding an architecture whose steps are known is adding a
 * row to arch.c.
 */
#ifndef COFFER_NODE_MODEL_ARCH_H
#define COFFER_NODE_MODEL_ARCH_H

#include "node/kernels/kernels.h"
#include "node/model/roles.h"

/* How router logits become weights of the chosen experts; numbers as in ARCH.expert_gating_func. */
enum cf_gating {
    CF_GATING_SOFTMAX = 1,        /* over all experts, before the choice */
    CF_GATING_SIGMOID = 2,        /* of each */
    CF_GATING_SOFTMAX_CHOSEN = 3, /* over the chosen ones */
};

struct cf_arch {
    const char *name;
    uint64_t needs;     /* roles (bits) that every layer, and the whole, must have */
    uint64_t may;       /* roles that may be absent */
    uint64_t needs_mlp; /* roles of a layer without experts */
    uint64_t needs_moe; /* roles of a layer with experts; 0: this architecture has none */
    uint64_t may_moe;
    bool neox;           /* rope turns pairs (i, i + n_dims/2) instead of (2i, 2i + 1) */
    bool embd_scale;     /* embeddings are multiplied by sqrt(n_embd) */
    bool norm_weights;   /* weights of the chosen experts are divided by their sum, if the file does not say */
    bool scale_by_width; /* the largest model (n_layers below) scales scores by n_embd / n_head instead of d_k */
    uint32_t width_layers;
    float attn_cap, logit_cap; /* if the file does not say; 0: none */
    enum cf_act act;
    enum cf_gating gating;
    uint32_t window;      /* sliding window of the layers that have one, if the file does not say; 0: none */
    uint32_t pattern;     /* every pattern-th layer sees everything, the others a window; 0: no windows */
    float window_base;    /* rope base of windowed layers, which then know no scaling; 0: as the others */
    const char *ffn_norm; /* name of CF_W_FFN_NORM where it is another one, or NULL */
};

/* NULL if this program does not know it. */
const struct cf_arch *cf_arch_by_name(const char *name);
/* The i-th row; NULL at the end. */
const struct cf_arch *cf_arch_at(uint32_t i);
/* "llama, qwen2, ..." */
void cf_arch_list(char *text, size_t size);

#endif
