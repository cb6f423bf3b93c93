/* Attention of one batch on one layer: new keys and values into their pages, then every query head over its pages.
 *
 * Pages are taken ascending, spans of 1,024 positions start fresh and merge ascending, so that the result is the same
 * whether one thread walks all spans of a head or several share them (few rows, long context).
 */
#include <math.h>
#include <string.h>

#include "node/engine/state.h"

struct attend_job {
    struct cf_engine *g;
    struct cf_context *c;
    uint32_t layer, heads, per_kv, q0; /* local query heads; query heads per KV head; first query head */
    uint32_t spans;                    /* items per head when spans are shared out, else 0 */
    float scale;
};

static size_t state_floats(const struct cf_engine *g) {
    return 17 + g->kv.d_v;
}

static void append_rows(struct attend_job *j, struct cf_team *team, uint32_t thread) {
    struct cf_engine *g = j->g;
    const struct cf_kv *kv = &g->kv;
    uint32_t first, last, n_kv = kv->n_kv[j->layer], d_k = kv->d_k, d_v = kv->d_v;
    uint16_t half[1024];
    while (cf_team_next(team, thread, 4, &first, &last)) {
        for (uint32_t row = first; row < last; row++) {
            uint32_t at = j->c->position[row] % CF_PAGE, page = j->c->position[row] / CF_PAGE;
            for (uint32_t h = 0; h < n_kv; h++) {
                uint16_t *keys = cf_kv_keys(kv, j->c->sequence[row], page, j->layer, h);
                g->o.kernels->to_f16(half, g->k + ((size_t)row * n_kv + h) * d_k, d_k);
                for (uint32_t d = 0; d < d_k; d++)
                    keys[d * CF_PAGE + at] = half[d];
                uint16_t *values = cf_kv_values(kv, j->c->sequence[row], page, j->layer, h);
                g->o.kernels->to_f16(values + at * d_v, g->v + ((size_t)row * n_kv + h) * d_v, d_v);
            }
        }
    }
}

static void clear(struct cf_attention_state *s, float *acc, uint32_t d_v) {
    s->max = -INFINITY;
    memset(s->sum, 0, sizeof s->sum);
    memset(acc, 0, d_v * sizeof(float));
    s->acc = acc;
}

/* One span of one head of one row. */
static void attend_span(
    const struct attend_job *j, uint32_t row, uint32_t head, uint32_t span, struct cf_attention_state *s) {
    struct cf_engine *g = j->g;
    const struct cf_kv *kv = &g->kv;
    uint32_t kv_head = (j->q0 + head) / j->per_kv - kv->kv0[j->layer], keys = j->c->position[row] + 1;
    const float *q = g->q + ((size_t)row * j->heads + head) * kv->d_k;
    for (uint32_t page = span * (CF_SPAN / CF_PAGE); page < (span + 1) * (CF_SPAN / CF_PAGE); page++) {
        if (page * CF_PAGE >= keys) return;
        struct cf_attention_page p = {.k = cf_kv_keys(kv, j->c->sequence[row], page, j->layer, kv_head),
            .v = cf_kv_values(kv, j->c->sequence[row], page, j->layer, kv_head),
            .d_k = kv->d_k,
            .d_v = kv->d_v,
            .scale = j->scale,
            .n_queries = 1};
        s->q = q, s->n = keys - page * CF_PAGE < CF_PAGE ? keys - page * CF_PAGE : CF_PAGE;
        g->o.kernels->attend_page(s, &p);
    }
}

static float *output_of(const struct attend_job *j, uint32_t row, uint32_t head) {
    return j->g->wide.f + row * j->g->wide.stride + (size_t)head * j->g->kv.d_v;
}

