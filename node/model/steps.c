/* The steps of a batch, instruction by instruction: embedding, projections, MLP, head, and both ends of every exchange.
 *
 * A step is one team job in rounds: each round hands out rows, tiles or pieces, and ends in a barrier. Which thread
 * does what never changes a bit: every output is computed whole by one thread in the order of DESIGN.md section 6.
 */
#include <string.h>

#include "node/model/state.h"
#include "transport/clock.h"

/* ---- products -------------------------------------------------------------------------------------------------- */

static uint32_t share_of_tiles(const struct cf_engine *g, uint32_t tiles) {
    uint32_t most = tiles / (cf_team_size(g->o.team) * 8);
    return most ? most : 1;
}

/* y[n][16] of tile `tile` of w, all columns, rows [row0, row0 + n). */
static void product(const struct cf_engine *g, const struct cf_weight *w, uint32_t tile, const struct cf_rows *x,
    uint32_t row0, uint32_t n, float *y) {
    struct cf_product p = {w->tiles + tile * w->tile_bytes, w->c0, w->c0, w->c1, x, row0, n, y};
    g->o.kernels->product[w->type->id](&p);
}

static struct cf_rows rows_of(const struct cf_activation *a, uint32_t c0, uint32_t c1) {
    return (struct cf_rows){c0, c1, a->f, a->stride, a->q, a->d, a->sum, a->stride};
}

/* out[row][tile * 16 + lane] = y[row][lane] for the lanes that exist. */
static void store_tile(
    float *out, size_t stride, uint32_t tile, uint32_t rows, const float *y, uint32_t row0, uint32_t n) {
    uint32_t lanes = rows - tile * CF_TILE < CF_TILE ? rows - tile * CF_TILE : CF_TILE;
    for (uint32_t r = 0; r < n; r++)
        memcpy(out + (row0 + r) * stride + tile * CF_TILE, y + r * CF_TILE, lanes * sizeof(float));
}

static float *scratch_of(const struct cf_engine *g, uint32_t thread) {
    return g->thread_scratch + thread * g->thread_floats;
}

struct job {
    struct cf_engine *g;
    struct cf_context *c;
    const struct cf_instr *i;
    const struct cf_route *route;
    const struct cf_weight *norm;
    bool quantise;
    const float *source; /* rows to normalise: [n_rows][n_embd] */
    uint32_t n_rows;
    bool by_shares;
    bool not_finite;
    const float *part[CF_MAX_PARTS]; /* what has arrived, looked up by thread 0 before the job */
};

static void look_up_parts(struct job *j) {
    for (uint32_t p = 0; p < j->route->x.n_in; p++)
        j->part[p] = cf_mail_part(&j->g->mail, &j->route->x, j->c->id, p, NULL, NULL);
}

/* Round over rows: x = norm(source), rounded if a quantised matrix follows. */
static void norm_rows(struct job *j, struct cf_team *team, uint32_t thread) {
    struct cf_engine *g = j->g;
    const struct cf_kernels *k = g->o.kernels;
    uint32_t first, last, n = g->o.model->n_embd;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        float *f = g->x.f + first * g->x.stride;
        k->rms_norm(f, j->source + (size_t)first * n, j->norm->vector, n, g->o.model->rms_eps);
        if (j->quantise && k->quantise(f, n, g->x.q + first * g->x.stride, g->x.d + first * (g->x.stride / 32),
                               g->x.sum + first * (g->x.stride / 16)))
            j->not_finite = true;
    }
}

/* Round over pieces of rows of wide.f: rounds them for a quantised product. */
enum { PIECE = 1024 };
static void quantise_wide(struct job *j, struct cf_team *team, uint32_t thread, uint32_t columns) {
    struct cf_engine *g = j->g;
    uint32_t pieces = (columns + PIECE - 1) / PIECE, first, last;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        size_t row = first / pieces, c0 = (first % pieces) * (size_t)PIECE;
        size_t n = columns - c0 < PIECE ? columns - c0 : PIECE;
        size_t at = row * g->wide.stride + c0;
        if (g->o.kernels->quantise(g->wide.f + at, n, g->wide.q + at, g->wide.d + at / 32, g->wide.sum + at / 16))
            j->not_finite = true;
    }
}

/* ---- partial sums ---------------------------------------------------------------------------------------------- */

