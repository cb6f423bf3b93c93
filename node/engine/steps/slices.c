/* Slices by heads between LEFT_HEMI and TEMPORAL, where those are different groups: q, k, v one way, attention output
 * the other. What stays on this rank waits at the front of the stage. Where a part goes to another host all are rounded
 * in the same way, so that a head is the same wherever it is used.
 */
#include <string.h>

#include "node/engine/steps/job.h"

/* Copies head slices between a packed part [rows][q | k | v] and q, k, v. out: from q, k, v into the part. */
static void copy_heads(struct cf_engine *g, const struct cf_heads *part, const struct cf_heads *own, float *packed,
    uint32_t rows, bool out) {
    const struct cf_model *m = g->o.model;
    struct {
        float *base;
        uint32_t first, n, own_first, own_n, d;
    } s[3] = {{g->q, part->q0, part->q1 - part->q0, own->q0, own->q1 - own->q0, m->d_k},
        {g->k, part->kv0, part->kv1 - part->kv0, own->kv0, own->kv1 - own->kv0, m->d_k},
        {g->v, part->kv0, part->kv1 - part->kv0, own->kv0, own->kv1 - own->kv0, m->d_v_apart}};
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
    return (h->q1 - h->q0) * m->d_k + (h->kv1 - h->kv0) * (m->d_k + m->d_v_apart);
}

/* This rank's heads as a member of LEFT_HEMI or TEMPORAL. */
static struct cf_heads own_heads(const struct cf_engine *g, enum cf_domain domain, uint32_t layer) {
    uint32_t first = 0, last = 0;
    cf_plan_member(cf_plan_find(&g->plan, domain, layer), g->rank, &first, &last);
    return cf_model_heads(g->o.model, first, last);
}

/* Parts in the stage, one behind the other. */
struct giving {
    struct cf_engine *g;
    struct cf_context *c;
    const struct cf_route *r;
    float *at;    /* the next one */
    char *packed; /* where it goes when it is rounded */
};

static struct giving giving_of(struct cf_engine *g, struct cf_context *c, const struct cf_route *r) {
    return (struct giving){g, c, r, c->stage, c->stage_out.packed};
}

enum { STAYS = CF_MAX_PARTS };

/* The next part is there: to receiver k. */
static int give(struct giving *v, uint32_t k, uint32_t columns, struct cf_error *e) {
    struct cf_extent s = {v->c->n_rows, columns, v->r->line};
    const float *at = v->at;
    const char *packed = v->packed;
    if (v->r->rounds) {
        if (cf__round(v->g, v->r, v->at, s, v->packed, e)) return -1;
        v->packed += cf_extent_bytes(s, v->g->plan.wire);
    }
    v->at += (size_t)s.rows * columns;
    if (k == STAYS) return 0;
    bool packs = v->r->x.out[k].dtype != CF_DTYPE_F32;
    struct cf_parcel p = {v->c->id, k, packs ? (const void *)packed : at, s};
    return cf_mail_send(&v->g->mail, &v->r->x, &p, &v->c->stage_out, e);
}

/* The slices of q, k and v that other ranks attend with. */
int cf__send_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    struct cf_heads own = own_heads(g, CF_LEFT_HEMI, i->layer);
    struct giving v = giving_of(g, c, r);
    if (r->self_columns) { /* kept for TAKE_QKV at the front of the stage */
        copy_heads(g, &r->self, &own, v.at, c->n_rows, true);
        if (give(&v, STAYS, r->self_columns, e)) return -1;
    }
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        copy_heads(g, &r->out_heads[k], &own, v.at, c->n_rows, true);
        if (give(&v, k, part_columns(g->o.model, &r->out_heads[k]), e)) return -1;
    }
    return 0;
}

int cf__step_take_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    struct cf_heads own = own_heads(g, CF_TEMPORAL, i->layer);
    if (r->self.q1 > r->self.q0 || r->self.kv1 > r->self.kv0) copy_heads(g, &r->self, &own, c->stage, c->n_rows, false);
    for (uint32_t k = 0; k < r->x.n_in; k++) {
        union {
            const float *in;
            float *out;
        } part = {.in = cf__part(g, c, r, k, cf_route_extent(r, false, k, c->n_rows, g->o.model->n_embd), e)};
        if (!part.in) return -1;
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

int cf__step_attend(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    if (cf__attend(g, c, i->layer, e)) return -1;
    if (i->route < 0) return 0;
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t first = own_heads(g, CF_TEMPORAL, i->layer).q0;
    struct giving v = giving_of(g, c, r);
    if (r->self_columns) {
        copy_outputs(g, &r->self, first, v.at, c->n_rows, true);
        if (give(&v, STAYS, r->self_columns, e)) return -1;
    }
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        copy_outputs(g, &r->out_heads[k], first, v.at, c->n_rows, true);
        if (give(&v, k, (r->out_heads[k].q1 - r->out_heads[k].q0) * g->o.model->d_v, e)) return -1;
    }
    return 0;
}

int cf__step_take_heads(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    uint32_t first = own_heads(g, CF_LEFT_HEMI, i->layer).q0;
    if (r->self.q1 > r->self.q0) copy_outputs(g, &r->self, first, c->stage, c->n_rows, false);
    for (uint32_t k = 0; k < r->x.n_in; k++) {
        union {
            const float *in;
            float *out;
        } part = {.in = cf__part(g, c, r, k, cf_route_extent(r, false, k, c->n_rows, g->o.model->n_embd), e)};
        if (!part.in) return -1;
        copy_outputs(g, &r->in_heads[k], first, part.out, c->n_rows, false);
    }
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}
