/* The MLP of a layer with experts: every member of the group holds a part of each expert, so all of them work on every
 * token, whichever experts it chooses. Or whole experts (--experts whole): then it works on the tokens that chose its
 * own.
 *
 * One team job in rounds: norm; the router's scores; the choice of each row; rows gathered by expert; gate and up of
 * every expert that anybody chose, and of the shared one; rounding; down, chunk by chunk, the experts of a row in
 * ascending order (DESIGN.md section 6), the shared expert last. Of whole experts the tree over an expert's chunks
 * comes first, then the experts of a run ascend (a chunk of RIGHT_HEMI is a run of experts); the shared expert is cut
 * by columns as before. What leaves is a partial sum like that of any other MLP.
 */
#include <math.h>
#include <string.h>

#include "node/engine/steps/job.h"

/* What the rounds look at. */
struct parts {
    const struct cf_weight *router, *gate, *up, *down, *shared_gate, *shared_up, *shared_down;
    const struct cf_weight *gate_bias, *up_bias;
    bool shared;                  /* this rank has columns of the shared expert */
    uint32_t tiles, shared_tiles; /* of inner columns */
};

static struct parts parts_of(const struct cf__job *j) {
    const struct cf_weights *w = &j->g->weights;
    uint32_t l = j->i->layer;
    struct parts p = {.router = cf_weight_of(w, CF_W_ROUTER, l),
        .gate = cf_weight_of(w, CF_W_GATE_EXPS, l),
        .up = cf_weight_of(w, CF_W_UP_EXPS, l),
        .down = cf_weight_of(w, CF_W_DOWN_EXPS, l),
        .shared_gate = cf_weight_of(w, CF_W_GATE_SHARED, l),
        .shared_up = cf_weight_of(w, CF_W_UP_SHARED, l),
        .shared_down = cf_weight_of(w, CF_W_DOWN_SHARED, l),
        .gate_bias = cf_weight_of(w, CF_W_GATE_EXPS_BIAS, l),
        .up_bias = cf_weight_of(w, CF_W_UP_EXPS_BIAS, l)};
    p.shared = p.shared_down->tiles;
    p.tiles = cf_weight_tiles(p.gate);
    p.shared_tiles = p.shared ? cf_weight_tiles(p.shared_gate) : 0;
    return p;
}

/* ---- who goes where ---- */

static void score_rows(struct cf__job *j, struct cf_team *team, uint32_t thread, const struct parts *p) {
    struct cf_engine *g = j->g;
    struct cf_rows x = cf__rows_of(&g->x, 0, g->o.model->n_embd);
    float *y = cf__scratch_of(g, thread);
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++)
            for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
                uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
                cf__product(g, p->router, first, &x, row, n, y);
                cf__store_tile(g->moe.scores, g->moe.score_stride, first, p->router->rows, y, row, n);
            }
}

static void choose_row(struct cf__job *j, uint32_t row, float *scratch) {
    struct cf_engine *g = j->g;
    const struct cf_experts *x = &g->o.model->experts;
    const struct cf_weight *bias = cf_weight_of(&g->weights, CF_W_ROUTER_BIAS, j->i->layer);
    const struct cf_weight *choice = cf_weight_of(&g->weights, CF_W_CHOICE_BIAS, j->i->layer);
    const struct cf_weight *gate = cf_weight_of(&g->weights, CF_W_SHARED_ROUTER, j->i->layer);
    float *scores = g->moe.scores + row * g->moe.score_stride;
    if (bias->vector) g->o.kernels->add(scores, bias->vector, x->n);
    cf__choose_experts(x, scores, choice->vector, scratch, g->moe.chosen + (size_t)row * x->used,
        g->moe.weights + (size_t)row * x->used);
    g->moe.shared[row] = 1.0f;
    if (!gate->vector) return;
    float dot = 0;
    for (uint32_t i = 0; i < g->o.model->n_embd; i++)
        dot = fmaf(gate->vector[i], g->x.f[row * g->x.stride + i], dot);
    g->moe.shared[row] = 1.0f / (1.0f + cf_expf(-dot));
}

