/* Both ends of a batch: embedding rows in, hidden rows from stage to stage, the head's logits out. */
#include <string.h>

#include "node/engine/steps/job.h"

/* Rows of the batch whose token lies in [row0, row1), decoded one behind the other; returns how many. */
static uint32_t embed_rows(const struct cf_engine *g, const struct cf_context *c, float *out) {
    const struct cf_weight *w = cf_weight_of(&g->weights, CF_W_TOKEN_EMBD, 0);
    uint32_t n = 0, n_embd = g->o.model->n_embd;
    for (uint32_t r = 0; r < c->n_rows; r++) {
        if (!cf__holds(c->token[r], w->row0, w->row0 + w->rows)) continue;
        uint32_t local = c->token[r] - w->row0;
        float *row = out + (size_t)n++ * n_embd, scale = g->o.model->embd_scale;
        w->type->unpack_row(w->tiles + (size_t)(local / CF_TILE) * w->tile_bytes, local % CF_TILE, 0, n_embd, row);
        for (uint32_t i = 0; i < n_embd && scale != 1.0f; i++)
            row[i] *= scale;
    }
    return n;
}

int cf__step_embed(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t n = embed_rows(g, c, c->stage);
    for (uint32_t k = 0; n && k < r->x.n_out; k++)
        if (cf__send_stage(g, c, r, k, (struct cf_extent){n, g->o.model->n_embd, 0}, e)) return -1;
    return 0;
}

static uint32_t count_rows(const struct cf_context *c, uint32_t row0, uint32_t row1) {
    uint32_t n = 0;
    for (uint32_t row = 0; row < c->n_rows; row++)
        n += cf__holds(c->token[row], row0, row1);
    return n;
}

static void scatter_embed(struct cf_engine *g, struct cf_context *c, uint32_t row0, uint32_t row1, const float *part) {
    uint32_t n_embd = g->o.model->n_embd, n = 0;
    for (uint32_t row = 0; row < c->n_rows; row++)
        if (cf__holds(c->token[row], row0, row1))
            memcpy(c->h + (size_t)row * n_embd, part + (size_t)n++ * n_embd, n_embd * sizeof(float));
}

int cf__step_take_embed(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    if (r->own_row1 > r->own_row0) scatter_embed(g, c, r->own_row0, r->own_row1, c->stage);
    for (uint32_t k = 0; k < r->x.n_in; k++) {
        uint32_t rows = count_rows(c, r->in_row0[k], r->in_row1[k]);
        if (!rows) continue;
        const float *part = cf_mail_part(&g->mail, &r->x, c->id, k, rows, g->o.model->n_embd, e);
        if (!part) return -1;
        scatter_embed(g, c, r->in_row0[k], r->in_row1[k], part);
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

int cf__step_hop(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t n_embd = g->o.model->n_embd, rows = r->wanted_only ? c->n_want : c->n_rows;
    if (r->wanted_only)
        keep_wanted(g, c, c->stage);
    else
        memcpy(c->stage, c->h, (size_t)rows * n_embd * sizeof(float));
    struct cf_extent shape = {rows, n_embd, 0};
    if (r->rounds && cf__round(g, r, c->stage, shape, c->stage_out.packed, e)) return -1;
    for (uint32_t k = 0; k < r->x.n_out; k++)
        if (cf__send_stage(g, c, r, k, shape, e)) return -1;
    if (!r->self.q1) return 0;
    if (r->wanted_only || r->rounds) memcpy(c->h, c->stage, (size_t)rows * n_embd * sizeof(float));
    c->compact = r->wanted_only;
    return 0;
}

int cf__step_take_hidden(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t rows = r->wanted_only ? c->n_want : c->n_rows, n_embd = g->o.model->n_embd;
    const float *part = cf__part(g, c, r, 0, (struct cf_extent){rows, n_embd, 0}, e);
    if (!part) return -1;
    memcpy(c->h, part, (size_t)rows * n_embd * sizeof(float));
    c->compact = r->wanted_only;
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}

/* Where this rank's slice of the logits goes, and how far apart its rows lie: rank 0 writes into the full rows. */
static float *logits_place(const struct cf__job *j, size_t *stride) {
    bool full = j->g->rank == 0;
    *stride = full ? j->g->o.model->n_vocab : cf__head_weight(j->g)->rows;
    return full ? j->c->logits + j->route->own_row0 : j->c->stage;
}

static void head_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_weight *w = cf__head_weight(g);
    uint32_t first, last;
    cf__norm_rows(j, team, thread);
    cf_team_again(team, thread, cf_weight_tiles(w));
    struct cf_rows x = cf__rows_of(&g->x, 0, g->o.model->n_embd);
    size_t stride;
    float *y = cf__scratch_of(g, thread), *out = logits_place(j, &stride), cap = g->o.model->logit_cap;
    while (cf_team_next(team, thread, cf__grab(g, cf_weight_tiles(w), w->tile_bytes, j->n_rows), &first, &last)) {
        for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
            uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
            for (uint32_t t = first; t < last; t++) {
                cf_team_breathe(team, thread);
                cf__product(g, w, t, &x, row, n, y);
                for (uint32_t i = 0; cap > 0 && i < n * CF_TILE; i++)
                    y[i] = cap * cf_tanhf(y[i] / cap);
                cf__store_tile(out, stride, t, w->rows, y, row, n);
            }
        }
    }
    cf__ahead_of_next(j, team, thread);
}

