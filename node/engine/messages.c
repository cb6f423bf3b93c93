/* What arrives for the engine: one callback sorts it, the loop picks it up. Also the poll between tiles. */
#include <stdio.h>
#include <string.h>

#include "node/engine/state.h"

struct cf_queued *cf__queue_at(struct cf_engine *g, uint32_t i) {
    return &g->queue[(g->queue_first + i) % g->queue_room];
}

/* A sequence grows without gaps: the rows of a batch, in any order, go on where it ends. */
static int fill(struct cf_engine *g, const struct cf_queued *q, struct cf_error *e) {
    for (uint32_t i = 0; i < q->n_rows; i++) {
        struct cf_filled *f = &g->filled[q->sequence[i]];
        f->added = 0, f->end = f->n;
    }
    for (uint32_t i = 0; i < q->n_rows; i++) {
        struct cf_filled *f = &g->filled[q->sequence[i]];
        f->added += q->position[i] >= f->n;
        if (q->position[i] >= f->end) f->end = q->position[i] + 1;
    }
    for (uint32_t i = 0; i < q->n_rows; i++) {
        struct cf_filled *f = &g->filled[q->sequence[i]];
        if (f->end != f->n + f->added)
            return cf_fail(e, CF_ERR_LIMIT, "batch %u: sequence %u has %u positions and does not go on there", q->id,
                q->sequence[i], f->n);
    }
    for (uint32_t i = 0; i < q->n_rows; i++)
        g->filled[q->sequence[i]].n = g->filled[q->sequence[i]].end;
    return 0;
}

int cf__take_batch(struct cf_engine *g, const Cf__Batch *b, struct cf_error *e) {
    if (g->queue_n == g->queue_room) return 1;
    const struct cf_plan *p = &g->plan;
    if (!g->started || !b->n_token || b->n_token > p->n_rows || b->n_sequence != b->n_token ||
        b->n_position != b->n_token || b->n_want > p->n_want)
        return cf_fail(e, CF_ERR_PEER, "rank 0 sent a batch of %zu rows, %zu wanted; the plan allows %u and %u",
            b->n_token, b->n_want, p->n_rows, p->n_want);
    struct cf_queued *q = cf__queue_at(g, g->queue_n);
    q->kv = false, q->hidden = b->hidden, q->id = b->id, q->n_rows = (uint32_t)b->n_token,
    q->n_want = (uint32_t)b->n_want;
    for (uint32_t i = 0; i < q->n_rows; i++) {
        if (b->token[i] >= g->o.model->n_vocab || b->sequence[i] >= p->n_seqs || b->position[i] >= p->n_ctx)
            return cf_fail(e, CF_ERR_LIMIT, "row %u of batch %u: token %u, sequence %u, position %u is out of range", i,
                b->id, b->token[i], b->sequence[i], b->position[i]);
        q->token[i] = b->token[i], q->sequence[i] = b->sequence[i], q->position[i] = b->position[i];
    }
    if (fill(g, q, e)) return -1;
    for (uint32_t i = 0; i < q->n_want; i++) {
        if (b->want[i] >= q->n_rows || (i && b->want[i] <= b->want[i - 1]))
            return cf_fail(e, CF_ERR_PEER, "batch %u wants row %u of %u", b->id, b->want[i], q->n_rows);
        q->want[i] = b->want[i];
    }
    g->queue_n++;
    return 0;
}

int cf__take_kv(struct cf_engine *g, const Cf__KvOperation *k, struct cf_error *e) {
    if (g->queue_n == g->queue_room) return 1;
    if (k->sequence >= g->plan.n_seqs) return 0;
    uint32_t *filled = &g->filled[k->sequence].n;
    if (k->kind == CF_KV_EXPORT ? k->position > *filled : k->kind == CF_KV_IMPORT && k->position > g->plan.n_ctx)
        return cf_fail(e, CF_ERR_LIMIT, "sequence %u holds %u positions, not %u", k->sequence, *filled, k->position);
    if (g->plan.kv_size && k->position && k->position < *filled)
        return cf_fail(e, CF_ERR_LIMIT, "sequence %u: a cache that rotates cannot go back to position %u", k->sequence,
            k->position);
    if (k->kind == CF_KV_IMPORT || (k->kind == CF_KV_TRUNCATE && k->position < *filled)) *filled = k->position;
    struct cf_queued *q = cf__queue_at(g, g->queue_n++);
    q->kv = true, q->after = k->after_batch;
    q->kv_kind = k->kind, q->kv_sequence = k->sequence, q->kv_position = k->position;
    return 0;
}