/* Thread 0, while the others wait: pairs by expert, then by row. Only of experts that this rank holds, numbered from
 * its first one. */
static void sort_pairs(struct cf__job *j, const struct parts *p) {
    struct cf_moe *m = &j->g->moe;
    uint32_t used = j->g->o.model->experts.used, n = p->down->parts, own = p->down->part0;
    memset(m->first, 0, (n + 1) * sizeof *m->first);
    for (uint32_t i = 0; i < j->n_rows * used; i++)
        if (m->chosen[i] - own < n) m->first[m->chosen[i] - own + 1]++;
    m->n_active = 0;
    for (uint32_t e = 0; e < n; e++) {
        if (m->first[e + 1]) m->active[m->n_active++] = e;
        m->first[e + 1] += m->first[e];
    }
    m->n_pairs = m->first[n];
    for (uint32_t i = 0; i < j->n_rows * used; i++) { /* rows ascend, so each expert's do */
        if (m->chosen[i] - own >= n) continue;
        uint32_t pair = m->first[m->chosen[i] - own]++;
        m->pair_row[pair] = i / used, m->pair_weight[pair] = m->weights[i];
    }
    for (uint32_t e = n; e; e--) /* each moved to the first of the next */
        m->first[e] = m->first[e - 1];
    m->first[0] = 0;
}

/* ---- what they see ---- */

static void gather_pair(struct cf__job *j, uint32_t pair) {
    const struct cf_activation *x = &j->g->x, *to = &j->g->moe.in;
    size_t row = j->g->moe.pair_row[pair], n = x->stride;
    if (to->f) memcpy(to->f + pair * to->stride, x->f + row * n, n * sizeof(float));
    if (!j->quantise) return;
    memcpy(to->q + pair * to->stride, x->q + row * n, n);
    memcpy(to->d + pair * (to->stride / 32), x->d + row * (n / 32), n / 32 * sizeof(float));
    memcpy(to->sum + pair * (to->stride / 16), x->sum + row * (n / 16), n / 16 * sizeof(int16_t));
    memcpy(to->scaled + pair * (to->stride / 32), x->scaled + row * (n / 32), n / 32 * sizeof(float));
}

/* One tile of gate and up of one expert, or of the shared one (part 0), over rows [row0, row1) of x -> the same rows of
 * `to`. */
struct inner {
    const struct cf_weight *gate, *up, *gate_bias, *up_bias;
    uint32_t part, tile, row0, row1, x_row0; /* x_row0: row of x for row0 */
    const struct cf_rows *x;
    const struct cf_activation *to;
};

static void add_bias(
    const struct cf_engine *g, const struct cf_weight *bias, const struct inner *i, float *y, uint32_t n) {
    if (!bias || !bias->vector) return;
    uint32_t at = i->tile * CF_TILE, columns = bias->c1 - bias->c0;
    const float *b = bias->vector + (size_t)i->part * columns + at;
    for (uint32_t row = 0; row < n; row++)
        g->o.kernels->add(y + row * CF_TILE, b, columns - at < CF_TILE ? columns - at : CF_TILE);
}

static void inner_tile(const struct cf_engine *g, const struct inner *i, float *y, float *z) {
    for (uint32_t row = i->row0; row < i->row1; row += CF_ROW_BLOCK) {
        uint32_t n = i->row1 - row < CF_ROW_BLOCK ? i->row1 - row : CF_ROW_BLOCK, from = i->x_row0 + (row - i->row0);
        cf__product_part(g, i->gate, i->part, i->tile, i->x, from, n, y);
        cf__product_part(g, i->up, i->part, i->tile, i->x, from, n, z);
        add_bias(g, i->gate_bias, i, y, n);
        add_bias(g, i->up_bias, i, z, n);
        g->o.kernels->gate_mul(g->o.model->a->act, y, y, z, (size_t)n * CF_TILE);
        cf__store_tile(i->to->f, i->to->stride, i->tile, i->gate->rows, y, row, n);
    }
}