/* Where column `column` of vector `v` of row `row` lies among the outgoing sums: whole vectors, or blocked by share. */
static float *sum_place(const struct job *j, uint32_t v, uint32_t row, uint32_t column) {
    uint32_t n_embd = j->g->o.model->n_embd, c0 = 0, width = n_embd;
    const struct cf_route *r = j->route;
    if (j->by_shares) {
        uint32_t s = 0;
        while (column >= r->share_cut[s + 1])
            s++;
        c0 = r->share_cut[s], width = r->share_cut[s + 1] - c0;
    }
    return j->c->sums + (size_t)r->n_own * j->n_rows * c0 + ((size_t)v * j->n_rows + row) * width + (column - c0);
}

/* Round over tiles of a matrix whose columns are cut into chunks: chunk sums, then the subtrees that this rank owns. */
static void sum_tiles(struct job *j, struct cf_team *team, uint32_t thread, const struct cf_weight *w,
    const struct cf_axis *axis, const struct cf_activation *a) {
    struct cf_engine *g = j->g;
    const struct cf_route *r = j->route;
    struct cf_rows x = rows_of(a, w->c0, w->c1);
    float *y = scratch_of(g, thread);
    uint32_t first, last, chunk0 = r->own[0].first, chunk1 = r->own[r->n_own - 1].last;
    while (cf_team_next(team, thread, share_of_tiles(g, cf_weight_tiles(w)), &first, &last)) {
        for (uint32_t tile = first; tile < last; tile++) {
            uint32_t lanes = w->rows - tile * CF_TILE < CF_TILE ? w->rows - tile * CF_TILE : CF_TILE;
            for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
                cf_team_breathe(team, thread);
                uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
                const char *base = w->tiles + tile * w->tile_bytes;
                for (uint32_t k = chunk0; k < chunk1; k++) {
                    uint32_t c0 = cf_axis_cut(axis, k), c1 = cf_axis_cut(axis, k + 1);
                    struct cf_product p = {base + w->type->tile_bytes(w->c0, c0), w->c0, c0, c1, &x, row, n,
                        y + (size_t)(k - chunk0) * n * CF_TILE};
                    g->o.kernels->product[w->type->id](&p);
                }
                for (uint32_t v = 0; v < r->n_own; v++) {
                    float *top = y + (size_t)(r->own[v].first - chunk0) * n * CF_TILE;
                    cf_tree_sum(
                        top, (size_t)(r->own[v].last - r->own[v].first), (size_t)n * CF_TILE, (size_t)n * CF_TILE);
                    for (uint32_t i = 0; i < n; i++)
                        memcpy(sum_place(j, v, row + i, tile * CF_TILE), top + i * CF_TILE, lanes * sizeof(float));
                }
            }
        }
    }
}

static int send_sums(struct cf_engine *g, struct cf_context *c, const struct cf_route *r, struct cf_error *e) {
    uint32_t n_embd = g->o.model->n_embd;
    bool shares = cf_route_by_shares(r, c->n_rows, n_embd);
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        const float *payload = c->sums;
        uint32_t columns = r->n_own * n_embd;
        if (shares) {
            /* The receivers are numbered as in share_cut: the parts skip this rank itself. */
            uint32_t s = r->my_share >= 0 && k >= (uint32_t)r->my_share ? k + 1 : k;
            payload += (size_t)r->n_own * c->n_rows * r->share_cut[s];
            columns = r->n_own * (r->share_cut[s + 1] - r->share_cut[s]);
        }
        if (cf_mail_send(&g->mail, &r->x, c->id, k, payload, c->n_rows, columns, &c->sums_pending, e)) return -1;
    }
    return 0;
}

/* ---- the two halves of a layer --------------------------------------------------------------------------------- */

