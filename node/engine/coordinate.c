/* Rank 0's side of the engine: batches out, logits in, counters, the end. */
#include <string.h>

#include "node/engine/state.h"

/* Who holds nothing has nothing to do with it: where it is slow, what it is told would only pile up. */
static int tell_workers(struct cf_engine *g, Cf__Envelope *env, struct cf_error *e) {
    for (int r = 1; r < g->size; r++)
        if (g->works[r] && cf_post(g->o.transport, r, env, NULL, 0, NULL, e)) return -1;
    return 0;
}

int cf_engine_submit(struct cf_engine *g, struct cf_batch *b, struct cf_error *e) {
    const struct cf_plan *p = &g->plan;
    if (!b->n_rows || b->n_rows > p->n_rows || b->n_want > p->n_want)
        return cf_fail(e, CF_ERR_LIMIT, "a batch of %u rows, %u wanted; the plan allows %u and %u", b->n_rows,
            b->n_want, p->n_rows, p->n_want);
    uint32_t busy = 0;
    for (uint32_t i = 0; i < p->n_flight; i++)
        busy += g->contexts[i].used;
    for (uint32_t i = 0; i < g->queue_n; i++)
        busy += !cf__queue_at(g, i)->kv;
    if (busy >= p->n_flight) return cf_fail(e, CF_ERR_LIMIT, "%u batches are in flight already", busy);
    b->id = g->next_id++;
    union {
        const uint32_t *in;
        uint32_t *out;
    } s = {.in = b->sequence}, q = {.in = b->position}, t = {.in = b->token}, w = {.in = b->want};
    Cf__Batch msg = CF__BATCH__INIT;
    msg.id = b->id, msg.n_sequence = msg.n_position = msg.n_token = b->n_rows, msg.n_want = b->n_want;
    msg.sequence = s.out, msg.position = q.out, msg.token = t.out, msg.want = w.out;
    msg.hidden = b->hidden;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_BATCH, env.batch = &msg;
    if (tell_workers(g, &env, e)) return -1;
    return cf__take_batch(g, &msg, e);
}

int cf_engine_wait(struct cf_engine *g, uint32_t id, struct cf_error *e) {
    for (;;) {
        struct cf_context *c = cf__context_of(g, id);
        if (c && c->done) return 0;
        if (cf__engine_turn(g, e)) return -1;
    }
}

const float *cf_engine_logits(const struct cf_engine *g, uint32_t id, uint32_t i) {
    return cf__context_of(g, id)->logits + (size_t)i * g->o.model->n_vocab;
}

const float *cf_engine_hidden(const struct cf_engine *g, uint32_t id, uint32_t i) {
    return cf__context_of(g, id)->logits + (size_t)i * g->o.model->n_embd;
}

void cf_engine_finish(struct cf_engine *g, uint32_t id) {
    struct cf_context *c = cf__context_of(g, id);
    if (c) c->used = false;
}

int cf__kv_operation(struct cf_engine *g, uint32_t kind, uint32_t sequence, uint32_t position, struct cf_error *e) {
    Cf__KvOperation k = CF__KV_OPERATION__INIT;
    k.after_batch = g->next_id - 1, k.kind = kind, k.sequence = sequence, k.position = position;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_KV, env.kv = &k;
    if (tell_workers(g, &env, e)) return -1;
    cf__open_contexts(g); /* takes at once what need not wait, so that the queue has room */
    int rc = cf__take_kv(g, &k, e);
    if (rc > 0) return cf_fail(e, CF_ERR_LIMIT, "too many operations are queued");
    cf__open_contexts(g);
    return rc;
}

int cf_engine_truncate(struct cf_engine *g, uint32_t sequence, uint32_t position, struct cf_error *e) {
    return cf__kv_operation(g, CF_KV_TRUNCATE, sequence, position, e);
}

static bool all_counted(void *ctx) {
    struct cf_engine *g = ctx;
    for (int r = 0; r < g->size; r++)
        if (!g->counts[r].here) return false;
    return true;
}

int cf_engine_counts(struct cf_engine *g, struct cf_rank_counts *counts, struct cf_error *e) {
    memset(g->counts, 0, (size_t)g->size * sizeof *g->counts);
    Cf__Statistics s = CF__STATISTICS__INIT;
    s.request = 1;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_STATISTICS, env.statistics = &s;
    for (int r = 1; r < g->size; r++)
        if (cf_post(g->o.transport, r, &env, NULL, 0, NULL, e)) return -1;
    if (cf__answer_counts(g, e) || cf_wait(g->o.transport, all_counted, g, NULL, e)) return -1;
    memcpy(counts, g->counts, (size_t)g->size * sizeof *counts);
    return 0;
}

const struct cf_traffic *cf_engine_traffic(const struct cf_engine *g, int from) {
    return g->traffic + (size_t)from * (size_t)g->size;
}

int cf_engine_shutdown(struct cf_engine *g, bool last, struct cf_error *e) {
    Cf__Shutdown s = CF__SHUTDOWN__INIT;
    s.last = last;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_SHUTDOWN, env.shutdown = &s;
    for (int r = 1; r < g->size; r++)
        if (cf_post(g->o.transport, r, &env, NULL, 0, NULL, e)) return -1;
    return 0;
}
