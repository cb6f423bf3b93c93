/* LEFT_HEMI of layers with multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), in the absorbed form: the key
 * projection of each head is applied to its query and the value projection to its output, so that all heads attend to
 * one KV head, the latent vector with the rotated part of the key behind it. The down-projections are replicated: every
 * member of the group makes the whole latent vector.
 */
#include <string.h>

#include "node/engine/steps/job.h"

/* Tiles of a matrix over all rows of the batch: out[row][stride] at `column`. */
static void tile_rows(const struct cf__job *j, const struct cf_weight *w, uint32_t part, uint32_t tile,
    const struct cf_rows *x, float *out, size_t stride, float *y) {
    for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
        uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
        cf__product_part(j->g, w, part, tile, x, row, n, y);
        cf__store_tile(out, stride, tile, w->rows, y, row, n);
    }
}

/* Columns [c0, c0 + n) of an activation as rows that begin with column 0; c0 is a multiple of 32. */
static struct cf_rows columns_of(const struct cf_activation *a, uint32_t c0, uint32_t n) {
    struct cf_activation at = {a->f + c0, a->q + c0, a->d + c0 / 32, a->sum + c0 / 16, a->scaled + c0 / 32, a->stride};
    return cf__rows_of(&at, 0, n);
}

/* Latent query and latent key of each row, normed; the key rotated. */
static void finish_row(struct cf__job *j, uint32_t row) {
    struct cf_engine *g = j->g;
    const struct cf_model *m = g->o.model;
    const struct cf_latent *l = &m->latent;
    const struct cf_kernels *k = g->o.kernels;
    const struct cf_activation *query = &g->latent.query;
    const struct cf_weight *q_b = cf_weight_of(&g->weights, CF_W_Q_B, j->i->layer);
    float *kv = g->latent.kv + (size_t)row * (l->latent + l->rot), *key = g->k + (size_t)row * m->d_k;
    k->rms_norm(key, kv, cf_weight_of(&g->weights, CF_W_KV_A_NORM, j->i->layer)->vector, l->latent, m->rms_eps);
    memcpy(key + l->latent, kv + l->latent, l->rot * sizeof(float));
    k->rope(key + l->latent, cf__angles(j, row), m->rope.n_dims, m->a->neox);
    if (!l->query) return;
    float *f = query->f + row * query->stride;
    k->rms_norm(f, f, cf_weight_of(&g->weights, CF_W_Q_A_NORM, j->i->layer)->vector, l->query, m->rms_eps);
    if (q_b->type->quantised) cf__quantise(j, query, row * query->stride, l->query);
}

/* One head of one row: the rotated part to its place behind the latent one, the plain part on its way to there. */
static void split_query(struct cf__job *j, uint32_t row, uint32_t head, uint32_t heads, bool quantise) {
    struct cf_engine *g = j->g;
    const struct cf_model *m = g->o.model;
    const struct cf_latent *l = &m->latent;
    const struct cf_activation *p = &g->latent.plain;
    const float *q = g->latent.q + ((size_t)row * heads + head) * (l->plain + l->rot);
    float *rot = g->q + ((size_t)row * heads + head) * m->d_k + l->latent;
    size_t wide = (l->plain + 31) / 32 * 32, at = row * p->stride + head * wide;
    memcpy(rot, q + l->plain, l->rot * sizeof(float));
    g->o.kernels->rope(rot, cf__angles(j, row), m->rope.n_dims, m->a->neox);
    memset(p->f + at, 0, wide * sizeof(float));
    memcpy(p->f + at, q, l->plain * sizeof(float));
    if (quantise) cf__quantise(j, p, at, wide);
}