static void qkv_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_model *m = g->o.model;
    uint32_t l = j->i->layer, first, last;
    const struct cf_weight *w[3] = {cf_weight_of(&g->weights, CF_W_Q, l), cf_weight_of(&g->weights, CF_W_K, l),
        cf_weight_of(&g->weights, CF_W_V, l)};
    const struct cf_weight *bias[3] = {cf_weight_of(&g->weights, CF_W_Q_BIAS, l),
        cf_weight_of(&g->weights, CF_W_K_BIAS, l), cf_weight_of(&g->weights, CF_W_V_BIAS, l)};
    float *out[3] = {g->q, g->k, g->v};
    uint32_t tiles[4] = {0};
    for (int i = 0; i < 3; i++)
        tiles[i + 1] = tiles[i] + cf_weight_tiles(w[i]);
    norm_rows(j, team, thread);
    cf_team_again(team, thread, tiles[3]);
    struct cf_rows x = rows_of(&g->x, 0, m->n_embd);
    float *y = scratch_of(g, thread);
    while (cf_team_next(team, thread, share_of_tiles(g, tiles[3]), &first, &last)) {
        for (uint32_t t = first; t < last; t++) {
            int i = t >= tiles[2] ? 2 : t >= tiles[1] ? 1 : 0;
            for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
                cf_team_breathe(team, thread);
                uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
                product(g, w[i], t - tiles[i], &x, row, n, y);
                store_tile(out[i], w[i]->rows, t - tiles[i], w[i]->rows, y, row, n);
            }
        }
    }
    /* Bias, then rotation of queries and keys: one item per row and head. */
    uint32_t heads[3] = {w[0]->rows / m->d_k, w[1]->rows / m->d_k, w[2]->rows / m->d_v};
    uint32_t all = heads[0] + heads[1] + heads[2];
    cf_team_again(team, thread, j->n_rows * all);
    while (cf_team_next(team, thread, all, &first, &last)) {
        for (uint32_t item = first; item < last; item++) {
            uint32_t row = item / all, h = item % all;
            int i = h >= heads[0] + heads[1] ? 2 : h >= heads[0] ? 1 : 0;
            h -= i == 2 ? heads[0] + heads[1] : i == 1 ? heads[0] : 0;
            uint32_t d = i == 2 ? m->d_v : m->d_k;
            float *v = out[i] + (size_t)row * w[i]->rows + (size_t)h * d;
            if (bias[i]->vector) g->o.kernels->add(v, bias[i]->vector + (size_t)h * d, d);
            if (i < 2) g->o.kernels->rope(v, j->c->rope + (size_t)row * m->rope.n_dims, m->rope.n_dims, false);
        }
    }
}

static void out_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct job *j = ctx;
    const struct cf_weight *w = cf_weight_of(&j->g->weights, CF_W_O, j->i->layer);
    if (w->type->quantised) quantise_wide(j, team, thread, w->c1 - w->c0);
    cf_team_again(team, thread, cf_weight_tiles(w));
    sum_tiles(j, team, thread, w, &j->g->o.model->attn, &j->g->wide);
}

static void mlp_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_weight *gate = cf_weight_of(&g->weights, CF_W_GATE, j->i->layer);
    const struct cf_weight *up = cf_weight_of(&g->weights, CF_W_UP, j->i->layer);
    const struct cf_weight *down = cf_weight_of(&g->weights, CF_W_DOWN, j->i->layer);
    uint32_t columns = down->c1 - down->c0, first, last;
    norm_rows(j, team, thread);
    cf_team_again(team, thread, cf_weight_tiles(gate));
    struct cf_rows x = rows_of(&g->x, 0, g->o.model->n_embd);
    float *y = scratch_of(g, thread), *z = y + CF_ROW_BLOCK * CF_TILE;
    while (cf_team_next(team, thread, share_of_tiles(g, cf_weight_tiles(gate)), &first, &last)) {
        for (uint32_t t = first; t < last; t++) {
            for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
                cf_team_breathe(team, thread);
                uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
                product(g, gate, t, &x, row, n, y);
                product(g, up, t, &x, row, n, z);
                g->o.kernels->silu_mul(y, y, z, (size_t)n * CF_TILE);
                store_tile(g->wide.f, g->wide.stride, t, gate->rows, y, row, n);
            }
        }
    }
    cf_team_again(team, thread, down->type->quantised ? j->n_rows * ((columns + PIECE - 1) / PIECE) : 0);
    if (down->type->quantised) quantise_wide(j, team, thread, columns);
    cf_team_again(team, thread, cf_weight_tiles(down));
    sum_tiles(j, team, thread, down, &g->o.model->ffn, &g->wide);
}

static int not_finite(const struct job *j, const char *step, struct cf_error *e) {
    if (!j->not_finite) return 0;
    return cf_fail(e, CF_ERR_NUMERIC, "a non-finite activation entered %s of layer %u", step, j->i->layer);
}

static bool any_quantised(const struct cf_engine *g, uint32_t layer, enum cf_role a, enum cf_role b, enum cf_role c) {
    return cf_weight_of(&g->weights, a, layer)->type->quantised ||
           cf_weight_of(&g->weights, b, layer)->type->quantised || cf_weight_of(&g->weights, c, layer)->type->quantised;
}

