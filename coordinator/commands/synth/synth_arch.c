/* The architectures of `coffer synth`: which tensors their layers have, and what they are like unless told otherwise:
 * small, and with everything that the family has. Sources: the GGUF files that llama.cpp's converter writes. */
#include <stdio.h>
#include <string.h>

#include "coordinator/commands/synth/synth.h"

#define BIT(w) (1ull << W_##w)
#define ATTENTION (BIT(ATTN_NORM) | BIT(Q) | BIT(K) | BIT(V) | BIT(O))
#define QKV_BIAS (BIT(Q_BIAS) | BIT(K_BIAS) | BIT(V_BIAS))
#define QK_NORM (BIT(Q_NORM) | BIT(K_NORM))
#define LATENT (BIT(ATTN_NORM) | BIT(KV_A) | BIT(KV_A_NORM) | BIT(O))
#define LOW_RANK_Q (BIT(Q_A) | BIT(Q_A_NORM) | BIT(Q_B))
#define POST_NORMS (BIT(ATTN_POST_NORM) | BIT(FFN_POST_NORM))
#define MLP (BIT(GATE) | BIT(UP) | BIT(DOWN))
#define EXPERTS (BIT(ROUTER) | BIT(GATE_EXPS) | BIT(UP_EXPS) | BIT(DOWN_EXPS))
#define EXPERT_BIASES (BIT(ROUTER_BIAS) | BIT(GATE_EXPS_BIAS) | BIT(UP_EXPS_BIAS) | BIT(DOWN_EXPS_BIAS))
#define SHARED (BIT(GATE_SHARED) | BIT(UP_SHARED) | BIT(DOWN_SHARED))
#define NEXTN (BIT(NEXTN_PROJECTION) | BIT(NEXTN_EMBD_NORM) | BIT(NEXTN_HIDDEN_NORM) | BIT(NEXTN_HEAD_NORM))

static const struct cf__synth_arch archs[] = {
    {.name = "llama",
        .rope_factors = "llama3",
        .attention = ATTENTION | BIT(FFN_NORM),
        .mlp = MLP,
        .moe = EXPERTS,
        .experts_used = 2},
    {.name = "qwen2", .attention = ATTENTION | QKV_BIAS | BIT(FFN_NORM), .mlp = MLP},
    {.name = "qwen3", .attention = ATTENTION | QK_NORM | BIT(FFN_NORM), .mlp = MLP},
    {.name = "qwen2moe",
        .attention = ATTENTION | QKV_BIAS | BIT(FFN_NORM),
        .moe = EXPERTS | SHARED | BIT(SHARED_ROUTER),
        .experts = 8,
        .experts_used = 3,
        .shared_experts = 2,
        .untied = true},
    {.name = "qwen3moe",
        .attention = ATTENTION | QK_NORM | BIT(FFN_NORM),
        .moe = EXPERTS,
        .experts = 8,
        .experts_used = 3},
    {.name = "gemma", .attention = ATTENTION | BIT(FFN_NORM), .mlp = MLP},
    {.name = "gemma2", .attention = ATTENTION | POST_NORMS | BIT(FFN_NORM), .mlp = MLP, .window = 4096},
    {.name = "gemma3",
        .attention = ATTENTION | QK_NORM | POST_NORMS | BIT(FFN_NORM),
        .mlp = MLP,
        .window = 1024,
        .rope_base = 1e6},
    {.name = "phi3",
        .rope_scaling = "longrope",
        .rope_factors = "longrope",
        .attention = BIT(ATTN_NORM) | BIT(QKV) | BIT(O) | BIT(FFN_NORM),
        .mlp = BIT(GATE_UP) | BIT(DOWN)},
    {.name = "gpt-oss",
        .rope_scaling = "yarn",
        .attention = ATTENTION | QKV_BIAS | BIT(O_BIAS) | BIT(SINKS) | BIT(ATTN_POST_NORM),
        .moe = EXPERTS | EXPERT_BIASES,
        .experts = 8,
        .experts_used = 3,
        .window = 128,
        .rope_base = 150000,
        .untied = true},
    {.name = "glm4moe",
        .attention = ATTENTION | QKV_BIAS | QK_NORM | BIT(ATTN_POST_NORM),
        .mlp = MLP,
        .moe = EXPERTS | SHARED | BIT(CHOICE_BIAS),
        .experts = 8,
        .experts_used = 3,
        .shared_experts = 1,
        .dense_layers = 1,
        .rope_part = 2,
        .rope_base = 1e6,
        .nextn = true},
    {.name = "deepseek2",
        .rope_scaling = "yarn",
        .attention = LATENT | LOW_RANK_Q | BIT(Q) | BIT(K_B) | BIT(V_B) | BIT(KV_B) | BIT(FFN_NORM),
        .mlp = MLP,
        .moe = EXPERTS | SHARED | BIT(CHOICE_BIAS),
        .experts = 16,
        .experts_used = 4,
        .shared_experts = 1,
        .dense_layers = 1,
        .groups = 4,
        .groups_used = 2,
        .value_dim = 64,
        .rope_part = 3,
        .latent = true,
        .nextn = true},
};
enum { ARCHS = sizeof archs / sizeof *archs };

const struct cf__synth_arch *cf__synth_arch(const char *name) {
    for (size_t i = 0; i < ARCHS; i++)
        if (!strcmp(archs[i].name, name)) return &archs[i];
    return NULL;
}

const char *cf__synth_arch_list(char *text, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < ARCHS && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", i ? ", " : "", archs[i].name);
    return text;
}

/* Gate and up of experts as one tensor. */
static uint64_t fused(uint64_t set) {
    if (set & BIT(GATE_EXPS)) set |= BIT(GATE_UP_EXPS);
    if (set & BIT(GATE_EXPS_BIAS)) set |= BIT(GATE_UP_EXPS_BIAS);
    return set & ~(BIT(GATE_EXPS) | BIT(UP_EXPS) | BIT(GATE_EXPS_BIAS) | BIT(UP_EXPS_BIAS));
}

uint64_t cf__synth_layer(const struct cf__synth_arch *arch, const struct cf__synth *s, int64_t layer) {
    bool moe = s->experts && layer >= s->dense_layers;
    uint64_t set = arch->attention | (moe ? arch->moe : arch->mlp);
    if (arch->latent) set &= ~(s->q_rank ? BIT(Q) : LOW_RANK_Q);
    if (arch->latent) set &= ~(s->fused_kv_b ? BIT(K_B) | BIT(V_B) : BIT(KV_B));
    if (s->fused_gate_up) set = fused(set);
    if (!s->qk_norm) set &= ~QK_NORM;
    if (!s->shared_experts) set &= ~SHARED;
    if (s->gating && strcmp(s->gating, "sigmoid") != 0) set &= ~BIT(CHOICE_BIAS);
    return layer < s->layers ? set : set | NEXTN;
}
