/* The keys ARCH.* of `coffer synth`: what llama.cpp's converter writes for the architecture, with the shape that was
 * asked for. Options that an architecture has no use for have been refused before (synth.c). */
#include <stdio.h>
#include <string.h>

#include "coordinator/commands/synth/synth.h"

/* Of the mean score that YaRN grows by, DeepSeek takes a share into the scale of the scores: 0.1 times its 0.707. */
static const float deepseek_log_multiplier = 0.0707f;
/* Phi-3's own for a context that grows 32-fold. */
static const float phi3_attn_factor = 1.190238f;

static const char *key_of(const struct cf__synth *s, const char *name, char *buffer, size_t size) {
    snprintf(buffer, size, "%s.%s", s->arch, name);
    return buffer;
}

static int add_u32(
    struct cf_gguf_writer *w, const struct cf__synth *s, const char *name, int64_t value, struct cf_error *e) {
    char key[96];
    return cf_gguf_add_u32(w, key_of(s, name, key, sizeof key), (uint32_t)value, e);
}

static int add_f32(
    struct cf_gguf_writer *w, const struct cf__synth *s, const char *name, double value, struct cf_error *e) {
    char key[96];
    return cf_gguf_add_f32(w, key_of(s, name, key, sizeof key), (float)value, e);
}

/* Sizes of keys and values. Latent attention has one head of the cache and, in newer files, the sizes of heads apart.
 */
static int write_heads(struct cf_gguf_writer *w, const struct cf__synth *s, bool latent, struct cf_error *e) {
    bool absorbed = latent && !s->fused_kv_b;
    const struct {
        const char *key;
        int64_t value;
        bool here;
    } numbers[] = {
        {"attention.head_count", s->heads, true},
        {"attention.head_count_kv",
            !latent    ? s->kv_heads
            : absorbed ? 1
                       : s->heads,
            true},
        {"attention.key_length", absorbed ? s->kv_rank + s->rope_dim : s->head_dim, true},
        {"attention.value_length", absorbed ? s->kv_rank : s->value_dim, true},
        {"attention.key_length_mla", s->head_dim, absorbed},
        {"attention.value_length_mla", s->value_dim, absorbed},
        {"attention.q_lora_rank", s->q_rank, latent && s->q_rank},
        {"attention.kv_lora_rank", s->kv_rank, latent},
        {"attention.sliding_window", s->window, s->window > 0},
        {"attention.sliding_window_pattern", s->window_pattern, s->window_pattern > 0},
        {"rope.dimension_count", s->rope_dim, true},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].here && add_u32(w, s, numbers[i].key, numbers[i].value, e)) return -1;
    return 0;
}

static int write_experts(struct cf_gguf_writer *w, const struct cf__synth *s, struct cf_error *e) {
    bool qwen2 = !strcmp(s->arch, "qwen2moe"), own_width = strcmp(s->arch, "llama") != 0;
    const struct {
        const char *key;
        int64_t value;
        bool here;
    } numbers[] = {
        {"expert_count", s->experts, true},
        {"expert_used_count", s->experts_used, true},
        {"expert_feed_forward_length", s->expert_ffn, own_width},
        {"expert_shared_feed_forward_length", s->shared_experts * s->expert_ffn, qwen2},
        {"expert_shared_count", s->shared_experts, s->gating},
        {"leading_dense_block_count", s->dense_layers, s->gating},
        {"nextn_predict_layers", s->nextn, s->nextn > 0},
        {"expert_group_count", s->groups, s->groups > 1},
        {"expert_group_used_count", s->groups_used, s->groups > 1},
        {"expert_gating_func", s->gating && !strcmp(s->gating, "sigmoid") ? 2 : 1, s->gating},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].here && add_u32(w, s, numbers[i].key, numbers[i].value, e)) return -1;
    if (!s->gating) return 0;
    char key[96];
    bool sigmoid = !strcmp(s->gating, "sigmoid");
    return add_f32(w, s, "expert_weights_scale", sigmoid ? 2.5 : 4.0, e) ||
                   cf_gguf_add_bool(w, key_of(s, "expert_weights_norm", key, sizeof key), sigmoid, e)
               ? -1
               : 0;
}

/* The scaling of Llama 3 is a tensor (rope_freqs.weight) and no key; that of Phi-3 has two. */
static int write_rope(struct cf_gguf_writer *w, const struct cf__synth *s, bool latent, struct cf_error *e) {
    bool yarn = !strcmp(s->rope_scaling, "yarn"), linear = !strcmp(s->rope_scaling, "linear");
    bool longrope = !strcmp(s->rope_scaling, "longrope");
    char key[96];
    if (add_f32(w, s, "rope.freq_base", s->rope_base, e)) return -1;
    if ((yarn || linear) && (cf_gguf_add_str(w, key_of(s, "rope.scaling.type", key, sizeof key), s->rope_scaling, e) ||
                                add_f32(w, s, "rope.scaling.factor", s->rope_factor, e)))
        return -1;
    if (longrope && add_f32(w, s, "rope.scaling.attn_factor", phi3_attn_factor, e)) return -1;
    if (yarn && latent && add_f32(w, s, "rope.scaling.yarn_log_multiplier", deepseek_log_multiplier, e)) return -1;
    int64_t original = (int64_t)((double)s->ctx / s->rope_factor);
    if (!yarn && !longrope) return 0;
    return add_u32(w, s, "rope.scaling.original_context_length", original ? original : 1, e);
}

int cf__synth_keys(struct cf_gguf_writer *w, const struct cf__synth *s, struct cf_error *e) {
    bool latent = cf__synth_arch(s->arch)->latent, gemma2 = !strcmp(s->arch, "gemma2");
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"context_length", s->ctx},
        {"embedding_length", s->dim},
        {"block_count", s->layers + s->nextn},
        {"feed_forward_length", s->ffn},
        {"vocab_size", s->vocab},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (add_u32(w, s, numbers[i].key, numbers[i].value, e)) return -1;
    if (write_heads(w, s, latent, e) || add_f32(w, s, "attention.layer_norm_rms_epsilon", 1e-5, e) ||
        write_rope(w, s, latent, e))
        return -1;
    if (gemma2 && (add_f32(w, s, "attn_logit_softcapping", 50, e) || add_f32(w, s, "final_logit_softcapping", 30, e)))
        return -1;
    return s->experts ? write_experts(w, s, e) : 0;
}
