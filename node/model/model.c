/* See model.h: the table of tensors and the numbers of a llama model, checked against the file. */
#include "node/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct cf_tensor_spec cf_tensor_specs[CF_ROLES] = {
    {CF_W_TOKEN_EMBD, "token_embd.weight", CF_PREFRONTAL, CF_SPLIT_VOCAB, false},
    {CF_W_OUTPUT_NORM, "output_norm.weight", CF_PREFRONTAL, CF_SPLIT_REPLICATED, false},
    {CF_W_OUTPUT, "output.weight", CF_PREFRONTAL, CF_SPLIT_VOCAB, true},
    {CF_W_ATTN_NORM, "blk.%u.attn_norm.weight", CF_LEFT_HEMI, CF_SPLIT_REPLICATED, false},
    {CF_W_Q, "blk.%u.attn_q.weight", CF_LEFT_HEMI, CF_SPLIT_Q_ROWS, false},
    {CF_W_K, "blk.%u.attn_k.weight", CF_LEFT_HEMI, CF_SPLIT_KV_ROWS, false},
    {CF_W_V, "blk.%u.attn_v.weight", CF_LEFT_HEMI, CF_SPLIT_KV_ROWS, false},
    {CF_W_Q_BIAS, "blk.%u.attn_q.bias", CF_LEFT_HEMI, CF_SPLIT_Q_ROWS, true},
    {CF_W_K_BIAS, "blk.%u.attn_k.bias", CF_LEFT_HEMI, CF_SPLIT_KV_ROWS, true},
    {CF_W_V_BIAS, "blk.%u.attn_v.bias", CF_LEFT_HEMI, CF_SPLIT_KV_ROWS, true},
    {CF_W_O, "blk.%u.attn_output.weight", CF_LEFT_HEMI, CF_SPLIT_ATTN_COLUMNS, false},
    {CF_W_O_BIAS, "blk.%u.attn_output.bias", CF_LEFT_HEMI, CF_SPLIT_REPLICATED, true},
    {CF_W_FFN_NORM, "blk.%u.ffn_norm.weight", CF_RIGHT_HEMI, CF_SPLIT_REPLICATED, false},
    {CF_W_GATE, "blk.%u.ffn_gate.weight", CF_RIGHT_HEMI, CF_SPLIT_FFN_ROWS, false},
    {CF_W_UP, "blk.%u.ffn_up.weight", CF_RIGHT_HEMI, CF_SPLIT_FFN_ROWS, false},
    {CF_W_DOWN, "blk.%u.ffn_down.weight", CF_RIGHT_HEMI, CF_SPLIT_FFN_COLUMNS, false},
};

const struct cf_gguf_tensor *cf_model_tensor(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer) {
    char name[64];
    if (role == CF_W_OUTPUT && m->tied) role = CF_W_TOKEN_EMBD;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(name, sizeof name, cf_tensor_specs[role].name, layer);
#pragma GCC diagnostic pop
    return cf_gguf_tensor(g, name);
}

struct cf_heads cf_model_heads(const struct cf_model *m, uint32_t first, uint32_t last) {
    struct cf_heads h = {cf_axis_cut(&m->attn, first) / m->d_v, cf_axis_cut(&m->attn, last) / m->d_v, 0, 0};
    if (h.q0 == h.q1) return (struct cf_heads){0, 0, 0, 0};
    uint32_t per = m->n_head / m->n_head_kv;
    h.kv0 = h.q0 / per;
    h.kv1 = (h.q1 + per - 1) / per;
    return h;
}

