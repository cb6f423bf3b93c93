/* The two halves of a layer: query, key and value projections, output projection, MLP.
 *
 * A step is one team job in rounds: each round hands out rows, tiles or pieces, and ends in a barrier. Which thread
 * does what never changes a bit: every output is computed whole by one thread in the order of DESIGN.md section 6.
 */
#include "node/engine/steps/job.h"

static void qkv_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_model *m = g->o.model;
    uint32_t l = j->i->layer, first, last;
    const struct cf_weight *w[3] = {cf_weight_of(&g->weights, CF_W_Q, l), cf_weight_of(&g->weights, CF_W_K, l),
        cf_weight_of(&g->weights, CF_W_V, l)};
    const struct cf_weight *bias[3] = {cf_weight_of(&g->weights, CF_W_Q_BIAS, l),
        cf_weight_of(&g->weights, CF_W_K_BIAS, l), cf_weight_of(&g->weights, CF_W_V_BIAS, l)};
    const struct cf_weight *norm[2] = {
        cf_weight_of(&g->weights, CF_W_Q_NORM, l), cf_weight_of(&g->weights, CF_W_K_NORM, l)};
    float *out[3] = {g->q, g->k, g->v};
    uint32_t tiles[4] = {0};
    for (int i = 0; i < 3; i++)
        tiles[i + 1] = tiles[i] + cf_weight_tiles(w[i]);
    cf__norm_rows(j, team, thread);
    cf_team_again(team, thread, tiles[3]);
    struct cf_rows x = cf__rows_of(&g->x, 0, m->n_embd);
    float *y = cf__scratch_of(g, thread);
    while (cf_team_next(team, thread, cf__grab(g, tiles[3], w[0]->tile_bytes, j->n_rows), &first, &last)) {
        for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
            uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
            for (uint32_t t = first; t < last; t++) {
                int i = t >= tiles[2] ? 2 : t >= tiles[1] ? 1 : 0;
                cf_team_breathe(team, thread);
                cf__expect_tile(out[i], w[i]->rows, t - tiles[i], row, n);
                cf__product(g, w[i], t - tiles[i], &x, row, n, y);
                cf__store_tile(out[i], w[i]->rows, t - tiles[i], w[i]->rows, y, row, n);
            }
        }
    }
    cf__ahead_of_next(j, team, thread);
    /* Bias, then norm and rotation of queries and keys: one item per row and head. */
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
            if (i == 2) continue;
            if (norm[i]->vector) g->o.kernels->rms_norm(v, v, norm[i]->vector, d, m->rms_eps);
            g->o.kernels->rope(v, cf__angles(j, row), m->rope.n_dims, m->a->neox);
        }
    }
}

static void out_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    const struct cf_weight *w = cf_weight_of(&j->g->weights, CF_W_O, j->i->layer);
    if (w->type->quantised) cf__quantise_rows(j, team, thread, &j->g->wide, w->c1 - w->c0);
    cf_team_again(team, thread, cf_weight_tiles(w));
    cf__sum_tiles(j, team, thread, w, &j->g->o.model->attn, &j->g->wide);
    cf__ahead_of_next(j, team, thread);
}

/* y[tile - first][n][16]. A few rows take one matrix for as many tiles as the scratch has room for, then the other:
 * where each tile of one followed the same tile of the other, the memory's streams began anew every time. */
static void tiles_of(const struct cf_engine *g, struct cf_team *team, uint32_t thread, const struct cf_weight *w,
    uint32_t first, uint32_t last, const struct cf_rows *x, uint32_t row, uint32_t n, float *y) {
    for (uint32_t t = first; t < last; t++, y += n * CF_TILE) {
        cf_team_breathe(team, thread);
        cf__product(g, w, t, x, row, n, y);
    }
}