/* Items: (head, row), all spans by one thread. */
static void whole_heads(struct attend_job *j, struct cf_team *team, uint32_t thread) {
    const struct cf_kernels *k = j->g->o.kernels;
    uint32_t first, last, d_v = j->g->kv.d_v;
    float *scratch = j->g->thread_scratch + thread * j->g->thread_floats;
    while (cf_team_next(team, thread, 4, &first, &last)) {
        for (uint32_t item = first; item < last; item++) {
            uint32_t head = item / j->c->n_rows, row = item % j->c->n_rows;
            struct cf_attention_state total, part;
            clear(&total, scratch, d_v);
            for (uint32_t span = 0; span * CF_SPAN <= j->c->position[row]; span++) {
                clear(&part, scratch + d_v, d_v);
                attend_span(j, row, head, span, &part);
                k->attend_merge(&total, &part, d_v);
            }
            k->attend_finish(output_of(j, row, head), &total, d_v);
        }
    }
}

/* Items: (head, row, span); then (head, row) merges. */
static void shared_spans(struct attend_job *j, struct cf_team *team, uint32_t thread) {
    struct cf_engine *g = j->g;
    const struct cf_kernels *k = g->o.kernels;
    uint32_t first, last, d_v = g->kv.d_v, n_rows = j->c->n_rows;
    size_t floats = state_floats(g);
    struct cf_attention_state s;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        for (uint32_t item = first; item < last; item++) {
            uint32_t span = item % j->spans, head = item / j->spans / n_rows, row = item / j->spans % n_rows;
            float *store = g->span_states + item * floats;
            clear(&s, store + 17, d_v);
            attend_span(j, row, head, span, &s);
            store[0] = s.max;
            memcpy(store + 1, s.sum, sizeof s.sum);
        }
    }
    cf_team_again(team, thread, j->heads * n_rows);
    while (cf_team_next(team, thread, 1, &first, &last)) {
        for (uint32_t item = first; item < last; item++) {
            uint32_t head = item / n_rows, row = item % n_rows;
            struct cf_attention_state total;
            clear(&total, g->thread_scratch + thread * g->thread_floats, d_v);
            for (uint32_t span = 0; span * CF_SPAN <= j->c->position[row]; span++) {
                float *store = g->span_states + ((size_t)item * j->spans + span) * floats;
                s.max = store[0], s.acc = store + 17;
                memcpy(s.sum, store + 1, sizeof s.sum);
                k->attend_merge(&total, &s, d_v);
            }
            k->attend_finish(output_of(j, row, head), &total, d_v);
        }
    }
}

static void attend_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct attend_job *j = ctx;
    append_rows(j, team, thread);
    cf_team_again(team, thread, j->heads * j->c->n_rows * (j->spans ? j->spans : 1));
    if (j->spans)
        shared_spans(j, team, thread);
    else
        whole_heads(j, team, thread);
}

int cf__attend(struct cf_engine *g, struct cf_context *c, uint32_t layer, struct cf_error *e) {
    const struct cf_model *m = g->o.model;
    uint32_t first = 0, last = 0, longest = 0;
    cf_plan_member(cf_plan_find(&g->plan, CF_TEMPORAL, layer), g->rank, &first, &last);
    struct cf_heads h = cf_model_heads(m, first, last);
    for (uint32_t r = 0; r < c->n_rows; r++) {
        if (cf_kv_reserve(&g->kv, c->sequence[r], c->position[r], e)) return -1;
        if (c->position[r] > longest) longest = c->position[r];
    }
    struct attend_job j = {g, c, layer, h.q1 - h.q0, m->n_head / m->n_head_kv, h.q0, 0, 0.0f};
    j.scale = 1.0f / sqrtf((float)m->d_k);
    uint32_t spans = longest / CF_SPAN + 1;
    if (spans > 1 && j.heads * c->n_rows < 4 * cf_team_size(g->o.team) &&
        (size_t)j.heads * c->n_rows * spans * state_floats(g) <= g->span_floats)
        j.spans = spans;
    cf_team_do(g->o.team, attend_thread, &j, c->n_rows);
    return 0;
}