/* Copies head slices between a packed part [rows][q | k | v] and q, k, v. out: from q, k, v into the part. */
static void copy_heads(struct cf_engine *g, const struct cf_heads *part, const struct cf_heads *own, float *packed,
    uint32_t rows, bool out) {
    const struct cf_model *m = g->o.model;
    struct {
        float *base;
        uint32_t first, n, own_first, own_n, d;
    } s[3] = {{g->q, part->q0, part->q1 - part->q0, own->q0, own->q1 - own->q0, m->d_k},
        {g->k, part->kv0, part->kv1 - part->kv0, own->kv0, own->kv1 - own->kv0, m->d_k},
        {g->v, part->kv0, part->kv1 - part->kv0, own->kv0, own->kv1 - own->kv0, m->d_v}};
    for (uint32_t r = 0; r < rows; r++) {
        for (int i = 0; i < 3; i++) {
            size_t n = (size_t)s[i].n * s[i].d;
            if (!n) continue;
            float *own_at = s[i].base + ((size_t)r * s[i].own_n + (s[i].first - s[i].own_first)) * s[i].d;
            memcpy(out ? packed : own_at, out ? own_at : packed, n * sizeof(float));
            packed += n;
        }
    }
}

static uint32_t part_columns(const struct cf_model *m, const struct cf_heads *h) {
    return (h->q1 - h->q0) * m->d_k + (h->kv1 - h->kv0) * (m->d_k + m->d_v);
}

/* This rank's heads as a member of LEFT_HEMI or TEMPORAL. */
static struct cf_heads own_heads(const struct cf_engine *g, enum cf_domain domain, uint32_t layer) {
    uint32_t first = 0, last = 0;
    cf_plan_member(cf_plan_find(&g->plan, domain, layer), g->rank, &first, &last);
    return cf_model_heads(g->o.model, first, last);
}

static int step_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    struct job j = {.g = g,
        .c = c,
        .i = i,
        .norm = cf_weight_of(&g->weights, CF_W_ATTN_NORM, i->layer),
        .source = c->h,
        .n_rows = c->n_rows,
        .quantise = any_quantised(g, i->layer, CF_W_Q, CF_W_K, CF_W_V)};
    cf_team_do(g->o.team, qkv_thread, &j, c->n_rows);
    if (not_finite(&j, "the query, key and value projections", e)) return -1;
    if (i->route < 0) return 0;
    const struct cf_route *r = &g->program.routes[i->route];
    struct cf_heads own = own_heads(g, CF_LEFT_HEMI, i->layer);
    if (cf__wait_sent(g, &c->stage_pending, e)) return -1;
    float *at = c->stage;
    if (r->self.q1 > r->self.q0 || r->self.kv1 > r->self.kv0) { /* kept for TAKE_QKV at the front of the stage */
        copy_heads(g, &r->self, &own, at, c->n_rows, true);
        at += (size_t)c->n_rows * part_columns(g->o.model, &r->self);
    }
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        uint32_t columns = part_columns(g->o.model, &r->out_heads[k]);
        copy_heads(g, &r->out_heads[k], &own, at, c->n_rows, true);
        if (cf_mail_send(&g->mail, &r->x, c->id, k, at, c->n_rows, columns, &c->stage_pending, e)) return -1;
        at += (size_t)c->n_rows * columns;
    }
    return 0;
}

static int step_take_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i) {
    const struct cf_route *r = &g->program.routes[i->route];
    struct cf_heads own = own_heads(g, CF_TEMPORAL, i->layer);
    if (r->self.q1 > r->self.q0 || r->self.kv1 > r->self.kv0) copy_heads(g, &r->self, &own, c->stage, c->n_rows, false);
    for (uint32_t k = 0; k < r->x.n_in; k++) {
        union {
            const float *in;
            float *out;
        } part = {.in = cf_mail_part(&g->mail, &r->x, c->id, k, NULL, NULL)};
        copy_heads(g, &r->in_heads[k], &own, part.out, c->n_rows, false);
    }
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}

/* Attention output of heads [part) between wide.f (whose first head is `first`) and a packed part. */
static void copy_outputs(
    struct cf_engine *g, const struct cf_heads *part, uint32_t first, float *packed, uint32_t rows, bool out) {
    uint32_t d_v = g->o.model->d_v;
    size_t n = (size_t)(part->q1 - part->q0) * d_v;
    for (uint32_t r = 0; r < rows; r++) {
        float *own = g->wide.f + r * g->wide.stride + (size_t)(part->q0 - first) * d_v;
        memcpy(out ? packed + r * n : own, out ? own : packed + r * n, n * sizeof(float));
    }
}

