/* See cost.h. */
#include "coordinator/plan/forecast/cost.h"

#include <math.h>

#include "node/engine/memory/kv.h"
#include "node/engine/rate.h"

/* The roles that an instruction reads, up to CF_ROLES. */
static const enum cf_role qkv_roles[] = {CF_W_Q, CF_W_K, CF_W_V, CF_W_Q_A, CF_W_Q_B, CF_W_KV_A, CF_W_K_B, CF_ROLES};
static const enum cf_role out_roles[] = {CF_W_O, CF_W_V_B, CF_ROLES};
static const enum cf_role mlp_roles[] = {CF_W_GATE, CF_W_UP, CF_W_DOWN, CF_W_ROUTER, CF_W_GATE_EXPS, CF_W_UP_EXPS,
    CF_W_DOWN_EXPS, CF_W_GATE_SHARED, CF_W_UP_SHARED, CF_W_DOWN_SHARED, CF_ROLES};
static const enum cf_role head_roles[] = {CF_W_OUTPUT, CF_ROLES};
static const enum cf_role tied_roles[] = {CF_W_TOKEN_EMBD, CF_ROLES};

/* rounds: of the steps' jobs (node/engine/steps), the end of the job included. */
static const struct kind {
    const enum cf_role *roles;
    enum cf_domain domain;
    double rounds;
} kinds[] = {
    [CF_OP_QKV] = {qkv_roles, CF_LEFT_HEMI, 4},
    [CF_OP_ATTEND] = {NULL, CF_TEMPORAL, 3},
    [CF_OP_OUT] = {out_roles, CF_LEFT_HEMI, 3},
    [CF_OP_MLP] = {mlp_roles, CF_RIGHT_HEMI, 5},
    [CF_OP_HEAD] = {head_roles, CF_PREFRONTAL, 4},
    [CF_OP_ADD] = {NULL, CF_DOMAINS, 2},
    [CF_OP_SHARE] = {NULL, CF_DOMAINS, 2},
    [CF_OP_TAKE_LOGITS] = {NULL, CF_DOMAINS, 0},
};

/* Straight lines through what is known of one row, of few and of many. */
static void add_work(struct cf_cost_work *w, const struct cf_rank_info *info, uint32_t type, double elements) {
    double many = info->rates[type] > 0 ? elements / info->rates[type] : 0;
    double one = info->single[type] > 0 ? elements / info->single[type] : many;
    double few = info->few[type] > 0 ? elements / info->few[type] : 0;
    if (many <= 0) return;
    if (one < many) one = many;
    double slope = many, rest = many;
    if (few > 0) {
        slope = fmin(fmax((CF_FEW_ROWS * few - one) / (CF_FEW_ROWS - 1), 0), one);
        double at_few = one + (CF_FEW_ROWS - 1) * slope;
        rest = fmax((CF_MANY_ROWS * many - at_few) / (CF_MANY_ROWS - CF_FEW_ROWS), 0);
    }
    w->unpacking += one - slope;
    w->few += CF_COST_STREAMED * slope, w->more += CF_COST_STREAMED * rest, w->many += CF_COST_STREAMED * many;
}

/* Of so many rows, but for the unpacking. */
static double work_seconds(const struct cf_cost_work *w, double rows) {
    double few = fmin(rows, CF_FEW_ROWS), more = fmin(rows, CF_MANY_ROWS) - few;
    return few * w->few + more * w->more + (rows - few - more) * w->many;
}