static void norm_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    cf__norm_rows(ctx, team, thread);
}

/* The wanted rows after the final norm, to rank 0. All members have them: the one with the first token's row gives. */
static int give_hidden(struct cf__job *j, struct cf_error *e) {
    struct cf_engine *g = j->g;
    struct cf_context *c = j->c;
    size_t n_embd = g->o.model->n_embd;
    if (j->route->own_row0 != 0 || !j->n_rows) return 0;
    cf_team_do(g->o.team, norm_thread, j, j->n_rows);
    float *to = g->rank == 0 ? c->logits : c->stage;
    for (uint32_t r = 0; r < j->n_rows; r++)
        memcpy(to + r * n_embd, g->x.f + r * g->x.stride, n_embd * sizeof(float));
    for (uint32_t k = 0; k < j->route->x.n_out; k++)
        if (cf__send_stage(g, c, j->route, k, (struct cf_extent){j->n_rows, (uint32_t)n_embd, 0}, e)) return -1;
    return 0;
}

int cf__step_head(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    const struct cf_weight *w = cf__head_weight(g);
    if (!c->compact) keep_wanted(g, c, c->h);
    c->compact = true;
    struct cf__job j = {.g = g,
        .c = c,
        .i = i,
        .route = r,
        .source = c->h,
        .n_rows = c->n_want,
        .quantise = w->type->quantised,
        .norm = cf_weight_of(&g->weights, CF_W_OUTPUT_NORM, 0)};
    if (c->hidden) return give_hidden(&j, e);
    if (c->n_want) cf_team_do(g->o.team, head_thread, &j, c->n_want);
    if (j.not_finite && !g->o.no_exchange)
        return cf_fail(e, CF_ERR_NUMERIC, "a non-finite activation entered the output head");
    for (uint32_t k = 0; k < r->x.n_out; k++)
        if (cf__send_stage(g, c, r, k, (struct cf_extent){c->n_want, w->rows, 0}, e)) return -1;
    return 0;
}

int cf__step_take_logits(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    size_t n_vocab = g->o.model->n_vocab;
    for (uint32_t k = 0; k < r->x.n_in; k++) { /* the own slice is in its place */
        uint32_t row0 = r->in_row0[k], row1 = r->in_row1[k];
        if (c->hidden && (row0 || !c->n_want)) continue;
        const float *part =
            cf_mail_part(&g->mail, &r->x, c->id, k, c->n_want, c->hidden ? g->o.model->n_embd : row1 - row0, e);
        if (!part) return -1;
        if (c->hidden) {
            memcpy(c->logits, part, (size_t)c->n_want * g->o.model->n_embd * sizeof(float));
            continue;
        }
        for (uint32_t w = 0; w < c->n_want; w++)
            memcpy(c->logits + w * n_vocab + row0, part + (size_t)w * (row1 - row0), (row1 - row0) * sizeof(float));
    }
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}