static int step_attend(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    if (cf__attend(g, c, i->layer, e)) return -1;
    if (i->route < 0) return 0;
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t first = own_heads(g, CF_TEMPORAL, i->layer).q0;
    if (cf__wait_sent(g, &c->stage_pending, e)) return -1;
    float *at = c->stage;
    if (r->self.q1 > r->self.q0) {
        copy_outputs(g, &r->self, first, at, c->n_rows, true);
        at += (size_t)c->n_rows * (r->self.q1 - r->self.q0) * g->o.model->d_v;
    }
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        uint32_t columns = (r->out_heads[k].q1 - r->out_heads[k].q0) * g->o.model->d_v;
        copy_outputs(g, &r->out_heads[k], first, at, c->n_rows, true);
        if (cf_mail_send(&g->mail, &r->x, c->id, k, at, c->n_rows, columns, &c->stage_pending, e)) return -1;
        at += (size_t)c->n_rows * columns;
    }
    return 0;
}

static int step_take_heads(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i) {
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t first = own_heads(g, CF_LEFT_HEMI, i->layer).q0;
    if (r->self.q1 > r->self.q0) copy_outputs(g, &r->self, first, c->stage, c->n_rows, false);
    for (uint32_t k = 0; k < r->x.n_in; k++) {
        union {
            const float *in;
            float *out;
        } part = {.in = cf_mail_part(&g->mail, &r->x, c->id, k, NULL, NULL)};
        copy_outputs(g, &r->in_heads[k], first, part.out, c->n_rows, false);
    }
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}

static int step_out(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_weight *w = cf_weight_of(&g->weights, CF_W_O, i->layer);
    struct job j = {.g = g, .c = c, .i = i, .route = &g->program.routes[i->route], .n_rows = c->n_rows};
    j.by_shares = cf_route_by_shares(j.route, c->n_rows, g->o.model->n_embd);
    if (cf__wait_sent(g, &c->sums_pending, e)) return -1;
    uint32_t pieces = (w->c1 - w->c0 + PIECE - 1) / PIECE;
    cf_team_do(g->o.team, out_thread, &j, w->type->quantised ? c->n_rows * pieces : 0);
    if (not_finite(&j, "the attention output projection", e)) return -1;
    return send_sums(g, c, j.route, e);
}

static int step_mlp(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    struct job j = {.g = g,
        .c = c,
        .i = i,
        .route = &g->program.routes[i->route],
        .n_rows = c->n_rows,
        .source = c->h,
        .norm = cf_weight_of(&g->weights, CF_W_FFN_NORM, i->layer),
        .quantise = any_quantised(g, i->layer, CF_W_GATE, CF_W_UP, CF_W_UP)};
    j.by_shares = cf_route_by_shares(j.route, c->n_rows, g->o.model->n_embd);
    if (cf__wait_sent(g, &c->sums_pending, e)) return -1;
    cf_team_do(g->o.team, mlp_thread, &j, c->n_rows);
    if (not_finite(&j, "the MLP", e)) return -1;
    return send_sums(g, c, j.route, e);
}

/* ---- the receiving end of sums --------------------------------------------------------------------------------- */

enum { ADD_COLUMNS = 64 };

/* Items: row x blocks of 64 columns of this rank's columns [c0, c1). h += tree, or stage = tree (a share to send on).
 */
static void add_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_route *r = j->route;
    uint32_t n_embd = g->o.model->n_embd, c0 = 0, c1 = n_embd, first, last;
    if (j->by_shares) c0 = r->share_cut[r->my_share], c1 = r->share_cut[r->my_share + 1];
    uint32_t width = c1 - c0, blocks = (width + ADD_COLUMNS - 1) / ADD_COLUMNS;
    const float **v = g->vectors + (size_t)thread * 2 * CF_MAX_VECTORS, **at = v + CF_MAX_VECTORS;
    if (!blocks) return;
    for (uint32_t k = 0; k < r->n_own; k++)
        v[r->own_vector + k] = sum_place(j, k, 0, c0);
    for (uint32_t p = 0; p < r->x.n_in; p++) {
        uint32_t n = r->x.in[p].columns / n_embd;
        for (uint32_t k = 0; k < n; k++)
            v[r->in_vector[p] + k] = j->part[p] + (size_t)k * j->n_rows * width;
    }
    const float *bias = j->norm ? j->norm->vector : NULL;
    while (cf_team_next(team, thread, 4, &first, &last)) {
        for (uint32_t item = first; item < last; item++) {
            uint32_t row = item / blocks, b = (item % blocks) * ADD_COLUMNS;
            uint32_t n = width - b < ADD_COLUMNS ? width - b : ADD_COLUMNS;
            float sum[ADD_COLUMNS];
            for (uint32_t k = 0; k < r->tree.n_vectors; k++)
                at[k] = v[k] + (size_t)row * width + b;
            cf_tree_run(&r->tree, at, sum, n);
            if (bias) g->o.kernels->add(sum, bias + c0 + b, n);
            if (j->by_shares)
                memcpy(j->c->stage + (size_t)row * width + b, sum, n * sizeof(float));
            else
                g->o.kernels->add(j->c->h + (size_t)row * n_embd + b, sum, n);
        }
    }
}

