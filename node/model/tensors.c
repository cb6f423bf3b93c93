/* Which tensor a role is, what shape it must have, and which part of it a member of a group holds. See model.h. */
#include <stdio.h>
#include <string.h>

#include "node/model/model.h"

uint64_t cf_model_needs(const struct cf_model *m, uint32_t layer) {
    const uint64_t latent_query = CF_ROLE_BIT(CF_W_Q_A) | CF_ROLE_BIT(CF_W_Q_A_NORM) | CF_ROLE_BIT(CF_W_Q_B);
    const uint64_t shared = CF_ROLE_BIT(CF_W_GATE_SHARED) | CF_ROLE_BIT(CF_W_UP_SHARED) | CF_ROLE_BIT(CF_W_DOWN_SHARED);
    uint64_t needs = m->a->needs | (cf_model_has_experts(m, layer) ? m->a->needs_moe : m->a->needs_mlp);
    if (m->experts.shared && cf_model_has_experts(m, layer)) needs |= shared;
    if (m->latent.latent) needs |= m->latent.query ? latent_query : CF_ROLE_BIT(CF_W_Q);
    return needs;
}

uint64_t cf_model_may(const struct cf_model *m, uint32_t layer) {
    return m->a->may | (cf_model_has_experts(m, layer) ? m->a->may_moe : 0);
}

/* The matrices of experts in files that have gate and up in one tensor, or a tensor for each expert. */
static const char *form_of_experts(const struct cf_experts *x, enum cf_role role, const char *usual) {
    static const struct {
        enum cf_role role;
        const char *fused, *single; /* NULL: as usual */
    } forms[] = {
        {CF_W_GATE_EXPS, "blk.%u.ffn_gate_up_exps.weight", "blk.%u.ffn_gate.%u.weight"},
        {CF_W_UP_EXPS, "blk.%u.ffn_gate_up_exps.weight", "blk.%u.ffn_up.%u.weight"},
        {CF_W_DOWN_EXPS, NULL, "blk.%u.ffn_down.%u.weight"},
        {CF_W_GATE_EXPS_BIAS, "blk.%u.ffn_gate_up_exps.bias", NULL},
        {CF_W_UP_EXPS_BIAS, "blk.%u.ffn_gate_up_exps.bias", NULL},
    };
    const char *form = NULL;
    for (size_t i = 0; (x->fused || x->single) && i < sizeof forms / sizeof *forms; i++)
        if (forms[i].role == role) form = x->fused ? forms[i].fused : forms[i].single;
    return form ? form : usual;
}

void cf_model_tensor_name(const struct cf_model *m, enum cf_role role, uint32_t layer, uint32_t part, char name[64]) {
    static const char *const qkv[] = {"blk.%u.attn_qkv.weight", "blk.%u.attn_qkv.bias"};
    const char *form = form_of_experts(&m->experts, role, cf_tensor_specs[role].name);
    if (role == CF_W_OUTPUT && m->tied) form = cf_tensor_specs[CF_W_TOKEN_EMBD].name;
    if (role == CF_W_FFN_NORM && m->a->ffn_norm) form = m->a->ffn_norm;
    if (m->fused_qkv && (role == CF_W_Q || role == CF_W_K || role == CF_W_V)) form = qkv[0];
    if (m->fused_qkv && (role == CF_W_Q_BIAS || role == CF_W_K_BIAS || role == CF_W_V_BIAS)) form = qkv[1];
    if (m->fused_gate_up && role == CF_W_GATE) form = cf_tensor_specs[CF_W_UP].name;
    if (m->fused_kv_b && (role == CF_W_K_B || role == CF_W_V_B)) form = "blk.%u.attn_kv_b.weight";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(name, 64, form, layer, part);
#pragma GCC diagnostic pop
}

static bool is_stack_of_experts(enum cf_role role) {
    return role == CF_W_GATE_EXPS || role == CF_W_UP_EXPS || role == CF_W_DOWN_EXPS;
}

bool cf_model_parts_apart(const struct cf_model *m, enum cf_role role) {
    return m->experts.single && is_stack_of_experts(role);
}