static void mlp_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_weight *gate = cf_weight_of(&g->weights, CF_W_GATE, j->i->layer);
    const struct cf_weight *up = cf_weight_of(&g->weights, CF_W_UP, j->i->layer);
    const struct cf_weight *down = cf_weight_of(&g->weights, CF_W_DOWN, j->i->layer);
    uint32_t columns = down->c1 - down->c0, first, last;
    cf__norm_rows(j, team, thread);
    cf_team_again(team, thread, cf_weight_tiles(gate));
    struct cf_rows x = cf__rows_of(&g->x, 0, g->o.model->n_embd);
    float *y = cf__scratch_of(g, thread), *z = y + CF_ROW_BLOCK * CF_TILE;
    while (cf_team_next(team, thread, cf__grab(g, cf_weight_tiles(gate), gate->tile_bytes + up->tile_bytes, j->n_rows),
        &first, &last)) {
        for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
            uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK, run = CF_ROW_BLOCK / n;
            for (uint32_t t = first; t < last; t += run) {
                const uint32_t end = last - t < run ? last : t + run;
                for (uint32_t k = t; k < end; k++)
                    cf__expect_tile(g->wide.f, g->wide.stride, k, row, n);
                tiles_of(g, team, thread, gate, t, end, &x, row, n, y);
                tiles_of(g, team, thread, up, t, end, &x, row, n, z);
                g->o.kernels->gate_mul(g->o.model->a->act, y, y, z, (size_t)(end - t) * n * CF_TILE);
                for (uint32_t k = 0; k < end - t; k++)
                    cf__store_tile(g->wide.f, g->wide.stride, t + k, gate->rows, y + k * n * CF_TILE, row, n);
            }
        }
    }
    cf__ahead_of(j, team, thread, down);
    cf_team_again(team, thread, down->type->quantised ? j->n_rows * cf__pieces(columns) : 0);
    if (down->type->quantised) cf__quantise_rows(j, team, thread, &g->wide, columns);
    cf_team_again(team, thread, cf_weight_tiles(down));
    cf__sum_tiles(j, team, thread, down, &g->o.model->ffn, &g->wide);
    cf__ahead_of_next(j, team, thread);
}

/* What meets the normed hidden state. */
static const enum cf_role after_attn_norm[] = {CF_W_Q, CF_W_K, CF_W_V, CF_W_Q_A, CF_W_KV_A, CF_ROLES};
static const enum cf_role after_ffn_norm[] = {
    CF_W_GATE, CF_W_UP, CF_W_ROUTER, CF_W_GATE_EXPS, CF_W_UP_EXPS, CF_W_GATE_SHARED, CF_W_UP_SHARED, CF_ROLES};

int cf__step_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    struct cf__job j = {.g = g,
        .c = c,
        .i = i,
        .norm = cf_weight_of(&g->weights, CF_W_ATTN_NORM, i->layer),
        .source = c->h,
        .n_rows = c->n_rows,
        .quantise = cf__any_quantised(g, i->layer, after_attn_norm)};
    cf_team_do(g->o.team, g->o.model->latent.latent ? cf__latent_qkv_thread : qkv_thread, &j, c->n_rows);
    if (cf__not_finite(&j, "the query, key and value projections", e)) return -1;
    return i->route < 0 ? 0 : cf__send_qkv(g, c, i, e);
}

int cf__step_out(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_weight *w = cf_weight_of(&g->weights, CF_W_O, i->layer);
    struct cf__job j = {.g = g, .c = c, .i = i, .route = &g->program.routes[i->route], .n_rows = c->n_rows};
    j.by_shares = cf_route_by_shares(j.route, c->n_rows, g->o.model->n_embd);
    c->sums = c->sums_out[CF_SUMS_ATTN].data;
    if (g->o.model->latent.latent)
        cf_team_do(g->o.team, cf__latent_out_thread, &j, 0);
    else
        cf_team_do(g->o.team, out_thread, &j, w->type->quantised ? c->n_rows * cf__pieces(w->c1 - w->c0) : 0);
    if (cf__not_finite(&j, "the attention output projection", e)) return -1;
    return cf__send_sums(g, c, j.route, e);
}

int cf__step_mlp(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    struct cf__job j = {.g = g,
        .c = c,
        .i = i,
        .route = &g->program.routes[i->route],
        .n_rows = c->n_rows,
        .source = c->h,
        .norm = cf_weight_of(&g->weights, CF_W_FFN_NORM, i->layer),
        .quantise = cf__any_quantised(g, i->layer, after_ffn_norm)};
    j.by_shares = cf_route_by_shares(j.route, c->n_rows, g->o.model->n_embd);
    c->sums = c->sums_out[CF_SUMS_FFN].data;
    cf_team_do(g->o.team, cf_model_has_experts(g->o.model, i->layer) ? cf__experts_thread : mlp_thread, &j, c->n_rows);
    if (cf__not_finite(&j, "the MLP", e)) return -1;
    return cf__send_sums(g, c, j.route, e);
}