/* Bias of the output projection: every receiver of the sum holds it. */
static const struct cf_weight *sum_bias(const struct cf_engine *g, const struct cf_route *r) {
    if (r->step != CF_STEP_ATTN_SUM) return NULL;
    return cf_weight_of(&g->weights, CF_W_O_BIAS, r->x.layer);
}

static int step_add(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    struct job j = {.g = g, .c = c, .i = i, .route = r, .n_rows = c->n_rows, .norm = sum_bias(g, r)};
    j.by_shares = cf_route_by_shares(r, c->n_rows, g->o.model->n_embd);
    uint32_t width = g->o.model->n_embd;
    if (j.by_shares) {
        width = r->share_cut[r->my_share + 1] - r->share_cut[r->my_share];
        if (cf__wait_sent(g, &c->stage_pending, e)) return -1;
    }
    look_up_parts(&j);
    cf_team_do(g->o.team, add_thread, &j, c->n_rows * ((width + ADD_COLUMNS - 1) / ADD_COLUMNS));
    cf_mail_release(&g->mail, &r->x, c->id);
    if (!j.by_shares) return 0;
    const struct cf_route *share = r + 1; /* numbered right behind its sum */
    for (uint32_t k = 0; k < share->x.n_out; k++)
        if (cf_mail_send(&g->mail, &share->x, c->id, k, c->stage, c->n_rows, width, &c->stage_pending, e)) return -1;
    return 0;
}

static void share_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_route *r = j->route;
    uint32_t n_embd = g->o.model->n_embd, first, last;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        float *h = j->c->h + (size_t)first * n_embd;
        for (uint32_t p = 0; p <= r->x.n_in; p++) {
            uint32_t s = p < r->x.n_in ? r->in_vector[p] : (uint32_t)r->my_share;
            uint32_t width = r->share_cut[s + 1] - r->share_cut[s];
            const float *part = p < r->x.n_in ? j->part[p] : j->c->stage;
            g->o.kernels->add(h + r->share_cut[s], part + (size_t)first * width, width);
        }
    }
}

static int step_share(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i) {
    const struct cf_route *r = &g->program.routes[i->route];
    if (!cf_route_by_shares(r, c->n_rows, g->o.model->n_embd)) return 0;
    struct job j = {.g = g, .c = c, .i = i, .route = r, .n_rows = c->n_rows};
    look_up_parts(&j);
    cf_team_do(g->o.team, share_thread, &j, c->n_rows);
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}

/* ---- embedding, hops, head ------------------------------------------------------------------------------------- */

static bool holds(uint32_t token, uint32_t row0, uint32_t row1) {
    return row0 <= token && token < row1;
}

/* Rows of the batch whose token lies in [row0, row1), decoded one behind the other; returns how many. */
static uint32_t embed_rows(const struct cf_engine *g, const struct cf_context *c, float *out) {
    const struct cf_weight *w = cf_weight_of(&g->weights, CF_W_TOKEN_EMBD, 0);
    uint32_t n = 0, n_embd = g->o.model->n_embd;
    for (uint32_t r = 0; r < c->n_rows; r++) {
        if (!holds(c->token[r], w->row0, w->row0 + w->rows)) continue;
        uint32_t local = c->token[r] - w->row0;
        w->type->unpack_row(w->tiles + (size_t)(local / CF_TILE) * w->tile_bytes, local % CF_TILE, 0, n_embd,
            out + (size_t)n++ * n_embd);
    }
    return n;
}

static int step_embed(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    if (cf__wait_sent(g, &c->stage_pending, e)) return -1;
    uint32_t n = embed_rows(g, c, c->stage);
    for (uint32_t k = 0; n && k < r->x.n_out; k++)
        if (cf_mail_send(&g->mail, &r->x, c->id, k, c->stage, n, g->o.model->n_embd, &c->stage_pending, e)) return -1;
    return 0;
}

static void scatter_embed(struct cf_engine *g, struct cf_context *c, uint32_t row0, uint32_t row1, const float *part) {
    uint32_t n_embd = g->o.model->n_embd, n = 0;
    for (uint32_t row = 0; row < c->n_rows; row++)
        if (holds(c->token[row], row0, row1))
            memcpy(c->h + (size_t)row * n_embd, part + (size_t)n++ * n_embd, n_embd * sizeof(float));
}

