/* See arch.h. Tensor names, rope styles and defaults are those of the GGUF files that llama.cpp writes and reads; the
 * layers are those of the models' papers. */
#include "node/model/arch.h"

#include <stdio.h>
#include <string.h>

#define BIT(role) CF_ROLE_BIT(CF_W_##role)
#define ENDS (BIT(TOKEN_EMBD) | BIT(OUTPUT_NORM))
#define ATTENTION (BIT(ATTN_NORM) | BIT(Q) | BIT(K) | BIT(V) | BIT(O))
#define LAYER (ENDS | ATTENTION | BIT(FFN_NORM))
#define QKV_BIAS (BIT(Q_BIAS) | BIT(K_BIAS) | BIT(V_BIAS))
#define QK_NORM (BIT(Q_NORM) | BIT(K_NORM))
#define POST_NORMS (BIT(ATTN_POST_NORM) | BIT(FFN_POST_NORM))
#define LATENT (ENDS | BIT(ATTN_NORM) | BIT(KV_A) | BIT(KV_A_NORM) | BIT(K_B) | BIT(V_B) | BIT(O) | BIT(FFN_NORM))
#define MLP (BIT(GATE) | BIT(UP) | BIT(DOWN))
#define EXPERTS (BIT(ROUTER) | BIT(GATE_EXPS) | BIT(UP_EXPS) | BIT(DOWN_EXPS))
#define EXPERT_BIAS (BIT(ROUTER_BIAS) | BIT(GATE_EXPS_BIAS) | BIT(UP_EXPS_BIAS) | BIT(DOWN_EXPS_BIAS))
#define SHARED (BIT(GATE_SHARED) | BIT(UP_SHARED) | BIT(DOWN_SHARED))

static const struct cf_arch archs[] = {
    {.name = "llama",
        .needs = LAYER,
        .may = BIT(OUTPUT) | QKV_BIAS | BIT(O_BIAS),
        .needs_mlp = MLP,
        .needs_moe = EXPERTS,
        .norm_weights = true},
    {.name = "qwen2", .needs = LAYER, .may = BIT(OUTPUT) | QKV_BIAS, .needs_mlp = MLP, .neox = true},
    {.name = "qwen3", .needs = LAYER | QK_NORM, .may = BIT(OUTPUT) | QKV_BIAS, .needs_mlp = MLP, .neox = true},
    {.name = "qwen2moe",
        .needs = LAYER,
        .may = BIT(OUTPUT) | QKV_BIAS,
        .needs_mlp = MLP,
        .needs_moe = EXPERTS | SHARED | BIT(SHARED_ROUTER),
        .neox = true},
    {.name = "qwen3moe",
        .needs = LAYER | QK_NORM,
        .may = BIT(OUTPUT) | QKV_BIAS,
        .needs_mlp = MLP,
        .needs_moe = EXPERTS,
        .neox = true,
        .norm_weights = true},
    {.name = "gemma",
        .needs = LAYER,
        .may = BIT(OUTPUT),
        .needs_mlp = MLP,
        .neox = true,
        .embd_scale = true,
        .act = CF_ACT_GELU},
    {.name = "gemma2",
        .needs = LAYER | POST_NORMS,
        .may = BIT(OUTPUT),
        .needs_mlp = MLP,
        .neox = true,
        .embd_scale = true,
        .scale_by_width = true,
        .width_layers = 46,
        .attn_cap = 50,
        .logit_cap = 30,
        .act = CF_ACT_GELU,
        .window = 4096,
        .pattern = 2},
    {.name = "gemma3",
        .needs = LAYER | POST_NORMS | QK_NORM,
        .may = BIT(OUTPUT),
        .needs_mlp = MLP,
        .neox = true,
        .embd_scale = true,
        .scale_by_width = true,
        .width_layers = 62,
        .act = CF_ACT_GELU,
        .pattern = 6,
        .window_base = 10000.0f},
    {.name = "phi3", .needs = LAYER, .may = BIT(OUTPUT) | QKV_BIAS, .needs_mlp = MLP, .neox = true},
    {.name = "gpt-oss",
        .needs = LAYER | BIT(SINKS),
        .may = BIT(OUTPUT) | QKV_BIAS | BIT(O_BIAS),
        .needs_moe = EXPERTS,
        .may_moe = EXPERT_BIAS,
        .neox = true,
        .act = CF_ACT_SWIGLU_OAI,
        .gating = CF_GATING_SOFTMAX_CHOSEN,
        .pattern = 2,
        .ffn_norm = "blk.%u.post_attention_norm.weight"},
    {.name = "glm4moe",
        .needs = LAYER,
        .may = BIT(OUTPUT) | QKV_BIAS | QK_NORM,
        .needs_mlp = MLP,
        .needs_moe = EXPERTS | SHARED,
        .may_moe = BIT(CHOICE_BIAS),
        .neox = true,
        .gating = CF_GATING_SIGMOID,
        .ffn_norm = "blk.%u.post_attention_norm.weight"},
    {.name = "deepseek2",
        .needs = LATENT,
        .may = BIT(OUTPUT),
        .needs_mlp = MLP,
        .needs_moe = EXPERTS,
        .may_moe = SHARED | BIT(CHOICE_BIAS)},
};
enum { ARCHS = sizeof archs / sizeof *archs };

const struct cf_arch *cf_arch_at(uint32_t i) {
    return i < ARCHS ? &archs[i] : NULL;
}

const struct cf_arch *cf_arch_by_name(const char *name) {
    for (uint32_t i = 0; i < ARCHS; i++)
        if (!strcmp(archs[i].name, name)) return &archs[i];
    return NULL;
}

void cf_arch_list(char *text, size_t size) {
    size_t n = 0;
    for (uint32_t i = 0; i < ARCHS && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", i ? ", " : "", archs[i].name);
}