static void take_ready(struct cf_engine *g, int from, const Cf__Ready *r) {
    struct cf_rank_ready *k = &g->ready[from];
    k->ready = true, k->threads = r->threads, k->bytes = r->bytes, k->pages = r->pages, k->local = r->pages_local,
    k->huge = r->pages_huge;
    k->load_seconds = r->load_seconds, k->load_bytes = r->load_bytes;
    k->read_seconds = r->read_seconds, k->pack_seconds = r->pack_seconds, k->audit_seconds = r->audit_seconds;
    k->window = r->window_bytes;
    snprintf(k->note, sizeof k->note, "%s", r->note ? r->note : "");
}

static void take_traffic(struct cf_engine *g, int from, const Cf__Statistics *s) {
    struct cf_traffic *row = g->traffic + (size_t)from * (size_t)g->size;
    memset(row, 0, (size_t)g->size * sizeof *row);
    for (size_t i = 0; i < s->n_traffic; i++) {
        const Cf__Traffic *t = s->traffic[i];
        if (t->to < (uint32_t)g->size) row[t->to] = (struct cf_traffic){t->messages, t->payload, t->bytes, t->window};
    }
}

static void take_counts(struct cf_engine *g, int from, const Cf__Statistics *s) {
    struct cf_rank_counts *k = &g->counts[from];
    memset(k, 0, sizeof *k);
    k->here = true, k->compute = s->compute, k->exchange = s->exchange, k->wait = s->wait,
    k->resident = s->rss_anonymous, k->peak = s->peak;
    for (size_t i = 0; i < s->n_domains; i++) {
        const Cf__DomainStatistics *d = s->domains[i];
        if (d->domain < CF_DOMAINS)
            k->domain[d->domain] = (struct cf_domain_count){d->tensors, d->bytes, d->hits, d->bytes_read, d->seconds};
    }
    for (size_t i = 0; i < s->n_rounding; i++) {
        const Cf__Rounding *r = s->rounding[i];
        if (r->step < CF_STEP_KINDS)
            k->wire[r->step] = (struct cf_wire_count){r->values, r->cut, r->error2, r->value2, r->most};
    }
    take_traffic(g, from, s);
}

int cf__on_message(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    struct cf_engine *g = ctx;
    switch (env->body_case) {
    case CF__ENVELOPE__BODY_ACTIVATION:
        if (!g->started) return 1; /* a faster rank is ahead of our loading: it waits in the transport */
        return cf_mail_deliver(&g->mail, from, env->activation, env->payload_bytes, data, offset, n, e);
    case CF__ENVELOPE__BODY_BATCH: return g->started ? cf__take_batch(g, env->batch, e) : 1;
    case CF__ENVELOPE__BODY_KV: return g->started ? cf__take_kv(g, env->kv, e) : 1;
    case CF__ENVELOPE__BODY_KV_PAGE: return g->started ? cf__take_page(g, from, env, data, offset, n, e) : 1;
    case CF__ENVELOPE__BODY_PLAN:
        if (g->shutdown) return 1; /* rank 0 is ahead: this one is for the engine that comes after us */
        if (g->have_plan || from != 0) return cf_fail(e, CF_ERR_PEER, "rank %d sent a second plan", from);
        if (cf_plan_from_message(&g->plan, env->plan, e)) return -1;
        g->have_plan = true;
        return 0;
    case CF__ENVELOPE__BODY_READY:
        if (g->rank == 0) take_ready(g, from, env->ready);
        return 0;
    case CF__ENVELOPE__BODY_PROGRESS:
        if (g->rank == 0) g->loaded[from] = env->progress->bytes_done, g->to_load[from] = env->progress->bytes_total;
        return 0;
    case CF__ENVELOPE__BODY_STATISTICS:
        if (env->statistics->request)
            g->counts_wanted = true;
        else if (g->rank == 0)
            take_counts(g, from, env->statistics);
        return 0;
    case CF__ENVELOPE__BODY_SHUTDOWN: g->shutdown = true, g->last = env->shutdown->last; return 0;
    case CF__ENVELOPE__BODY_SHIP_WORD:
    case CF__ENVELOPE__BODY_SHIP_OVER: return 1; /* for the ship, once this rank is there */
    default: return 0;
    }
}

/* Called by thread 0 between tiles. */
void cf__poll(void *ctx) {
    struct cf_engine *g = ctx;
    if (g->poll_failed) return;
    if (cf_progress(g->o.transport, &g->poll_error) < 0) g->poll_failed = true;
}

int cf__polled(struct cf_engine *g, struct cf_error *e) {
    if (!g->poll_failed) return 0;
    *e = g->poll_error;
    return -1;
}

struct sent {
    const int *pending;
};
static bool all_sent(void *ctx) {
    return *((struct sent *)ctx)->pending == 0;
}

int cf__wait_sent(struct cf_engine *g, const int *pending, struct cf_error *e) {
    struct sent s = {pending};
    if (!*pending) return 0;
    return cf_wait(g->o.transport, all_sent, &s, &g->own.wait, e);
}