struct cf_slice cf_model_slice(const struct cf_model *m, enum cf_role role, uint32_t first, uint32_t last) {
    struct cf_heads h;
    struct cf_slice s = {0, 0, 0, m->n_embd};
    switch (cf_tensor_specs[role].split) {
    case CF_SPLIT_VOCAB:
        s.row0 = first * CF_TILE;
        s.row1 = last * CF_TILE < m->n_vocab ? last * CF_TILE : m->n_vocab;
        break;
    case CF_SPLIT_Q_ROWS:
        h = cf_model_heads(m, first, last);
        s.row0 = h.q0 * m->d_k, s.row1 = h.q1 * m->d_k;
        break;
    case CF_SPLIT_KV_ROWS:
        h = cf_model_heads(m, first, last);
        s.row0 = h.kv0 * (role == CF_W_V || role == CF_W_V_BIAS ? m->d_v : m->d_k);
        s.row1 = h.kv1 * (role == CF_W_V || role == CF_W_V_BIAS ? m->d_v : m->d_k);
        break;
    case CF_SPLIT_ATTN_COLUMNS:
        s.row1 = m->n_embd, s.c0 = cf_axis_cut(&m->attn, first), s.c1 = cf_axis_cut(&m->attn, last);
        break;
    case CF_SPLIT_FFN_ROWS: s.row0 = cf_axis_cut(&m->ffn, first), s.row1 = cf_axis_cut(&m->ffn, last); break;
    case CF_SPLIT_FFN_COLUMNS:
        s.row1 = m->n_embd, s.c0 = cf_axis_cut(&m->ffn, first), s.c1 = cf_axis_cut(&m->ffn, last);
        break;
    case CF_SPLIT_REPLICATED: s.row1 = 1; break;
    }
    return s;
}

/* The full shape that a role's tensor must have: columns (ne[0]) and rows (ne[1], 1 for vectors). */
static void role_shape(const struct cf_model *m, enum cf_role role, uint64_t *columns, uint64_t *rows, bool *vector) {
    *vector = false, *columns = m->n_embd, *rows = 1;
    switch (role) {
    case CF_W_TOKEN_EMBD:
    case CF_W_OUTPUT: *rows = m->n_vocab; return;
    case CF_W_Q: *rows = (uint64_t)m->n_head * m->d_k; return;
    case CF_W_K: *rows = (uint64_t)m->n_head_kv * m->d_k; return;
    case CF_W_V: *rows = (uint64_t)m->n_head_kv * m->d_v; return;
    case CF_W_O: *columns = m->attn.columns, *rows = m->n_embd; return;
    case CF_W_GATE:
    case CF_W_UP: *rows = m->n_ff; return;
    case CF_W_DOWN: *columns = m->n_ff, *rows = m->n_embd; return;
    case CF_W_Q_BIAS: *columns = (uint64_t)m->n_head * m->d_k, *vector = true; return;
    case CF_W_K_BIAS: *columns = (uint64_t)m->n_head_kv * m->d_k, *vector = true; return;
    case CF_W_V_BIAS: *columns = (uint64_t)m->n_head_kv * m->d_v, *vector = true; return;
    default: *vector = true; return;
    }
}

static int check_tensor(
    struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer, struct cf_error *e) {
    const struct cf_gguf_tensor *t = cf_model_tensor(m, g, role, layer);
    if (!t) {
        if (cf_tensor_specs[role].optional) return 0;
        char name[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(name, sizeof name, cf_tensor_specs[role].name, layer);
#pragma GCC diagnostic pop
        return cf_fail(e, CF_ERR_FORMAT, "%s: tensor %s is missing", cf_gguf_path(g), name);
    }
    const struct cf_type *type = cf_type_by_id(t->type);
    if (!type) {
        const char *name = cf_type_name(t->type);
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: tensor %s has type %s (%u), which this program cannot multiply yet",
            cf_gguf_path(g), t->name, name ? name : "unknown", t->type);
    }
    uint64_t columns, rows;
    bool vector;
    role_shape(m, role, &columns, &rows, &vector);
    if (t->ne[0] != columns || t->ne[1] != rows || t->ne[2] != 1 || t->ne[3] != 1)
        return cf_fail(e, CF_ERR_FORMAT,
            "%s: tensor %s has shape [%llu, %llu], but the header's numbers ask for [%llu, %llu]", cf_gguf_path(g),
            t->name, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1], (unsigned long long)columns,
            (unsigned long long)rows);
    if (vector && type->quantised)
        return cf_fail(
            e, CF_ERR_UNSUPPORTED, "%s: tensor %s is a vector of type %s", cf_gguf_path(g), t->name, type->name);
    if (!vector && type->quantised) m->quantised = true;
    return 0;
}