/* Items: tiles of the experts that somebody chose, one expert behind the other, then those of the shared one. */
static void inner_tiles(struct cf__job *j, struct cf_team *team, uint32_t thread, const struct parts *p) {
    struct cf_engine *g = j->g;
    const struct cf_moe *m = &g->moe;
    const struct cf_rows all = cf__rows_of(&g->x, 0, g->o.model->n_embd);
    const struct cf_rows of_pairs = j->n_rows == 1 ? all : cf__rows_of(&m->in, 0, g->o.model->n_embd);
    float *y = cf__scratch_of(g, thread), *z = y + CF_ROW_BLOCK * CF_TILE;
    uint32_t first, last, chosen = m->n_active * p->tiles;
    uint32_t most = cf__grab(g, chosen + p->shared_tiles, p->gate->tile_bytes + p->up->tile_bytes, j->n_rows);
    while (cf_team_next(team, thread, most, &first, &last))
        for (; first < last; first++) {
            cf_team_breathe(team, thread);
            if (first >= chosen) {
                struct inner i = {.gate = p->shared_gate,
                    .up = p->shared_up,
                    .tile = first - chosen,
                    .row1 = j->n_rows,
                    .x = &all,
                    .to = &g->wide};
                inner_tile(g, &i, y, z);
                continue;
            }
            uint32_t e = m->active[first / p->tiles];
            struct inner i = {.gate = p->gate,
                .up = p->up,
                .gate_bias = p->gate_bias,
                .up_bias = p->up_bias,
                .part = e,
                .tile = first % p->tiles,
                .row0 = m->first[e],
                .row1 = m->first[e + 1],
                .x_row0 = j->n_rows == 1 ? 0 : m->first[e],
                .x = &of_pairs,
                .to = &m->inner};
            inner_tile(g, &i, y, z);
        }
}

/* ---- what they say ---- */

/* Chunks of this rank, and the sums of a run of tiles: acc[chunk][tile][row][16]. */
struct outer {
    const struct cf_weight *w;
    const struct cf_activation *a;
    uint32_t part;
    uint32_t cut[CF_MAX_CHUNKS + 1], chunks; /* columns of the chunks; an axis of less chunks has less */
    uint32_t chunk0;                         /* of the model */
    bool whole;                              /* all chunks of an expert, summed up before its weight: into sums[at] */
    uint32_t at;
};

static struct outer outer_of(const struct cf__job *j, const struct cf_weight *w, const struct cf_axis *axis,
    const struct cf_activation *a, bool whole) {
    const struct cf_route *r = j->route;
    struct outer o = {.w = w, .a = a, .chunk0 = whole ? 0 : r->own[0].first, .whole = whole};
    uint32_t last = whole ? axis->n_chunks : r->own[r->n_own - 1].last;
    if (last > axis->n_chunks) last = axis->n_chunks;
    for (uint32_t k = o.chunk0; k <= last; k++)
        o.cut[k - o.chunk0] = cf_axis_cut(axis, k);
    o.chunks = last > o.chunk0 ? last - o.chunk0 : 0;
    return o;
}

/* The run of whole experts that held expert `part` belongs to, counted from this rank's first. */
static uint32_t run_of(const struct cf__job *j, const struct cf_weight *w, uint32_t part) {
    const struct cf_axis *axis = &j->g->o.model->exps;
    uint32_t first = j->route->own[0].first, k = first;
    while (cf_axis_cut(axis, k + 1) <= w->part0 + part)
        k++;
    return k - first;
}

struct run { /* of tiles and rows that are added up together */
    uint32_t tile0, tiles, row0, rows;
    float *acc; /* [chunks][tiles][rows][16] */
    float *y;   /* scratch */
};