static int step_take_embed(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i) {
    const struct cf_route *r = &g->program.routes[i->route];
    if (r->own_row1 > r->own_row0) scatter_embed(g, c, r->own_row0, r->own_row1, c->stage);
    for (uint32_t k = 0; k < r->x.n_in; k++) {
        const float *part = cf_mail_part(&g->mail, &r->x, c->id, k, NULL, NULL);
        if (part) scatter_embed(g, c, r->in_row0[k], r->in_row1[k], part);
    }
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}

/* h := its wanted rows. */
static void keep_wanted(struct cf_engine *g, struct cf_context *c, float *to) {
    size_t n = g->o.model->n_embd;
    for (uint32_t i = 0; i < c->n_want; i++)
        memmove(to + i * n, c->h + c->want[i] * n, n * sizeof(float));
}

static int step_hop(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t n_embd = g->o.model->n_embd, rows = r->wanted_only ? c->n_want : c->n_rows;
    if (cf__wait_sent(g, &c->stage_pending, e)) return -1;
    if (r->wanted_only)
        keep_wanted(g, c, c->stage);
    else
        memcpy(c->stage, c->h, (size_t)rows * n_embd * sizeof(float));
    for (uint32_t k = 0; k < r->x.n_out; k++)
        if (cf_mail_send(&g->mail, &r->x, c->id, k, c->stage, rows, n_embd, &c->stage_pending, e)) return -1;
    if (r->self.q1 && r->wanted_only) {
        keep_wanted(g, c, c->h);
        c->compact = true;
    }
    return 0;
}

static int step_take_hidden(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i) {
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t rows = 0;
    const float *part = cf_mail_part(&g->mail, &r->x, c->id, 0, &rows, NULL);
    memcpy(c->h, part, (size_t)rows * g->o.model->n_embd * sizeof(float));
    c->compact = r->wanted_only;
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}

static const struct cf_weight *head_weight(const struct cf_engine *g) {
    return cf_weight_of(&g->weights, g->o.model->tied ? CF_W_TOKEN_EMBD : CF_W_OUTPUT, 0);
}

static void head_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_weight *w = head_weight(g);
    uint32_t first, last;
    norm_rows(j, team, thread);
    cf_team_again(team, thread, cf_weight_tiles(w));
    struct cf_rows x = rows_of(&g->x, 0, g->o.model->n_embd);
    float *y = scratch_of(g, thread);
    while (cf_team_next(team, thread, share_of_tiles(g, cf_weight_tiles(w)), &first, &last)) {
        for (uint32_t t = first; t < last; t++) {
            for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
                cf_team_breathe(team, thread);
                uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
                product(g, w, t, &x, row, n, y);
                store_tile(j->c->stage, w->rows, t, w->rows, y, row, n);
            }
        }
    }
}

static int step_head(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    const struct cf_weight *w = head_weight(g);
    if (!c->compact) keep_wanted(g, c, c->h);
    c->compact = true;
    if (cf__wait_sent(g, &c->stage_pending, e)) return -1;
    struct job j = {.g = g,
        .c = c,
        .i = i,
        .source = c->h,
        .n_rows = c->n_want,
        .quantise = w->type->quantised,
        .norm = cf_weight_of(&g->weights, CF_W_OUTPUT_NORM, 0)};
    if (c->n_want) cf_team_do(g->o.team, head_thread, &j, c->n_want);
    if (j.not_finite) return cf_fail(e, CF_ERR_NUMERIC, "a non-finite activation entered the output head");
    for (uint32_t k = 0; k < r->x.n_out; k++)
        if (cf_mail_send(&g->mail, &r->x, c->id, k, c->stage, c->n_want, w->rows, &c->stage_pending, e)) return -1;
    return 0;
}

static int step_take_logits(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i) {
    const struct cf_route *r = &g->program.routes[i->route];
    size_t n_vocab = g->o.model->n_vocab;
    for (uint32_t k = 0; k <= r->x.n_in; k++) {
        bool own = k == r->x.n_in;
        uint32_t row0 = own ? r->own_row0 : r->in_row0[k], row1 = own ? r->own_row1 : r->in_row1[k];
        const float *part = own ? c->stage : cf_mail_part(&g->mail, &r->x, c->id, k, NULL, NULL);
        for (uint32_t w = 0; w < c->n_want; w++)
            memcpy(c->logits + w * n_vocab + row0, part + (size_t)w * (row1 - row0), (row1 - row0) * sizeof(float));
    }
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}

/* ---- table ----------------------------------------------------------------------------------------------------- */