static void add_role(struct cf_cost *c, const struct cf_model *m, const struct cf_gguf *g, enum cf_role role,
    uint32_t layer, uint32_t first, uint32_t last, const struct cf_rank_info *info) {
    const struct cf_gguf_tensor *t = cf_model_tensor(m, g, role, layer);
    struct cf_shape all = cf_model_shape(m, role);
    double whole = (double)cf_model_bytes(m, g, role, layer, false);
    if (!t || whole <= 0) return;
    struct cf_slice s = cf_model_slice(m, role, first, last);
    double elements = (double)(s.part1 - s.part0) * (s.row1 - s.row0) * (s.c1 - s.c0);
    double bytes = whole * elements / ((double)all.columns * (double)all.rows * (double)all.parts);
    bool experts = role == CF_W_GATE_EXPS || role == CF_W_UP_EXPS || role == CF_W_DOWN_EXPS;
    double floats = (double)(s.part1 - s.part0) * ((s.row1 - s.row0) + (s.c1 - s.c0));
    if (experts) floats *= (double)m->experts.used / m->experts.n;
    if (info->between > 0) c->row_seconds += CF_COST_STREAMED * floats / info->between;
    if (experts)
        c->expert_bytes += bytes, c->chosen = (double)m->experts.used / m->experts.n;
    else
        c->bytes += bytes;
    if (t->type < CF_TYPE_LIMIT) add_work(experts ? &c->expert_work : &c->work, info, t->type, elements);
}

static void add_attention(struct cf_cost *c, const struct cf_model *m, const struct cf_kv *kv, uint32_t layer,
    uint32_t first, uint32_t last, const struct cf_rank_info *info) {
    struct cf_heads heads = cf_model_heads(m, first, last);
    c->key_bytes = (double)kv->n_kv[layer] * (double)kv->slot_bytes / CF_PAGE;
    if (info->attention > 0) c->key_seconds = (double)(heads.q1 - heads.q0) * (m->d_k + m->d_v) / info->attention;
    c->window = cf_model_window(m, layer);
}

void cf_cost_of(struct cf_cost *c, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    const struct cf_kv *kv, const struct cf_instr *i, uint32_t rank, const struct cf_rank_info *info) {
    *c = (struct cf_cost){0};
    if ((size_t)i->op >= sizeof kinds / sizeof *kinds) return;
    const struct kind *k = &kinds[i->op];
    uint32_t first, last;
    c->rounds = k->rounds;
    if (k->domain >= CF_DOMAINS || !k->rounds) return;
    if (cf_plan_member(cf_plan_find(p, k->domain, i->layer), (int)rank, &first, &last) < 0) return;
    if (i->op == CF_OP_ATTEND) add_attention(c, m, kv, i->layer, first, last, info);
    const enum cf_role *roles = i->op == CF_OP_HEAD && m->tied ? tied_roles : k->roles;
    for (; roles && *roles != CF_ROLES; roles++)
        add_role(c, m, g, *roles, i->layer, first, last, info);
}

static double together(double read, double multiply) {
    return read > multiply ? read + CF_COST_BESIDE * multiply : multiply + CF_COST_BESIDE * read;
}

/* Share of the experts that none of so many rows chooses, if each chooses without regard to the others. */
static double untouched(double chosen, double rows) {
    double share = 1;
    for (double left = 1 - chosen, n = rows; n >= 1 && share > 0; n -= 1) {
        share *= left;
        if (share < 1e-9) return 0;
    }
    return share;
}

double cf_cost_seconds(
    const struct cf_cost *c, const struct cf_cost_rows *r, const struct cf_rank_info *info, double times) {
    double bytes = c->bytes, keys = r->keys, bandwidth = info->bandwidth > 0 ? times * info->bandwidth : INFINITY;
    if (r->rows <= 0) return 0;
    double unpacking = c->work.unpacking, multiply = work_seconds(&c->work, r->rows);
    if (c->expert_bytes > 0) {
        double touched = 1 - untouched(c->chosen, r->rows); /* each by as many rows as it has on average */
        bytes += c->expert_bytes * touched, unpacking += c->expert_work.unpacking * touched;
        multiply += touched * work_seconds(&c->expert_work, r->rows * c->chosen / touched);
    }
    if (c->window && keys > c->window) keys = c->window;
    /* Rows of one sequence are positions behind each other: the middle one sees what they see on average. */
    double seen = keys - (r->rows / r->sequences - 1) / 2;
    bytes += c->key_bytes * keys * r->sequences;
    return together(fmax(bytes / bandwidth, unpacking), multiply + r->rows * c->key_seconds * (seen > 1 ? seen : 1)) +
           r->rows * c->row_seconds + c->rounds * info->step +
           (c->rounds > 0 && info->step > 0 ? CF_COST_INSTRUCTION : 0);
}
