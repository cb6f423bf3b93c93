/* See model.h: the architecture of a file, its numbers, and every tensor checked against them. */
#include "node/model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A role of a layer, and the tensor of which part of it. */
struct place {
    enum cf_role role;
    uint32_t layer, part;
};

static int missing(const struct cf_model *m, const struct cf_gguf *g, struct place p, struct cf_error *e) {
    char name[64];
    cf_model_tensor_name(m, p.role, p.layer, p.part, name);
    return cf_fail(e, CF_ERR_FORMAT, "%s: tensor %s is missing, which a model of architecture %s needs",
        cf_gguf_path(g), name, m->arch);
}

/* The shape that the file's tensor has, of all roles that it holds. */
static struct cf_shape file_shape(const struct cf_model *m, enum cf_role role) {
    struct cf_shape s = cf_model_shape(m, role);
    const uint64_t qkv = (uint64_t)m->n_head * m->d_k + (uint64_t)m->n_head_kv * (m->d_k + m->d_v);
    if (m->fused_qkv && (role == CF_W_Q || role == CF_W_K || role == CF_W_V)) s.rows = qkv;
    if (m->fused_qkv && (role == CF_W_Q_BIAS || role == CF_W_K_BIAS || role == CF_W_V_BIAS)) s.columns = qkv;
    if (m->fused_gate_up && (role == CF_W_GATE || role == CF_W_UP)) s.rows = 2ull * m->n_ff;
    if (m->fused_kv_b && (role == CF_W_K_B || role == CF_W_V_B))
        s = (struct cf_shape){m->latent.latent, (uint64_t)m->n_head * (m->latent.plain + m->d_o), 1};
    if (m->experts.fused && (role == CF_W_GATE_EXPS || role == CF_W_UP_EXPS)) s.rows *= 2;
    if (m->experts.fused && (role == CF_W_GATE_EXPS_BIAS || role == CF_W_UP_EXPS_BIAS)) s.columns *= 2;
    return s;
}

static int check_tensor(struct cf_model *m, const struct cf_gguf *g, const struct cf_gguf_tensor *t, enum cf_role role,
    struct cf_error *e) {
    const struct cf_type *type = cf_type_by_id(t->type);
    if (!type) {
        const char *name = cf_type_name(t->type);
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: tensor %s has type %s (%u), which this program cannot multiply yet",
            cf_gguf_path(g), t->name, name ? name : "unknown", t->type);
    }
    struct cf_shape s = file_shape(m, role);
    if (cf_model_parts_apart(m, role)) s.parts = 1;
    if (t->ne[0] != s.columns || t->ne[1] != s.rows || t->ne[2] != s.parts || t->ne[3] != 1)
        return cf_fail(e, CF_ERR_FORMAT,
            "%s: tensor %s has shape [%llu, %llu, %llu], but the header's numbers ask for [%llu, %llu, %llu]",
            cf_gguf_path(g), t->name, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
            (unsigned long long)t->ne[2], (unsigned long long)s.columns, (unsigned long long)s.rows,
            (unsigned long long)s.parts);
    bool vector = cf_tensor_specs[role].vector;
    if (vector && type->quantised)
        return cf_fail(
            e, CF_ERR_UNSUPPORTED, "%s: tensor %s is a vector of type %s", cf_gguf_path(g), t->name, type->name);
    if (!vector && type->quantised) m->quantised = true;
    if ((role == CF_W_GATE_EXPS || role == CF_W_UP_EXPS) && !type->quantised) m->experts.floats = true;
    return 0;
}