uint32_t cf__step_expects(const struct cf_engine *g, const struct cf_context *c, const struct cf_instr *i) {
    const struct cf_route *r = i->route >= 0 ? &g->program.routes[i->route] : NULL;
    uint32_t all = r ? (uint32_t)((1ull << r->x.n_in) - 1) : 0, mask = 0;
    switch (i->op) {
    case CF_OP_TAKE_EMBED:
        for (uint32_t k = 0; k < r->x.n_in; k++)
            for (uint32_t row = 0; row < c->n_rows; row++)
                if (holds(c->token[row], r->in_row0[k], r->in_row1[k])) mask |= 1u << k;
        return mask;
    case CF_OP_SHARE: return cf_route_by_shares(r, c->n_rows, g->o.model->n_embd) ? all : 0;
    case CF_OP_ADD:
    case CF_OP_TAKE_QKV:
    case CF_OP_TAKE_HEADS:
    case CF_OP_TAKE_HIDDEN:
    case CF_OP_TAKE_LOGITS: return all;
    default: return 0;
    }
}

/* Which domain an instruction's time belongs to; exchange steps belong to none. */
static int domain_of(enum cf_op op) {
    switch (op) {
    case CF_OP_EMBED:
    case CF_OP_HEAD: return CF_PREFRONTAL;
    case CF_OP_QKV:
    case CF_OP_OUT: return CF_LEFT_HEMI;
    case CF_OP_MLP: return CF_RIGHT_HEMI;
    case CF_OP_ATTEND: return CF_TEMPORAL;
    default: return -1;
    }
}

static uint64_t weight_bytes(const struct cf_engine *g, enum cf_role role, uint32_t layer) {
    const struct cf_weight *w = cf_weight_of(&g->weights, role, layer);
    return (uint64_t)cf_weight_tiles(w) * w->tile_bytes;
}

/* Bytes of weights or cache that an instruction streams. */
static uint64_t bytes_read(const struct cf_engine *g, const struct cf_context *c, const struct cf_instr *i) {
    uint64_t sum = 0;
    switch (i->op) {
    case CF_OP_QKV:
        return weight_bytes(g, CF_W_Q, i->layer) + weight_bytes(g, CF_W_K, i->layer) +
               weight_bytes(g, CF_W_V, i->layer);
    case CF_OP_OUT: return weight_bytes(g, CF_W_O, i->layer);
    case CF_OP_MLP:
        return weight_bytes(g, CF_W_GATE, i->layer) + weight_bytes(g, CF_W_UP, i->layer) +
               weight_bytes(g, CF_W_DOWN, i->layer);
    case CF_OP_HEAD: return c->n_want ? (uint64_t)cf_weight_tiles(head_weight(g)) * head_weight(g)->tile_bytes : 0;
    case CF_OP_ATTEND:
        for (uint32_t r = 0; r < c->n_rows; r++)
            sum += (uint64_t)(c->position[r] + 1) * g->kv.n_kv[i->layer] * (g->kv.d_k + g->kv.d_v) * sizeof(uint16_t);
        return sum;
    default: return 0;
    }
}

static double thread_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int dispatch(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    switch (i->op) {
    case CF_OP_EMBED: return step_embed(g, c, i, e);
    case CF_OP_TAKE_EMBED: return step_take_embed(g, c, i);
    case CF_OP_QKV: return step_qkv(g, c, i, e);
    case CF_OP_TAKE_QKV: return step_take_qkv(g, c, i);
    case CF_OP_ATTEND: return step_attend(g, c, i, e);
    case CF_OP_TAKE_HEADS: return step_take_heads(g, c, i);
    case CF_OP_OUT: return step_out(g, c, i, e);
    case CF_OP_MLP: return step_mlp(g, c, i, e);
    case CF_OP_ADD: return step_add(g, c, i, e);
    case CF_OP_SHARE: return step_share(g, c, i);
    case CF_OP_HOP: return step_hop(g, c, i, e);
    case CF_OP_TAKE_HIDDEN: return step_take_hidden(g, c, i);
    case CF_OP_HEAD: return step_head(g, c, i, e);
    case CF_OP_TAKE_LOGITS: return step_take_logits(g, c, i);
    }
    return 0;
}

int cf__step_run(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    int domain = domain_of(i->op);
    double wall = cf_now(), cpu = thread_seconds();
    int rc = dispatch(g, c, i, e);
    cpu = thread_seconds() - cpu;
    if (domain < 0) {
        g->own.exchange += cpu;
        return rc;
    }
    g->own.compute += cpu;
    struct cf_domain_count *d = &g->own.domain[domain];
    d->hits++, d->seconds += cf_now() - wall, d->bytes_read += bytes_read(g, c, i);
    return rc;
}
