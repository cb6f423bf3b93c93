/* Partial sums of the hidden state: made chunk by chunk, sent as subtrees, added in the tree's order by whoever
 * receives.
 */
#include <string.h>

#include "node/engine/steps/job.h"

/* Whole vectors, or blocked by share. */
float *cf__sum_place(const struct cf__job *j, uint32_t v, uint32_t row, uint32_t column) {
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
void cf__sum_tiles(struct cf__job *j, struct cf_team *team, uint32_t thread, const struct cf_weight *w,
    const struct cf_axis *axis, const struct cf_activation *a) {
    struct cf_engine *g = j->g;
    const struct cf_route *r = j->route;
    struct cf_rows x = cf__rows_of(a, w->c0, w->c1);
    float *y = cf__scratch_of(g, thread);
    uint32_t first, last, chunk0 = r->own[0].first, chunk1 = r->own[r->n_own - 1].last, cut[CF_MAX_CHUNKS + 1];
    for (uint32_t k = chunk0; k <= chunk1; k++)
        cut[k - chunk0] = cf_axis_cut(axis, k);
    while (cf_team_next(team, thread, cf__grab(g, cf_weight_tiles(w), w->tile_bytes, j->n_rows), &first, &last)) {
        for (uint32_t row = 0; row < j->n_rows; row += CF_ROW_BLOCK) {
            uint32_t n = j->n_rows - row < CF_ROW_BLOCK ? j->n_rows - row : CF_ROW_BLOCK;
            for (uint32_t tile = first; tile < last; tile++) {
                cf_team_breathe(team, thread);
                uint32_t lanes = w->rows - tile * CF_TILE < CF_TILE ? w->rows - tile * CF_TILE : CF_TILE;
                const char *base = w->tiles + tile * w->tile_bytes;
                for (uint32_t v = 0; v < r->n_own; v++)
                    for (uint32_t i = 0; i < n; i++)
                        __builtin_prefetch(cf__sum_place(j, v, row + i, tile * CF_TILE), 1);
                cf_product_run(g->o.kernels, w->type,
                    &(struct cf_product){.tile = base + w->type->tile_bytes(w->c0, cut[0]),
                        .tile_c0 = w->c0,
                        .c0 = cut[0],
                        .c1 = cut[chunk1 - chunk0],
                        .x = &x,
                        .row0 = row,
                        .n = n,
                        .y = y,
                        .cut = cut,
                        .n_chunks = chunk1 - chunk0});
                for (uint32_t v = 0; v < r->n_own; v++) {
                    float *top = y + (size_t)(r->own[v].first - chunk0) * n * CF_TILE;
                    g->o.kernels->tree_sum(
                        top, (size_t)(r->own[v].last - r->own[v].first), (size_t)n * CF_TILE, (size_t)n * CF_TILE);
                    for (uint32_t i = 0; i < n; i++)
                        memcpy(cf__sum_place(j, v, row + i, tile * CF_TILE), top + i * CF_TILE, lanes * sizeof(float));
                }
            }
        }
    }
}

/* Whole sums are rounded as such, for all who add them, this rank included. Of sums by shares each part goes to the one
 * rank that adds it: only what leaves the host is rounded. */
int cf__send_sums(struct cf_engine *g, struct cf_context *c, const struct cf_route *r, struct cf_error *e) {
    uint32_t n_embd = g->o.model->n_embd;
    bool shares = cf_route_by_shares(r, c->n_rows, n_embd);
    struct cf_outlet *from = &c->sums_out[r->step == CF_STEP_ATTN_SUM ? CF_SUMS_ATTN : CF_SUMS_FFN];
    struct cf_extent whole = {c->n_rows, r->n_own * n_embd, n_embd};
    char *packed = from->packed;
    if (r->rounds && !shares && cf__round(g, r, c->sums, whole, packed, e)) return -1;
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        struct cf_extent shape = cf_route_extent(r, true, k, c->n_rows, n_embd);
        bool packs = r->x.out[k].dtype != CF_DTYPE_F32;
        float *x = c->sums;
        if (shares) x += (size_t)r->n_own * c->n_rows * r->share_cut[cf_route_share(r, true, k)];
        if (packs && shares && cf__round(g, r, x, shape, packed, e)) return -1;
        struct cf_parcel p = {c->id, k, packs ? (const void *)packed : x, shape};
        if (cf_mail_send(&g->mail, &r->x, &p, from, e)) return -1;
        if (packs && shares) packed += cf_extent_bytes(shape, r->x.out[k].dtype);
    }
    return 0;
}