void cf__latent_qkv_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_model *m = g->o.model;
    const struct cf_latent *l = &m->latent;
    uint32_t layer = j->i->layer, first, last, d_q = l->plain + l->rot;
    const struct cf_weight *q_b = cf_weight_of(&g->weights, l->query ? CF_W_Q_B : CF_W_Q, layer);
    const struct cf_weight *q_a = l->query ? cf_weight_of(&g->weights, CF_W_Q_A, layer) : q_b;
    const struct cf_weight *kv_a = cf_weight_of(&g->weights, CF_W_KV_A, layer);
    const struct cf_weight *k_b = cf_weight_of(&g->weights, CF_W_K_B, layer);
    uint32_t heads = q_b->rows / d_q, tiles = cf_weight_tiles(q_a), k_tiles = cf_weight_tiles(k_b);
    float *y = cf__scratch_of(g, thread), *from_x = l->query ? g->latent.query.f : g->latent.q;
    size_t stride = l->query ? g->latent.query.stride : (size_t)heads * d_q;
    struct cf_rows x = cf__rows_of(&g->x, 0, m->n_embd);

    cf__norm_rows(j, team, thread);
    cf_team_again(team, thread, tiles + cf_weight_tiles(kv_a));
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++) {
            cf_team_breathe(team, thread);
            if (first < tiles)
                tile_rows(j, q_a, 0, first, &x, from_x, stride, y);
            else
                tile_rows(j, kv_a, 0, first - tiles, &x, g->latent.kv, l->latent + l->rot, y);
        }
    cf_team_again(team, thread, j->n_rows);
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++)
            finish_row(j, first);
    if (l->query) {
        struct cf_rows query = cf__rows_of(&g->latent.query, 0, l->query);
        cf_team_again(team, thread, cf_weight_tiles(q_b));
        while (cf_team_next(team, thread, 1, &first, &last))
            for (; first < last; first++) {
                cf_team_breathe(team, thread);
                tile_rows(j, q_b, 0, first, &query, g->latent.q, (size_t)heads * d_q, y);
            }
    }
    cf_team_again(team, thread, j->n_rows * heads);
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++)
            split_query(j, first / heads, first % heads, heads, k_b->type->quantised);
    cf_team_again(team, thread, heads * k_tiles);
    while (cf_team_next(team, thread, 4, &first, &last))
        for (; first < last; first++) {
            uint32_t head = first / k_tiles, wide = (l->plain + 31) / 32 * 32;
            struct cf_rows plain = columns_of(&g->latent.plain, head * wide, l->plain);
            cf_team_breathe(team, thread);
            tile_rows(j, k_b, head, first % k_tiles, &plain, g->q + (size_t)head * m->d_k, (size_t)heads * m->d_k, y);
        }
    cf__ahead_of_next(j, team, thread);
}

void cf__latent_out_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_model *m = g->o.model;
    const struct cf_weight *v_b = cf_weight_of(&g->weights, CF_W_V_B, j->i->layer);
    const struct cf_weight *w = cf_weight_of(&g->weights, CF_W_O, j->i->layer);
    uint32_t heads = v_b->parts, tiles = cf_weight_tiles(v_b), columns = heads * m->d_v, first, last;
    float *y = cf__scratch_of(g, thread);
    if (v_b->type->quantised) {
        cf_team_again(team, thread, j->n_rows * cf__pieces(columns));
        cf__quantise_rows(j, team, thread, &g->wide, columns);
    }
    cf_team_again(team, thread, heads * tiles);
    while (cf_team_next(team, thread, 4, &first, &last))
        for (; first < last; first++) {
            uint32_t head = first / tiles;
            struct cf_rows x = columns_of(&g->wide, head * m->d_v, m->d_v);
            cf_team_breathe(team, thread);
            tile_rows(
                j, v_b, head, first % tiles, &x, g->latent.out.f + (size_t)head * m->d_o, g->latent.out.stride, y);
        }
    if (w->type->quantised) {
        cf_team_again(team, thread, j->n_rows * cf__pieces(w->c1 - w->c0));
        cf__quantise_rows(j, team, thread, &g->latent.out, w->c1 - w->c0);
    }
    cf_team_again(team, thread, cf_weight_tiles(w));
    cf__sum_tiles(j, team, thread, w, &m->attn, &g->latent.out);
    cf__ahead_of_next(j, team, thread);
}