/* The tensor of a role, or those of all its parts, which are held as one: they have one type. */
static int check_role(
    struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer, struct cf_error *e) {
    const struct cf_gguf_tensor *first = cf_model_tensor(m, g, role, layer);
    if (!first && !(cf_model_needs(m, layer) & CF_ROLE_BIT(role))) return 0;
    uint64_t n = cf_model_parts_apart(m, role) ? cf_model_shape(m, role).parts : 1;
    for (uint32_t part = 0; part < n; part++) {
        const struct cf_gguf_tensor *t = cf_model_part_tensor(m, g, role, layer, part);
        if (!t) return missing(m, g, (struct place){role, layer, part}, e);
        if (check_tensor(m, g, t, role, e)) return -1;
        if (t->type != first->type)
            return cf_fail(e, CF_ERR_UNSUPPORTED,
                "%s: tensor %s has type %s, but %s has type %s; coffer wants one type", cf_gguf_path(g), t->name,
                cf_type_name(t->type), first->name, cf_type_name(first->type));
    }
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

enum { CHUNKS = 24, UNIT = 64 };

static void make_axes(struct cf_model *m) {
    m->vocab_tiles = (m->n_vocab + CF_TILE - 1) / CF_TILE;
    m->attn = cf_axis_make(m->n_head * m->d_o, lcm(CF_BLOCK, m->d_o), CHUNKS);
    if (m->n_ff) m->ffn = cf_axis_make(m->n_ff, UNIT, CHUNKS);
    if (m->experts.n) m->exps = m->expert = cf_axis_make(m->experts.n_ff, UNIT, CHUNKS);
    if (m->experts.shared) m->shared = cf_axis_make(m->experts.shared, UNIT, m->exps.n_chunks);
}

static bool has(const struct cf_gguf *g, const char *form, uint32_t layer) {
    char name[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(name, sizeof name, form, layer);
#pragma GCC diagnostic pop
    return cf_gguf_tensor(g, name);
}

/* How the file has its experts: the first layer that has any speaks for all. */
static void look_at_experts(struct cf_model *m, const struct cf_gguf *g) {
    const uint32_t l = m->experts.dense;
    if (!m->experts.n) return;
    m->experts.fused = has(g, "blk.%u.ffn_gate_up_exps.weight", l);
    m->experts.single =
        !m->experts.fused && !has(g, "blk.%u.ffn_down_exps.weight", l) && has(g, "blk.%u.ffn_down.0.weight", l);
}

/* Tensors that hold several roles, and what else only the tensors tell. */
static int look(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    const struct cf_gguf_tensor *embd = cf_gguf_tensor(g, "token_embd.weight");
    if (!embd) return cf_fail(e, CF_ERR_FORMAT, "%s: tensor token_embd.weight is missing", cf_gguf_path(g));
    if (!embd->ne[1] || embd->ne[1] > 1u << 24)
        return cf_fail(
            e, CF_ERR_FORMAT, "%s: a vocabulary of %llu tokens", cf_gguf_path(g), (unsigned long long)embd->ne[1]);
    m->n_vocab = (uint32_t)embd->ne[1];
    m->tied = !cf_gguf_tensor(g, "output.weight");
    m->fused_qkv =
        !m->latent.latent && !cf_gguf_tensor(g, "blk.0.attn_q.weight") && cf_gguf_tensor(g, "blk.0.attn_qkv.weight");
    m->fused_kv_b =
        m->latent.latent && !cf_gguf_tensor(g, "blk.0.attn_k_b.weight") && cf_gguf_tensor(g, "blk.0.attn_kv_b.weight");
    look_at_experts(m, g);
    m->fused_gate_up = !cf_model_has_experts(m, 0) && !cf_gguf_tensor(g, "blk.0.ffn_gate.weight") &&
                       cf_gguf_tensor(g, "blk.0.ffn_up.weight");
    return 0;
}

void cf_model_whole_experts(struct cf_model *m) {
    if (!m->experts.n) return;
    m->experts.whole = true;
    m->exps = cf_axis_make(m->experts.n, 1, CHUNKS);
    if (m->experts.shared) m->shared = cf_axis_make(m->experts.shared, UNIT, m->exps.n_chunks);
}

int cf_model_open(struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    memset(m, 0, sizeof *m);
    if (cf_gguf_str(g, "general.architecture", true, &m->arch, e)) return -1;
    m->a = cf_arch_by_name(m->arch);
    if (!m->a) {
        char all[256];
        cf_arch_list(all, sizeof all);
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: architecture \"%s\" is not supported; supported: %s",
            cf_gguf_path(g), m->arch, all);
    }
    if (cf__model_numbers(m, g, e) || look(m, g, e)) return -1;
    make_axes(m);
    for (uint32_t l = 0; l < m->n_layers; l++)
        for (int role = l ? CF_FIRST_LAYER_ROLE : 0; role < CF_ROLES; role++)
            if (check_role(m, g, (enum cf_role)role, l, e)) return -1;
    if (cf__model_positions(m, g, e)) {
        cf_model_close(m);
        return -1;
    }
    return 0;
}

void cf_model_close(struct cf_model *m) {
    free(m->rope_factors);
    free(m->rope_long);
    free(m->windowed);
    m->rope_factors = m->rope_long = NULL;
    m->windowed = NULL;
}