enum { ADD_COLUMNS = 64, ADD_ALONE = 64 };

/* What one thread adds up: this rank's columns [c0, c0 + width) in blocks of 64. */
struct adding {
    const float **v, **at; /* the vectors from c0 on; those of the block at hand */
    uint32_t c0, width, blocks;
};

static struct adding adding_of(const struct cf__job *j, uint32_t thread) {
    const struct cf_route *r = j->route;
    uint32_t n_embd = j->g->o.model->n_embd;
    struct adding a = {.v = j->g->vectors + (size_t)thread * 2 * CF_MAX_VECTORS, .width = n_embd};
    if (j->by_shares) a.c0 = r->share_cut[r->my_share], a.width = r->share_cut[r->my_share + 1] - a.c0;
    a.at = a.v + CF_MAX_VECTORS;
    a.blocks = (a.width + ADD_COLUMNS - 1) / ADD_COLUMNS;
    for (uint32_t k = 0; a.blocks && k < r->n_own; k++)
        a.v[r->own_vector + k] = cf__sum_place(j, k, 0, a.c0);
    for (uint32_t p = 0; p < r->x.n_in; p++) {
        uint32_t n = r->x.in[p].columns / n_embd;
        for (uint32_t k = 0; k < n; k++)
            a.v[r->in_vector[p] + k] = j->part[p] + (size_t)k * j->n_rows * a.width;
    }
    return a;
}

/* Items: row x blocks of columns. h += tree, or stage = tree (a share to send on). */
static void add_items(const struct cf__job *j, const struct adding *a, uint32_t first, uint32_t last) {
    const struct cf_kernels *kernels = j->g->o.kernels;
    const struct cf_route *r = j->route;
    const float *bias = j->norm ? j->norm->vector : NULL;
    for (uint32_t item = first; item < last; item++) {
        uint32_t row = item / a->blocks, b = (item % a->blocks) * ADD_COLUMNS;
        uint32_t n = a->width - b < ADD_COLUMNS ? a->width - b : ADD_COLUMNS;
        float sum[ADD_COLUMNS];
        for (uint32_t k = 0; k < r->tree.n_vectors; k++)
            a->at[k] = a->v[k] + (size_t)row * a->width + b;
        cf_tree_run(&r->tree, a->at, sum, n);
        if (bias) kernels->add(sum, bias + a->c0 + b, n);
        if (j->by_shares)
            memcpy(j->c->stage + (size_t)row * a->width + b, sum, n * sizeof(float));
        else if (j->post)
            memcpy(j->g->post + (size_t)row * j->g->o.model->n_embd + b, sum, n * sizeof(float));
        else
            kernels->add(j->c->h + (size_t)row * j->g->o.model->n_embd + b, sum, n);
    }
}

/* h += norm(sum) */
static void add_normed(const struct cf__job *j, uint32_t row) {
    const struct cf_model *m = j->g->o.model;
    float *sum = j->g->post + (size_t)row * m->n_embd;
    j->g->o.kernels->rms_norm(sum, sum, j->post->vector, m->n_embd, m->rms_eps);
    j->g->o.kernels->add(j->c->h + (size_t)row * m->n_embd, sum, m->n_embd);
}

static void add_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    struct adding a = adding_of(j, thread);
    uint32_t first, last;
    while (cf_team_next(team, thread, 4, &first, &last))
        add_items(j, &a, first, last);
    if (!j->post || j->by_shares) return;
    cf_team_again(team, thread, j->n_rows);
    while (cf_team_next(team, thread, 1, &first, &last))
        for (; first < last; first++)
            add_normed(j, first);
}

