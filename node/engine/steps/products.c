/* What the steps share: one tile's product and where it goes, and the rounds that norm and round activations. */
#include <string.h>

#include "node/engine/steps/job.h"

/* Bytes of weights that a thread multiplies with one block of rows after the other: they stay in its second-level
 * cache, and so do the rows of a block while the tiles pass. */
enum { TILES_IN_CACHE = 512 << 10 };

uint32_t cf__grab(const struct cf_engine *g, uint32_t tiles, size_t tile_bytes, uint32_t n_rows) {
    uint32_t most = tiles / (cf_team_size(g->o.team) * 8);
    uint32_t fit = tile_bytes < TILES_IN_CACHE ? (uint32_t)(TILES_IN_CACHE / (tile_bytes ? tile_bytes : 1)) : 1;
    if (n_rows > CF_ROW_BLOCK && most > fit) most = fit;
    return most ? most : 1;
}

void cf__product(const struct cf_engine *g, const struct cf_weight *w, uint32_t tile, const struct cf_rows *x,
    uint32_t row0, uint32_t n, float *y) {
    cf__product_part(g, w, 0, tile, x, row0, n, y);
}

void cf__product_part(const struct cf_engine *g, const struct cf_weight *w, uint32_t part, uint32_t tile,
    const struct cf_rows *x, uint32_t row0, uint32_t n, float *y) {
    struct cf_product p = {.tile = cf_weight_part(w, part) + tile * w->tile_bytes,
        .tile_c0 = w->c0,
        .c0 = w->c0,
        .c1 = w->c1,
        .x = x,
        .row0 = row0,
        .n = n,
        .y = y};
    g->o.kernels->product[w->type->id](&p);
}

/* Where a thread's share of the tiles of w[0], w[1] ... begins, as cf_team_next() deals them out. Many rows wait for
 * arithmetic and not for memory. */
static void ahead_of(
    const struct cf__job *j, struct cf_team *team, uint32_t thread, const struct cf_weight *const *w, int n) {
    uint64_t tiles = 0, at, bytes;
    for (int i = 0; i < n; i++)
        tiles += cf_weight_tiles(w[i]);
    at = tiles * thread / cf_team_size(team);
    for (; at && at >= cf_weight_tiles(*w); w++)
        at -= cf_weight_tiles(*w);
    bytes = j->n_rows > CF_ROW_BLOCK ? 0 : (cf_weight_tiles(*w) - at) * (*w)->tile_bytes;
    cf_team_ahead(team, thread, (*w)->tiles + at * (*w)->tile_bytes, bytes < j->g->ahead ? bytes : j->g->ahead);
}

void cf__ahead_of(const struct cf__job *j, struct cf_team *team, uint32_t thread, const struct cf_weight *w) {
    ahead_of(j, team, thread, &w, 1);
}

/* The matrices of an instruction that are read first. Returns how many. */
static int first_weights(const struct cf_engine *g, const struct cf_instr *i, const struct cf_weight *w[3]) {
    const struct cf_model *m = g->o.model;
    switch (i->op) {
    case CF_OP_QKV:
        if (m->latent.latent) {
            w[0] = cf_weight_of(&g->weights, m->latent.query ? CF_W_Q_A : CF_W_Q, i->layer);
            w[1] = cf_weight_of(&g->weights, CF_W_KV_A, i->layer);
            return 2;
        }
        w[0] = cf_weight_of(&g->weights, CF_W_Q, i->layer);
        w[1] = cf_weight_of(&g->weights, CF_W_K, i->layer);
        w[2] = cf_weight_of(&g->weights, CF_W_V, i->layer);
        return 3;
    case CF_OP_OUT: w[0] = cf_weight_of(&g->weights, m->latent.latent ? CF_W_V_B : CF_W_O, i->layer); return 1;
    case CF_OP_MLP:
        w[0] = cf_weight_of(&g->weights, cf_model_has_experts(m, i->layer) ? CF_W_ROUTER : CF_W_GATE, i->layer);
        return 1;
    case CF_OP_HEAD: w[0] = cf__head_weight(g); return 1;
    default: return 0;
    }
}