struct cf_place cf_model_place(const struct cf_model *m, enum cf_role role) {
    uint32_t q = m->n_head * m->d_k, k = m->n_head_kv * m->d_k;
    struct cf_place p = {.part_rows = (uint32_t)cf_model_shape(m, role).rows};
    if (m->fused_qkv && (role == CF_W_K || role == CF_W_K_BIAS)) p.row = q;
    if (m->fused_qkv && (role == CF_W_V || role == CF_W_V_BIAS)) p.row = q + k;
    if (m->fused_gate_up && role == CF_W_UP) p.row = m->n_ff;
    if (m->experts.fused && (role == CF_W_UP_EXPS || role == CF_W_UP_EXPS_BIAS)) p.row = m->experts.n_ff;
    if (m->experts.fused && (role == CF_W_GATE_EXPS || role == CF_W_UP_EXPS)) p.part_rows = 2 * m->experts.n_ff;
    if (cf_model_parts_apart(m, role)) p.part_rows = 0;
    if (!m->fused_kv_b || (role != CF_W_K_B && role != CF_W_V_B)) return p;
    p.part_rows = m->latent.plain + m->d_o;
    if (role == CF_W_V_B)
        p.row = m->latent.plain;
    else
        p.transposed = true;
    return p;
}

const struct cf_gguf_tensor *cf_model_part_tensor(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer, uint32_t part) {
    if (!((cf_model_needs(m, layer) | cf_model_may(m, layer)) & CF_ROLE_BIT(role))) return NULL;
    char name[64];
    cf_model_tensor_name(m, role, layer, part, name);
    return cf_gguf_tensor(g, name);
}

const struct cf_gguf_tensor *cf_model_tensor(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer) {
    return cf_model_part_tensor(m, g, role, layer, 0);
}

struct cf_shape cf_model_shape(const struct cf_model *m, enum cf_role role) {
    uint32_t d_q = m->latent.latent ? m->latent.plain + m->latent.rot : m->d_k;
    struct cf_shape s = {m->n_embd, 1, 1};
    switch (role) {
    case CF_W_TOKEN_EMBD:
    case CF_W_OUTPUT: s.rows = m->n_vocab; break;
    case CF_W_Q: s.rows = (uint64_t)m->n_head * d_q; break;
    case CF_W_K: s.rows = (uint64_t)m->n_head_kv * m->d_k; break;
    case CF_W_V: s.rows = (uint64_t)m->n_head_kv * m->d_v; break;
    case CF_W_Q_BIAS: s.columns = (uint64_t)m->n_head * m->d_k; break;
    case CF_W_K_BIAS: s.columns = (uint64_t)m->n_head_kv * m->d_k; break;
    case CF_W_V_BIAS: s.columns = (uint64_t)m->n_head_kv * m->d_v; break;
    case CF_W_Q_NORM:
    case CF_W_K_NORM: s.columns = m->d_k; break;
    case CF_W_SINKS: s.columns = m->n_head; break;
    case CF_W_O: s.columns = m->attn.columns, s.rows = m->n_embd; break;
    case CF_W_Q_A: s.rows = m->latent.query; break;
    case CF_W_Q_A_NORM: s.columns = m->latent.query; break;
    case CF_W_Q_B: s.columns = m->latent.query, s.rows = (uint64_t)m->n_head * d_q; break;
    case CF_W_KV_A: s.rows = m->latent.latent + m->latent.rot; break;
    case CF_W_KV_A_NORM: s.columns = m->latent.latent; break;
    case CF_W_K_B: s.columns = m->latent.plain, s.rows = m->latent.latent, s.parts = m->n_head; break;
    case CF_W_V_B: s.columns = m->latent.latent, s.rows = m->d_o, s.parts = m->n_head; break;
    case CF_W_GATE:
    case CF_W_UP: s.rows = m->n_ff; break;
    case CF_W_DOWN: s.columns = m->n_ff, s.rows = m->n_embd; break;
    case CF_W_ROUTER: s.rows = m->experts.n; break;
    case CF_W_ROUTER_BIAS:
    case CF_W_CHOICE_BIAS: s.columns = m->experts.n; break;
    case CF_W_GATE_EXPS:
    case CF_W_UP_EXPS: s.rows = m->experts.n_ff, s.parts = m->experts.n; break;
    case CF_W_DOWN_EXPS: s.columns = m->experts.n_ff, s.rows = m->n_embd, s.parts = m->experts.n; break;
    case CF_W_GATE_EXPS_BIAS:
    case CF_W_UP_EXPS_BIAS: s.columns = m->experts.n_ff, s.rows = m->experts.n; break;
    case CF_W_DOWN_EXPS_BIAS: s.rows = m->experts.n; break;
    case CF_W_GATE_SHARED:
    case CF_W_UP_SHARED: s.rows = m->experts.shared; break;
    case CF_W_DOWN_SHARED: s.columns = m->experts.shared, s.rows = m->n_embd; break;
    default: break; /* norms over the hidden state */
    }
    return s;
}