/* What a sum goes through before it is added to the residual stream: every receiver holds it, if there is such. */
static const struct cf_weight *sum_bias(const struct cf_engine *g, const struct cf_route *r) {
    if (r->step != CF_STEP_ATTN_SUM) return NULL;
    return cf_weight_of(&g->weights, CF_W_O_BIAS, r->x.layer);
}
static const struct cf_weight *sum_norm(const struct cf_engine *g, const struct cf_route *r) {
    bool attention = r->step == CF_STEP_ATTN_SUM || r->step == CF_STEP_ATTN_SHARE;
    const struct cf_weight *w =
        cf_weight_of(&g->weights, attention ? CF_W_ATTN_POST_NORM : CF_W_FFN_POST_NORM, r->x.layer);
    return w->vector ? w : NULL;
}

int cf__step_add(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    struct cf__job j = {.g = g, .c = c, .i = i, .route = r, .n_rows = c->n_rows, .norm = sum_bias(g, r)};
    j.post = sum_norm(g, r);
    j.by_shares = cf_route_by_shares(r, c->n_rows, g->o.model->n_embd);
    uint32_t width = g->o.model->n_embd;
    if (j.by_shares) width = r->share_cut[r->my_share + 1] - r->share_cut[r->my_share];
    for (uint32_t p = 0; p < r->x.n_in; p++) {
        struct cf_extent due = cf_route_extent(r, false, p, c->n_rows, g->o.model->n_embd);
        if (!(j.part[p] = cf__part(g, c, r, p, due, e))) return -1;
    }
    uint32_t items = c->n_rows * ((width + ADD_COLUMNS - 1) / ADD_COLUMNS);
    if (items * r->tree.n_vectors <= ADD_ALONE) { /* sooner done than the team is woken */
        struct adding a = adding_of(&j, 0);
        add_items(&j, &a, 0, items);
        for (uint32_t row = 0; row < c->n_rows && j.post && !j.by_shares; row++)
            add_normed(&j, row);
    } else {
        cf_team_do(g->o.team, add_thread, &j, items);
    }
    cf_mail_release(&g->mail, &r->x, c->id);
    if (!j.by_shares) return 0;
    const struct cf_route *share = r + 1; /* numbered right behind its sum */
    struct cf_extent shape = {c->n_rows, width, 0};
    if (share->rounds && cf__round(g, share, c->stage, shape, c->stage_out.packed, e)) return -1;
    for (uint32_t k = 0; k < share->x.n_out; k++)
        if (cf__send_stage(g, c, share, k, shape, e)) return -1;
    return 0;
}

static void share_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf__job *j = ctx;
    struct cf_engine *g = j->g;
    const struct cf_route *r = j->route;
    uint32_t n_embd = g->o.model->n_embd, first, last;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        float *h = j->c->h + (size_t)first * n_embd, *sum = j->post ? g->post + (size_t)first * n_embd : NULL;
        for (uint32_t p = 0; p <= r->x.n_in; p++) {
            uint32_t s = p < r->x.n_in ? r->in_vector[p] : (uint32_t)r->my_share;
            uint32_t width = r->share_cut[s + 1] - r->share_cut[s];
            const float *part = p < r->x.n_in ? j->part[p] : j->c->stage;
            if (sum)
                memcpy(sum + r->share_cut[s], part + (size_t)first * width, width * sizeof(float));
            else
                g->o.kernels->add(h + r->share_cut[s], part + (size_t)first * width, width);
        }
        if (sum) add_normed(j, first);
    }
}

int cf__step_share(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    if (!cf_route_by_shares(r, c->n_rows, g->o.model->n_embd)) return 0;
    struct cf__job j = {.g = g, .c = c, .i = i, .route = r, .n_rows = c->n_rows, .post = sum_norm(g, r)};
    for (uint32_t p = 0; p < r->x.n_in; p++) {
        struct cf_extent due = cf_route_extent(r, false, p, c->n_rows, g->o.model->n_embd);
        if (!(j.part[p] = cf__part(g, c, r, p, due, e))) return -1;
    }
    cf_team_do(g->o.team, share_thread, &j, c->n_rows);
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}