/* Adds weight[i] x product of rows [from, to) of o->a to their rows' sums; rows[i] of the batch (NULL: row i). */
static void add_part(const struct cf__job *j, const struct outer *o, const struct run *r, uint32_t from, uint32_t to,
    const uint32_t *rows, const float *weight) {
    const struct cf_engine *g = j->g;
    const struct cf_weight *w = o->w;
    const struct cf_weight *bias = cf_weight_of(&g->weights, CF_W_DOWN_EXPS_BIAS, j->i->layer);
    struct cf_rows x = cf__rows_of(o->a, w->c0, w->c1);
    bool biased = rows && bias->vector && o->chunk0 == 0; /* the bias belongs to the sum of chunk 0 */
    uint32_t n_embd = g->o.model->n_embd;
    for (uint32_t t = 0; t < r->tiles; t++) {
        const char *tile = cf_weight_part(w, o->part) + (r->tile0 + t) * w->tile_bytes;
        uint32_t at = (r->tile0 + t) * CF_TILE, lanes = n_embd - at < CF_TILE ? n_embd - at : CF_TILE;
        for (uint32_t p = from; p < to; p += CF_ROW_BLOCK) {
            uint32_t n = to - p < CF_ROW_BLOCK ? to - p : CF_ROW_BLOCK;
            cf_product_run(g->o.kernels, w->type,
                &(struct cf_product){.tile = tile + w->type->tile_bytes(w->c0, o->cut[0]),
                    .tile_c0 = w->c0,
                    .c0 = o->cut[0],
                    .c1 = o->cut[o->chunks],
                    .x = &x,
                    .row0 = p,
                    .n = n,
                    .y = r->y,
                    .cut = o->cut,
                    .n_chunks = o->chunks});
            uint32_t sums = o->whole ? 1 : o->chunks;
            if (o->whole) g->o.kernels->tree_sum(r->y, o->chunks, (size_t)n * CF_TILE, (size_t)n * CF_TILE);
            for (uint32_t i = 0; i < n; i++) {
                uint32_t row = (rows ? rows[p + i] : p + i) - r->row0;
                if (biased)
                    g->o.kernels->add(
                        r->y + i * CF_TILE, bias->vector + (size_t)(w->part0 + o->part) * n_embd + at, lanes);
                for (uint32_t k = 0; k < sums; k++)
                    g->o.kernels->add_scaled(r->acc + (((size_t)(o->at + k) * r->tiles + t) * r->rows + row) * CF_TILE,
                        r->y + ((size_t)k * n + i) * CF_TILE, weight[rows ? p + i : row + r->row0], CF_TILE);
            }
        }
    }
}

/* The pairs of expert e whose rows lie in [row0, row0 + rows). */
static void pairs_within(const struct cf_moe *m, uint32_t e, const struct run *r, uint32_t *from, uint32_t *to) {
    uint32_t at = m->first[e], end = m->first[e + 1];
    while (at < end && m->pair_row[at] < r->row0)
        at++;
    *from = at;
    while (at < end && m->pair_row[at] < r->row0 + r->rows)
        at++;
    *to = at;
}

static void finish_run(const struct cf__job *j, const struct run *r) {
    const struct cf_route *route = j->route;
    uint32_t n_embd = j->g->o.model->n_embd;
    size_t width = (size_t)r->tiles * r->rows * CF_TILE;
    for (uint32_t v = 0; v < route->n_own; v++) {
        float *top = r->acc + (route->own[v].first - route->own[0].first) * width;
        j->g->o.kernels->tree_sum(top, route->own[v].last - route->own[v].first, width, width);
        for (uint32_t t = 0; t < r->tiles; t++)
            for (uint32_t i = 0; i < r->rows; i++) {
                uint32_t at = (r->tile0 + t) * CF_TILE, lanes = n_embd - at < CF_TILE ? n_embd - at : CF_TILE;
                memcpy(cf__sum_place(j, v, r->row0 + i, at), top + ((size_t)t * r->rows + i) * CF_TILE,
                    lanes * sizeof(float));
            }
    }
}

