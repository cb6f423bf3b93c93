/* The numbers of a model from the keys of its architecture, checked before anything is sized by them. See model.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/model/model.h"

static void key_of(const struct cf_model *m, const char *suffix, char key[96]) {
    snprintf(key, 96, "%s.%s", m->arch, suffix);
}

int cf__model_u32(const struct cf_model *m, const struct cf_gguf *g, const char *suffix, bool required, uint32_t *v,
    struct cf_error *e) {
    char key[96];
    key_of(m, suffix, key);
    return cf_gguf_u32(g, key, required, v, e);
}

int cf__model_f32(const struct cf_model *m, const struct cf_gguf *g, const char *suffix, bool required, float *v,
    struct cf_error *e) {
    char key[96];
    key_of(m, suffix, key);
    return cf_gguf_f32(g, key, required, v, e);
}

/* A model of which a part would be left out without a word. */
static int further_layers(const struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        const char *name = cf_gguf_tensor_at(g, i)->name;
        char *end;
        if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9') continue;
        unsigned long layer = strtoul(name + 4, &end, 10);
        if (*end == '.' && layer >= m->n_layers)
            return cf_fail(e, CF_ERR_FORMAT, "%s: there is a tensor %.48s, but %s.block_count is %u", cf_gguf_path(g),
                name, m->arch, m->n_layers);
    }
    return 0;
}

static int read_counts(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    uint32_t extra = 0; /* layers that predict further tokens: held by nobody here */
    if (cf__model_u32(m, g, "block_count", true, &m->n_layers, e) ||
        cf__model_u32(m, g, "nextn_predict_layers", false, &extra, e) ||
        cf__model_u32(m, g, "embedding_length", true, &m->n_embd, e) ||
        cf__model_u32(m, g, "attention.head_count", true, &m->n_head, e) ||
        cf__model_u32(m, g, "context_length", true, &m->n_ctx_train, e) ||
        cf__model_f32(m, g, "attention.layer_norm_rms_epsilon", true, &m->rms_eps, e))
        return -1;
    m->n_head_kv = m->n_head;
    if (cf__model_u32(m, g, "attention.head_count_kv", false, &m->n_head_kv, e)) return -1;
    const struct {
        const char *suffix;
        uint32_t value, most;
    } counts[] = {{"block_count", m->n_layers, 4096}, {"embedding_length", m->n_embd, 1u << 20},
        {"attention.head_count", m->n_head, 4096}, {"attention.head_count_kv", m->n_head_kv, 4096},
        {"context_length", m->n_ctx_train, UINT32_MAX}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (!counts[i].value || counts[i].value > counts[i].most)
            return cf_fail(e, CF_ERR_FORMAT, "%s: %s.%s is %u, which no model has", cf_gguf_path(g), m->arch,
                counts[i].suffix, counts[i].value);
    if (m->n_head % m->n_head_kv)
        return cf_fail(e, CF_ERR_FORMAT,
            "%s: %s.attention.head_count is %u, no multiple of %s.attention.head_count_kv, %u", cf_gguf_path(g),
            m->arch, m->n_head, m->arch, m->n_head_kv);
    if (extra >= m->n_layers)
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s.nextn_predict_layers is %u of %u layers", cf_gguf_path(g), m->arch,
            extra, m->n_layers);
    if (further_layers(m, g, e)) return -1;
    m->n_layers -= extra;
    return 0;
}

static int read_heads(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    m->d_k = m->n_embd / m->n_head;
    if (cf__model_u32(m, g, "attention.key_length", false, &m->d_k, e)) return -1;
    m->d_v = m->d_k;
    if (cf__model_u32(m, g, "attention.value_length", false, &m->d_v, e)) return -1;
    m->d_o = m->d_v_apart = m->d_v;
    m->attn_scale = 1.0f / sqrtf((float)m->d_k);
    return 0;
}

/* Keys and values go through a latent vector: one KV head for all, in the cache as it is. */
static int read_latent(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    struct cf_latent *l = &m->latent;
    uint32_t d_k = m->d_k;
    if (cf__model_u32(m, g, "attention.kv_lora_rank", true, &l->latent, e) ||
        cf__model_u32(m, g, "attention.q_lora_rank", false, &l->query, e) ||
        cf__model_u32(m, g, "rope.dimension_count", true, &l->rot, e) ||
        cf__model_u32(m, g, "attention.key_length_mla", false, &d_k, e) ||
        cf__model_u32(m, g, "attention.value_length_mla", false, &m->d_o, e))
        return -1;
    if (!cf_gguf_tensor(g, "blk.0.attn_q_a.weight"))
        l->query = 0; /* the Lite models name a rank that they do not use */
    if (!l->latent || l->latent > 4096 || l->query > 1u << 20 || !l->rot || l->rot >= d_k || !m->d_o)
        return cf_fail(e, CF_ERR_FORMAT,
            "%s: %s.attention.* describes no latent attention (rank %u, heads of %u and %u, %u rotated)",
            cf_gguf_path(g), m->arch, l->latent, d_k, m->d_o, l->rot);
    l->plain = d_k - l->rot;
    m->n_head_kv = 1, m->d_k = l->latent + l->rot, m->d_v = l->latent, m->d_v_apart = 0;
    m->attn_scale = 1.0f / sqrtf((float)d_k);
    return 0;
}

