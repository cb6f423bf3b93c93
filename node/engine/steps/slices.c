/* Slices by heads between LEFT_HEMI and TEMPORAL, where those are different groups: q, k, v one way, attention output
 * the other. What stays on this rank waits at the front of the stage.
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

/* The slices of q, k and v that other ranks attend with. */
int cf__send_qkv(struct cf_engine *g, struct cf_context *c, const struct cf_instr *i, struct cf_error *e) {
    const struct cf_route *r = &g->program.routes[i->route];
    struct cf_heads own = own_heads(g, CF_LEFT_HEMI, i->layer);
    float *at = c->stage;
    if (r->self.q1 > r->self.q0 || r->self.kv1 > r->self.kv0) { /* kept for TAKE_QKV at the front of the stage */
        copy_heads(g, &r->self, &own, at, c->n_rows, true);
        at += (size_t)c->n_rows * part_columns(g->o.model, &r->self);
    }
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        uint32_t columns = part_columns(g->o.model, &r->out_heads[k]);
        copy_heads(g, &r->out_heads[k], &own, at, c->n_rows, true);
        struct cf_parcel p = {c->id, k, at, c->n_rows, columns};
        if (cf_mail_send(&g->mail, &r->x, &p, &c->stage_out, e)) return -1;
        at += (size_t)c->n_rows * columns;
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
        } part = {
            .in = cf_mail_part(&g->mail, &r->x, c->id, k, c->n_rows, part_columns(g->o.model, &r->in_heads[k]), e)};
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
    float *at = c->stage;
    if (r->self.q1 > r->self.q0) {
        copy_outputs(g, &r->self, first, at, c->n_rows, true);
        at += (size_t)c->n_rows * (r->self.q1 - r->self.q0) * g->o.model->d_v;
    }
    for (uint32_t k = 0; k < r->x.n_out; k++) {
        uint32_t columns = (r->out_heads[k].q1 - r->out_heads[k].q0) * g->o.model->d_v;
        copy_outputs(g, &r->out_heads[k], first, at, c->n_rows, true);
        struct cf_parcel p = {c->id, k, at, c->n_rows, columns};
        if (cf_mail_send(&g->mail, &r->x, &p, &c->stage_out, e)) return -1;
        at += (size_t)c->n_rows * columns;
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
        } part = {.in = cf_mail_part(&g->mail, &r->x, c->id, k, c->n_rows,
                      (r->in_heads[k].q1 - r->in_heads[k].q0) * g->o.model->d_v, e)};
        if (!part.in) return -1;
        copy_outputs(g, &r->in_heads[k], first, part.out, c->n_rows, false);
    }
    cf_mail_release(&g->mail, &r->x, c->id);
    return 0;
}