static int read_rope(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    struct cf_rope *r = &m->rope;
    *r = (struct cf_rope){.n_dims = m->d_k,
        .base = 10000.0f,
        .factor = 1.0f,
        .attn_factor = 1.0f,
        .ext_factor = 0.0f,
        .beta_fast = 32.0f,
        .beta_slow = 1.0f,
        .original_context = m->n_ctx_train};
    const char *scaling = "none";
    float linear = 0.0f;
    if (cf_gguf_u32(g, "llama.rope.dimension_count", false, &r->n_dims, e) ||
        cf_gguf_f32(g, "llama.rope.freq_base", false, &r->base, e) ||
        cf_gguf_str(g, "llama.rope.scaling.type", false, &scaling, e) ||
        cf_gguf_f32(g, "llama.rope.scale_linear", false, &linear, e) ||
        cf_gguf_f32(g, "llama.rope.scaling.factor", false, &r->factor, e) ||
        cf_gguf_f32(g, "llama.rope.scaling.attn_factor", false, &r->attn_factor, e) ||
        cf_gguf_u32(g, "llama.rope.scaling.original_context_length", false, &r->original_context, e) ||
        cf_gguf_f32(g, "llama.rope.scaling.yarn_ext_factor", false, &r->ext_factor, e) ||
        cf_gguf_f32(g, "llama.rope.scaling.yarn_attn_factor", false, &r->attn_factor, e) ||
        cf_gguf_f32(g, "llama.rope.scaling.yarn_beta_fast", false, &r->beta_fast, e) ||
        cf_gguf_f32(g, "llama.rope.scaling.yarn_beta_slow", false, &r->beta_slow, e))
        return -1;
    if (!strcmp(scaling, "yarn")) {
        r->scaling = CF_ROPE_YARN;
        if (!cf_gguf_value(g, "llama.rope.scaling.yarn_ext_factor")) r->ext_factor = 1.0f;
    } else if (!strcmp(scaling, "linear")) {
        r->scaling = CF_ROPE_LINEAR;
    } else if (strcmp(scaling, "none") && strcmp(scaling, "llama3")) {
        return cf_fail(e, CF_ERR_UNSUPPORTED,
            "%s: llama.rope.scaling.type is \"%s\"; known: none, linear, llama3, yarn", cf_gguf_path(g), scaling);
    }
    if (linear != 0.0f && r->scaling == CF_ROPE_NONE) r->scaling = CF_ROPE_LINEAR, r->factor = linear;
    if (r->n_dims > m->d_k || r->n_dims % 2 || !r->n_dims)
        return cf_fail(e, CF_ERR_FORMAT, "%s: llama.rope.dimension_count is %u with heads of %u", cf_gguf_path(g),
            r->n_dims, m->d_k);
    if (!(r->base > 0.0f) || !(r->factor > 0.0f) || !isfinite(r->base) || !isfinite(r->factor) || !r->original_context)
        return cf_fail(
            e, CF_ERR_FORMAT, "%s: llama.rope.* holds a base, factor or context that is not positive", cf_gguf_path(g));
    const struct cf_gguf_tensor *t = cf_gguf_tensor(g, "rope_freqs.weight");
    if (!t) return 0;
    if (t->type != CF_TYPE_F32 || t->ne[0] != r->n_dims / 2 || t->ne[1] != 1)
        return cf_fail(
            e, CF_ERR_FORMAT, "%s: tensor rope_freqs.weight is not %u f32 numbers", cf_gguf_path(g), r->n_dims / 2);
    m->rope_factors = malloc(r->n_dims / 2 * sizeof(float));
    if (!m->rope_factors) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (cf_gguf_read(g, t, 0, m->rope_factors, r->n_dims / 2 * sizeof(float), e)) return -1;
    r->factors = m->rope_factors;
    return 0;
}