void cf__ahead_of_next(const struct cf__job *j, struct cf_team *team, uint32_t thread) {
    const struct cf_program *p = &j->g->program;
    const struct cf_weight *w[3];
    uint32_t i = (uint32_t)(j->i - p->instrs);
    int n;
    do
        i = i + 1 < p->n_instrs ? i + 1 : 0; /* after the last comes the first, for the next token */
    while ((n = first_weights(j->g, &p->instrs[i], w)) == 0);
    ahead_of(j, team, thread, w, n);
}

struct cf_rows cf__rows_of(const struct cf_activation *a, uint32_t c0, uint32_t c1) {
    return (struct cf_rows){c0, c1, a->f, a->stride, a->q, a->d, a->sum, a->stride, a->scaled};
}

void cf__expect_tile(float *out, size_t stride, uint32_t tile, uint32_t row0, uint32_t n) {
    for (uint32_t r = 0; r < n; r++)
        __builtin_prefetch(out + (row0 + r) * stride + tile * CF_TILE, 1);
}

/* out[row][tile * 16 + lane] = y[row][lane] for the lanes that exist. */
void cf__store_tile(
    float *out, size_t stride, uint32_t tile, uint32_t rows, const float *y, uint32_t row0, uint32_t n) {
    uint32_t lanes = rows - tile * CF_TILE < CF_TILE ? rows - tile * CF_TILE : CF_TILE;
    for (uint32_t r = 0; r < n; r++) {
        float *to = out + (row0 + r) * stride + tile * CF_TILE;
        if (lanes == CF_TILE)
            memcpy(to, y + r * CF_TILE, CF_TILE * sizeof(float)); /* a store, and no call */
        else
            memcpy(to, y + r * CF_TILE, lanes * sizeof(float));
    }
}

float *cf__scratch_of(const struct cf_engine *g, uint32_t thread) {
    return g->thread_scratch + thread * g->thread_floats;
}

void cf__quantise(struct cf__job *j, const struct cf_activation *a, size_t at, size_t n) {
    float *d = a->d + at / 32;
    int16_t *sum = a->sum + at / 16;
    const struct cf_kernels *k = j->g->o.kernels;
    if (k->quantise(a->f + at, n, a->q + at, d, sum)) j->not_finite = true;
    if (k->scaled_sums) cf_scaled_sums(d, sum, n, a->scaled + at / 32);
}

/* Round over rows: x = norm(source), rounded if a quantised matrix follows. */
void cf__norm_rows(struct cf__job *j, struct cf_team *team, uint32_t thread) {
    struct cf_engine *g = j->g;
    const struct cf_kernels *k = g->o.kernels;
    uint32_t first, last, n = g->o.model->n_embd;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        float *f = g->x.f + first * g->x.stride;
        k->rms_norm(f, j->source + (size_t)first * n, j->norm->vector, n, g->o.model->rms_eps);
        if (j->quantise) cf__quantise(j, &g->x, first * g->x.stride, n);
    }
}

void cf__quantise_piece(struct cf__job *j, const struct cf_activation *a, uint32_t columns, uint32_t item) {
    uint32_t pieces = cf__pieces(columns);
    size_t row = item / pieces, c0 = (item % pieces) * (size_t)CF_PIECE_COLUMNS;
    size_t n = columns - c0 < CF_PIECE_COLUMNS ? columns - c0 : CF_PIECE_COLUMNS, at = row * a->stride + c0;
    cf__quantise(j, a, at, n);
}

void cf__quantise_rows(
    struct cf__job *j, struct cf_team *team, uint32_t thread, const struct cf_activation *a, uint32_t columns) {
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++)
            cf__quantise_piece(j, a, columns, first);
}

bool cf__any_quantised(const struct cf_engine *g, uint32_t layer, const enum cf_role *roles) {
    for (; *roles != CF_ROLES; roles++) {
        const struct cf_weight *w = cf_weight_of(&g->weights, *roles, layer);
        if (w->tiles && w->type->quantised) return true;
    }
    return false;
}

int cf__not_finite(const struct cf__job *j, const char *step, struct cf_error *e) {
    if (!j->not_finite || j->g->o.no_exchange) return 0;
    return cf_fail(e, CF_ERR_NUMERIC, "a non-finite activation entered %s of layer %u", step, j->i->layer);
}

const struct cf_weight *cf__head_weight(const struct cf_engine *g) {
    return cf_weight_of(&g->weights, g->o.model->tied ? CF_W_TOKEN_EMBD : CF_W_OUTPUT, 0);
}