static int read_experts(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    struct cf_experts *x = &m->experts;
    if (cf__model_u32(m, g, "expert_count", false, &x->n, e)) return -1;
    if (!x->n && m->a->needs_mlp) return 0;
    if (!m->a->needs_moe)
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: a %s model with %u experts; this architecture has none here",
            cf_gguf_path(g), m->arch, x->n);
    uint32_t gating = 0, shared = 0;
    bool norm = m->a->norm_weights;
    char key[96];
    key_of(m, "expert_weights_norm", key);
    x->scale = 1.0f, x->n_ff = 0;
    if (cf__model_u32(m, g, "expert_used_count", true, &x->used, e) ||
        cf__model_u32(m, g, "expert_feed_forward_length", false, &x->n_ff, e) ||
        cf__model_u32(m, g, "expert_shared_feed_forward_length", false, &x->shared, e) ||
        cf__model_u32(m, g, "expert_shared_count", false, &shared, e) ||
        cf__model_u32(m, g, "leading_dense_block_count", false, &x->dense, e) ||
        cf__model_u32(m, g, "expert_group_count", false, &x->groups, e) ||
        cf__model_u32(m, g, "expert_group_used_count", false, &x->groups_used, e) ||
        cf__model_u32(m, g, "expert_gating_func", false, &gating, e) ||
        cf__model_f32(m, g, "expert_weights_scale", false, &x->scale, e) || cf_gguf_bool(g, key, false, &norm, e))
        return -1;
    if (x->dense && !m->a->needs_mlp)
        return cf_fail(e, CF_ERR_FORMAT,
            "%s: %s.leading_dense_block_count is %u, but every layer of this architecture has experts", cf_gguf_path(g),
            m->arch, x->dense);
    if (shared > 1024 || x->n_ff > 1u << 22)
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s.expert_* holds counts that no model has (%u shared experts, %u wide)",
            cf_gguf_path(g), m->arch, shared, x->n_ff);
    bool has_shared = (m->a->needs_moe | m->a->may_moe) & CF_ROLE_BIT(CF_W_UP_SHARED);
    if (!x->n_ff) x->n_ff = has_shared && x->used ? m->n_ff / x->used : m->n_ff;
    if (!x->shared) x->shared = shared ? shared * x->n_ff : m->a->needs_moe & CF_ROLE_BIT(CF_W_UP_SHARED) ? m->n_ff : 0;
    if (!has_shared) x->shared = 0;
    if (x->scale == 0.0f) x->scale = 1.0f;
    x->norm = norm, x->gating = gating ? (enum cf_gating)gating : m->a->gating ? m->a->gating : CF_GATING_SOFTMAX;
    if (!x->n || x->n > CF_MAX_EXPERTS || !x->used || x->used > x->n || x->used > CF_MAX_CHOSEN || !x->n_ff ||
        x->n_ff > 1u << 22 || x->shared > 1u << 22 || !isfinite(x->scale))
        return cf_fail(e, CF_ERR_FORMAT,
            "%s: %s.expert_* holds counts that no model has (%u of %u experts, %u and %u wide)", cf_gguf_path(g),
            m->arch, x->used, x->n, x->n_ff, x->shared);
    if (x->gating < CF_GATING_SOFTMAX || x->gating > CF_GATING_SOFTMAX_CHOSEN)
        return cf_fail(e, CF_ERR_UNSUPPORTED,
            "%s: %s.expert_gating_func is %u; known: 1 softmax, 2 sigmoid, 3 softmax of the chosen", cf_gguf_path(g),
            m->arch, gating);
    if (x->groups > 1 && (x->n % x->groups || x->n / x->groups < 2 || !x->groups_used || x->groups_used > x->groups ||
                             x->used > x->groups_used * (x->n / x->groups)))
        return cf_fail(e, CF_ERR_FORMAT, "%s: %u of %u groups of experts do not hold the %u of %u that are chosen",
            cf_gguf_path(g), x->groups_used, x->groups, x->used, x->n);
    return 0;
}

/* Scales and caps. */
static int read_scales(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    m->embd_scale = m->a->embd_scale ? sqrtf((float)m->n_embd) : 1.0f;
    if (m->a->scale_by_width && m->n_layers == m->a->width_layers)
        m->attn_scale = 1.0f / sqrtf((float)(m->n_embd / m->n_head));
    m->attn_cap = m->a->attn_cap, m->logit_cap = m->a->logit_cap;
    if (cf__model_f32(m, g, "attn_logit_softcapping", false, &m->attn_cap, e) ||
        cf__model_f32(m, g, "final_logit_softcapping", false, &m->logit_cap, e))
        return -1;
    if (!isfinite(m->attn_cap) || m->attn_cap < 0 || !isfinite(m->logit_cap) || m->logit_cap < 0)
        return cf_fail(
            e, CF_ERR_FORMAT, "%s: %s.*_logit_softcapping is not a positive number", cf_gguf_path(g), m->arch);
    return 0;
}

int cf__model_numbers(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    if (read_counts(m, g, e) || read_heads(m, g, e)) return -1;
    bool latent = m->a->needs & CF_ROLE_BIT(CF_W_KV_A);
    if (cf__model_u32(m, g, "feed_forward_length", m->a->needs_mlp && !m->a->needs_moe, &m->n_ff, e)) return -1;
    if ((latent && read_latent(m, g, e)) || read_experts(m, g, e) || read_scales(m, g, e)) return -1;
    bool dense = !m->experts.n || m->experts.dense > 0;
    if (m->n_ff > 1u << 22 || (dense && !m->n_ff))
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s.feed_forward_length is %u", cf_gguf_path(g), m->arch, m->n_ff);
    if (!m->d_k || !m->d_v || m->d_k > 1024 || m->d_v > 1024 || m->d_o > 1024)
        return cf_fail(e, CF_ERR_FORMAT, "%s: heads of %u and %u columns", cf_gguf_path(g), m->d_k, m->d_v);
    return 0;
}