static void outer_tiles(struct cf__job *j, struct cf_team *team, uint32_t thread, const struct parts *p) {
    struct cf_engine *g = j->g;
    const struct cf_model *model = g->o.model;
    const struct cf_moe *m = &g->moe;
    struct outer experts = outer_of(j, p->down, &model->expert, &m->inner, model->experts.whole);
    struct outer shared = outer_of(j, p->shared_down, &model->shared, &g->wide, false);
    uint32_t chunks = j->route->own[j->route->n_own - 1].last - j->route->own[0].first;
    uint32_t rows = j->n_rows < CF_MOE_ROWS ? j->n_rows : CF_MOE_ROWS, most = CF_MOE_ROWS / rows, first, last;
    uint32_t fair = cf_weight_tiles(p->down) / (cf_team_size(team) * 8);
    if (most > fair) most = fair ? fair : 1;
    while (cf_team_next(team, thread, most, &first, &last))
        for (uint32_t row = 0; row < j->n_rows; row += rows) {
            struct run r = {first, last - first, row, j->n_rows - row < rows ? j->n_rows - row : rows,
                m->sums + thread * m->sum_floats, cf__scratch_of(g, thread)};
            memset(r.acc, 0, (size_t)chunks * r.tiles * r.rows * CF_TILE * sizeof(float));
            for (uint32_t a = 0; a < m->n_active; a++) {
                uint32_t from, to;
                experts.part = m->active[a];
                if (experts.whole) experts.at = run_of(j, p->down, experts.part);
                pairs_within(m, experts.part, &r, &from, &to);
                if (from < to) add_part(j, &experts, &r, from, to, m->pair_row, m->pair_weight);
                cf_team_breathe(team, thread);
            }
            if (p->shared && shared.chunks) add_part(j, &shared, &r, r.row0, r.row0 + r.rows, NULL, m->shared);
            finish_run(j, &r);
        }
}

/* Pieces of the pairs' inner columns, then of the shared expert's. */
static uint32_t rounding_items(const struct cf__job *j, const struct parts *p) {
    uint32_t n = 0;
    if (p->down->type->quantised) n += j->g->moe.n_pairs * cf__pieces(p->down->c1 - p->down->c0);
    if (p->shared && p->shared_down->type->quantised)
        n += j->n_rows * cf__pieces(p->shared_down->c1 - p->shared_down->c0);
    return n;
}

static void round_inner(struct cf__job *j, struct cf_team *team, uint32_t thread, const struct parts *p) {
    uint32_t columns = p->down->c1 - p->down->c0, first, last;
    uint32_t pairs = p->down->type->quantised ? j->g->moe.n_pairs * cf__pieces(columns) : 0;
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++) {
            if (first < pairs)
                cf__quantise_piece(j, &j->g->moe.inner, columns, first);
            else
                cf__quantise_piece(j, &j->g->wide, p->shared_down->c1 - p->shared_down->c0, first - pairs);
        }
}

void cf__experts_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    struct cf_engine *g = j->g;
    struct parts p = parts_of(j);
    uint32_t first, last;
    cf__norm_rows(j, team, thread);
    cf_team_again(team, thread, cf_weight_tiles(p.router));
    score_rows(j, team, thread, &p);
    cf_team_again(team, thread, j->n_rows);
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++)
            choose_row(j, first, cf__scratch_of(g, thread));
    cf_team_barrier(team, thread);
    if (thread == 0) sort_pairs(j, &p);
    if (j->n_rows > 1) {
        cf_team_again(team, thread, thread ? 0 : g->moe.n_pairs);
        while (cf_team_next(team, thread, 4, &first, &last))
            for (; first < last; first++)
                gather_pair(j, first);
    }
    cf_team_again(team, thread, thread ? 0 : g->moe.n_active * p.tiles + p.shared_tiles);
    inner_tiles(j, team, thread, &p);
    cf_team_again(team, thread, thread ? 0 : rounding_items(j, &p));
    round_inner(j, team, thread, &p);
    cf_team_again(team, thread, cf_weight_tiles(p.down));
    outer_tiles(j, team, thread, &p);
    cf__ahead_of_next(j, team, thread);
}