static int read_numbers(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    if (cf_gguf_u32(g, "llama.block_count", true, &m->n_layers, e) ||
        cf_gguf_u32(g, "llama.embedding_length", true, &m->n_embd, e) ||
        cf_gguf_u32(g, "llama.feed_forward_length", true, &m->n_ff, e) ||
        cf_gguf_u32(g, "llama.attention.head_count", true, &m->n_head, e) ||
        cf_gguf_u32(g, "llama.context_length", true, &m->n_ctx_train, e) ||
        cf_gguf_f32(g, "llama.attention.layer_norm_rms_epsilon", true, &m->rms_eps, e))
        return -1;
    m->n_head_kv = m->n_head;
    if (cf_gguf_u32(g, "llama.attention.head_count_kv", false, &m->n_head_kv, e)) return -1;
    if (!m->n_layers || !m->n_embd || !m->n_ff || !m->n_head || !m->n_head_kv || !m->n_ctx_train)
        return cf_fail(e, CF_ERR_FORMAT, "%s: a count in llama.* is zero", cf_gguf_path(g));
    if (m->n_layers > 4096 || m->n_embd > 1u << 20 || m->n_ff > 1u << 22 || m->n_head > 4096 ||
        m->n_head % m->n_head_kv)
        return cf_fail(e, CF_ERR_FORMAT, "%s: llama.* holds counts that no model has (%u layers, %u wide, %u/%u heads)",
            cf_gguf_path(g), m->n_layers, m->n_embd, m->n_head, m->n_head_kv);
    m->d_k = m->n_embd / m->n_head;
    if (cf_gguf_u32(g, "llama.attention.key_length", false, &m->d_k, e)) return -1;
    m->d_v = m->d_k;
    if (cf_gguf_u32(g, "llama.attention.value_length", false, &m->d_v, e)) return -1;
    if (!m->d_k || !m->d_v || m->d_k > 1024 || m->d_v > 1024)
        return cf_fail(e, CF_ERR_FORMAT, "%s: heads of %u and %u columns", cf_gguf_path(g), m->d_k, m->d_v);
    uint32_t n_expert = 0;
    if (cf_gguf_u32(g, "llama.expert_count", false, &n_expert, e)) return -1;
    if (n_expert)
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: a llama model with %u experts; experts are not supported yet",
            cf_gguf_path(g), n_expert);
    return 0;
}

static uint32_t lcm(uint32_t a, uint32_t b) {
    uint32_t x = a, y = b;
    while (y) {
        uint32_t t = x % y;
        x = y, y = t;
    }
    return a / x * b;
}

int cf_model_open(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    memset(m, 0, sizeof *m);
    if (cf_gguf_str(g, "general.architecture", true, &m->arch, e)) return -1;
    if (strcmp(m->arch, "llama"))
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: architecture \"%s\" is not supported; supported: llama",
            cf_gguf_path(g), m->arch);
    if (read_numbers(m, g, e)) return -1;
    const struct cf_gguf_tensor *embd = cf_gguf_tensor(g, "token_embd.weight");
    if (!embd) return cf_fail(e, CF_ERR_FORMAT, "%s: tensor token_embd.weight is missing", cf_gguf_path(g));
    if (!embd->ne[1] || embd->ne[1] > 1u << 24)
        return cf_fail(
            e, CF_ERR_FORMAT, "%s: a vocabulary of %llu tokens", cf_gguf_path(g), (unsigned long long)embd->ne[1]);
    m->n_vocab = (uint32_t)embd->ne[1];
    m->vocab_tiles = (m->n_vocab + CF_TILE - 1) / CF_TILE;
    m->tied = !cf_gguf_tensor(g, "output.weight");
    m->attn = cf_axis_make(m->n_head * m->d_v, lcm(CF_BLOCK, m->d_v), 24);
    m->ffn = cf_axis_make(m->n_ff, 64, 24);
    for (uint32_t l = 0; l < m->n_layers; l++)
        for (int role = l ? CF_FIRST_LAYER_ROLE : 0; role < CF_ROLES; role++)
            if (check_tensor(m, g, (enum cf_role)role, l, e)) return -1;
    if (read_rope(m, g, e)) {
        cf_model_close(m);
        return -1;
    }
    return 0;
}

void cf_model_close(struct cf_model *m) {
    free(m->rope_factors);
    m->rope_factors = NULL;
}