struct cf_heads cf_model_heads(const struct cf_model *m, uint32_t first, uint32_t last) {
    struct cf_heads h = {cf_axis_cut(&m->attn, first) / m->d_o, cf_axis_cut(&m->attn, last) / m->d_o, 0, 0};
    if (h.q0 == h.q1) return (struct cf_heads){0, 0, 0, 0};
    uint32_t per = m->n_head / m->n_head_kv;
    h.kv0 = h.q0 / per;
    h.kv1 = (h.q1 + per - 1) / per;
    return h;
}

/* The axis whose chunks a role of the MLP is split by. */
static const struct cf_axis *axis_of(const struct cf_model *m, enum cf_role role) {
    switch (role) {
    case CF_W_GATE:
    case CF_W_UP:
    case CF_W_DOWN: return &m->ffn;
    case CF_W_GATE_SHARED:
    case CF_W_UP_SHARED:
    case CF_W_DOWN_SHARED: return &m->shared;
    default: return &m->exps;
    }
}

struct cf_slice cf_model_slice(const struct cf_model *m, enum cf_role role, uint32_t first, uint32_t last) {
    struct cf_shape all = cf_model_shape(m, role);
    struct cf_slice s = {0, (uint32_t)all.parts, 0, (uint32_t)all.rows, 0, (uint32_t)all.columns};
    const struct cf_tensor_spec *spec = &cf_tensor_specs[role];
    uint32_t from = 0, to = 0, *low = spec->vector ? &s.c0 : &s.row0, *high = spec->vector ? &s.c1 : &s.row1;
    struct cf_heads h;
    switch (spec->split) {
    case CF_SPLIT_REPLICATED: return s;
    case CF_SPLIT_VOCAB: from = first * CF_TILE, to = last * CF_TILE < m->n_vocab ? last * CF_TILE : m->n_vocab; break;
    case CF_SPLIT_Q_ROWS:
        h = cf_model_heads(m, first, last);
        to = (uint32_t)((spec->vector ? all.columns : all.rows) / m->n_head);
        from = h.q0 * to, to *= h.q1;
        break;
    case CF_SPLIT_KV_ROWS:
        h = cf_model_heads(m, first, last);
        to = (uint32_t)((spec->vector ? all.columns : all.rows) / m->n_head_kv);
        from = h.kv0 * to, to *= h.kv1;
        break;
    case CF_SPLIT_HEADS:
        h = cf_model_heads(m, first, last);
        from = h.q0, to = h.q1;
        if (!spec->vector) low = &s.part0, high = &s.part1;
        break;
    case CF_SPLIT_ATTN_COLUMNS:
        from = cf_axis_cut(&m->attn, first), to = cf_axis_cut(&m->attn, last);
        low = &s.c0, high = &s.c1;
        break;
    case CF_SPLIT_FFN_COLUMNS: low = &s.c0, high = &s.c1; /* fall through */
    case CF_SPLIT_FFN_ROWS:
        if (m->experts.whole && axis_of(m, role) == &m->exps)
            low = spec->vector ? &s.row0 : &s.part0, high = spec->vector ? &s.row1 : &s.part1;
        from = cf_axis_cut(axis_of(m, role), first), to = cf_axis_cut(axis_of(m, role), last);
        break;
    }
    *low = from, *high = to;
    return s;
}

uint64_t cf_model_bytes(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_role role, uint32_t layer, bool active) {
    const struct cf_gguf_tensor *t = cf_model_tensor(m, g, role, layer);
    if (!t || (role == CF_W_OUTPUT && m->tied)) return 0;
    struct cf_shape s = cf_model_shape(m, role);
    if (cf_model_place(m, role).transposed) return s.rows * s.columns * s.parts * sizeof(float);
    if (cf_tensor_specs[role].vector) return t->row_bytes / t->ne[0] * s.columns * s.rows;
    return t->row_bytes * s.rows * (active && is_stack_of_experts(role) ? m->experts.used : s.parts);
}

uint64_t cf_model_domain_bytes(
    const struct cf_model *m, const struct cf_gguf *g, enum cf_domain domain, uint32_t layer, bool active) {
    uint64_t sum = 0;
    for (int role = 0; role < CF_ROLES; role++) {
        if (cf_tensor_specs[role].domain != domain) continue;
        if (active && role == CF_W_TOKEN_EMBD && !m->tied) continue;
        sum += cf_model_bytes(m, g, (enum cf_role)role, layer, active);
    }
    return sum;
}
