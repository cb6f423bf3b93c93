/* See engine.h: start, the message loop, and rank 0's side. The steps themselves are in steps.c and attend.c. */
#include "node/model/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/model/state.h"
#include "transport/clock.h"

/* ---- messages -------------------------------------------------------------------------------------------------- */

static struct cf_queued *queue_at(struct cf_engine *g, uint32_t i) {
    return &g->queue[(g->queue_first + i) % g->queue_room];
}

static int take_batch(struct cf_engine *g, const Cf__Batch *b, struct cf_error *e) {
    if (g->queue_n == g->queue_room) return 1;
    const struct cf_plan *p = &g->plan;
    if (!g->started || !b->n_token || b->n_token > p->n_rows || b->n_sequence != b->n_token ||
        b->n_position != b->n_token || b->n_want > p->n_want)
        return cf_fail(e, CF_ERR_PEER, "rank 0 sent a batch of %zu rows, %zu wanted; the plan allows %u and %u",
            b->n_token, b->n_want, p->n_rows, p->n_want);
    struct cf_queued *q = queue_at(g, g->queue_n);
    q->kv = false, q->id = b->id, q->n_rows = (uint32_t)b->n_token, q->n_want = (uint32_t)b->n_want;
    for (uint32_t i = 0; i < q->n_rows; i++) {
        if (b->token[i] >= g->o.model->n_vocab || b->sequence[i] >= p->n_seqs || b->position[i] >= p->n_ctx)
            return cf_fail(e, CF_ERR_LIMIT, "row %u of batch %u: token %u, sequence %u, position %u is out of range", i,
                b->id, b->token[i], b->sequence[i], b->position[i]);
        q->token[i] = b->token[i], q->sequence[i] = b->sequence[i], q->position[i] = b->position[i];
    }
    for (uint32_t i = 0; i < q->n_want; i++) {
        if (b->want[i] >= q->n_rows || (i && b->want[i] <= b->want[i - 1]))
            return cf_fail(e, CF_ERR_PEER, "batch %u wants row %u of %u", b->id, b->want[i], q->n_rows);
        q->want[i] = b->want[i];
    }
    g->queue_n++;
    return 0;
}

static int take_kv(struct cf_engine *g, const Cf__KvOperation *k) {
    if (g->queue_n == g->queue_room) return 1;
    struct cf_queued *q = queue_at(g, g->queue_n++);
    q->kv = true, q->after = k->after_batch, q->kv_sequence = k->sequence, q->kv_position = k->position;
    return 0;
}

static void take_ready(struct cf_engine *g, int from, const Cf__Ready *r) {
    struct cf_rank_ready *k = &g->ready[from];
    k->ready = true, k->bytes = r->bytes, k->pages = r->pages, k->local = r->pages_local, k->huge = r->pages_huge;
    k->load_seconds = r->load_seconds;
    snprintf(k->note, sizeof k->note, "%s", r->note ? r->note : "");
}

static void take_counts(struct cf_engine *g, int from, const Cf__Statistics *s) {
    struct cf_rank_counts *k = &g->counts[from];
    memset(k, 0, sizeof *k);
    k->here = true, k->compute = s->compute, k->exchange = s->exchange, k->wait = s->wait,
    k->resident = s->rss_anonymous;
    for (size_t i = 0; i < s->n_domains; i++) {
        const Cf__DomainStatistics *d = s->domains[i];
        if (d->domain < CF_DOMAINS)
            k->domain[d->domain] = (struct cf_domain_count){d->tensors, d->bytes, d->hits, d->bytes_read, d->seconds};
    }
}

static int on_message(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    struct cf_engine *g = ctx;
    switch (env->body_case) {
    case CF__ENVELOPE__BODY_ACTIVATION:
        if (!g->started) return 1; /* a faster rank is ahead of our loading: it waits in the transport */
        return cf_mail_deliver(&g->mail, from, env->activation, env->payload_bytes, data, offset, n, e);
    case CF__ENVELOPE__BODY_BATCH: return g->started ? take_batch(g, env->batch, e) : 1;
    case CF__ENVELOPE__BODY_KV: return g->started ? take_kv(g, env->kv) : 1;
    case CF__ENVELOPE__BODY_PLAN:
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
    case CF__ENVELOPE__BODY_SHUTDOWN: g->shutdown = true; return 0;
    default: return 0;
    }
}

/* Called by thread 0 between tiles. */
static void poll(void *ctx) {
    struct cf_engine *g = ctx;
    if (g->poll_failed) return;
    if (cf_progress(g->o.transport, &g->poll_error) < 0) g->poll_failed = true;
}

static int polled(struct cf_engine *g, struct cf_error *e) {
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

/* ---- start ----------------------------------------------------------------------------------------------------- */

int cf_engine_open(struct cf_engine **out, const struct cf_engine_options *o, struct cf_error *e) {
    struct cf_engine *g = calloc(1, sizeof *g);
    if (!g) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    g->o = *o;
    g->rank = cf_transport_rank(o->transport), g->size = cf_transport_size(o->transport);
    g->next_id = 1;
    g->ready = calloc((size_t)g->size, sizeof *g->ready), g->counts = calloc((size_t)g->size, sizeof *g->counts);
    g->loaded = calloc((size_t)g->size, sizeof *g->loaded), g->to_load = calloc((size_t)g->size, sizeof *g->to_load);
    if (!g->ready || !g->counts || !g->loaded || !g->to_load) {
        cf_engine_close(g);
        return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    cf_transport_on_message(o->transport, on_message, g);
    cf_team_poll(o->team, poll, g, 0.0005);
    *out = g;
    return 0;
}

/* Rows and columns that this rank's steps need at most. */
struct extent {
    uint32_t q, k, v, att, ffn, vocab;
};
static struct extent extent_of(const struct cf_engine *g) {
    struct extent x = {0};
    const struct cf_model *m = g->o.model;
    uint32_t first, last;
    for (uint32_t l = 0; l < m->n_layers; l++) {
        for (int d = CF_LEFT_HEMI; d < CF_DOMAINS; d++) {
            if (cf_plan_member(cf_plan_find(&g->plan, (enum cf_domain)d, l), g->rank, &first, &last) < 0) continue;
            if (d == CF_RIGHT_HEMI) {
                uint32_t columns = cf_axis_cut(&m->ffn, last) - cf_axis_cut(&m->ffn, first);
                if (columns > x.ffn) x.ffn = columns;
                continue;
            }
            struct cf_heads h = cf_model_heads(m, first, last);
            if ((h.q1 - h.q0) * m->d_k > x.q) x.q = (h.q1 - h.q0) * m->d_k;
            if ((h.kv1 - h.kv0) * m->d_k > x.k) x.k = (h.kv1 - h.kv0) * m->d_k;
            if ((h.kv1 - h.kv0) * m->d_v > x.v) x.v = (h.kv1 - h.kv0) * m->d_v;
            if ((h.q1 - h.q0) * m->d_v > x.att) x.att = (h.q1 - h.q0) * m->d_v;
        }
    }
    if (cf_plan_member(cf_plan_find(&g->plan, CF_PREFRONTAL, 0), g->rank, &first, &last) >= 0)
        x.vocab = (last - first) * CF_TILE;
    return x;
}

/* Adds up sizes, or takes memory from the arena when there is one. */
struct taker {
    struct cf_arena *arena;
    uint64_t bytes;
    bool failed;
};
static void *take(struct taker *t, uint64_t bytes) {
    t->bytes += (bytes + 127) & ~63ull;
    if (!t->arena || !bytes) return NULL;
    void *p = cf_arena_take(t->arena, bytes, 64);
    if (!p) t->failed = true;
    return p;
}

static size_t most(size_t a, size_t b) {
    return a > b ? a : b;
}

static struct cf_activation take_activation(struct taker *t, uint32_t rows, uint32_t columns) {
    size_t stride = (columns + 31u) & ~31u;
    struct cf_activation a = {.stride = stride};
    a.f = take(t, rows * stride * sizeof(float));
    a.q = take(t, rows * stride);
    a.d = take(t, rows * stride / 32 * sizeof(float));
    a.sum = take(t, rows * stride / 16 * sizeof(int16_t));
    return a;
}

static void take_context(struct cf_engine *g, struct cf_context *c, struct taker *t, const struct extent *x) {
    const struct cf_model *m = g->o.model;
    size_t rows = g->plan.n_rows, want = g->plan.n_want, n_embd = m->n_embd;
    c->sequence = take(t, rows * 4), c->position = take(t, rows * 4), c->token = take(t, rows * 4),
    c->want = take(t, want * 4);
    c->h = take(t, most(rows, want) * n_embd * sizeof(float));
    c->rope = take(t, x->q ? rows * m->rope.n_dims * sizeof(float) : 0);
    c->sums = take(t, rows * g->program.most_own * n_embd * sizeof(float));
    size_t stage = most(rows * n_embd, want * x->vocab);
    stage = most(stage, rows * (size_t)CF_MAX_MEMBERS * (g->plan.layout == CF_LAYOUT_DOMAIN ? x->k + x->v : 0) +
                            rows * (x->q + x->att));
    c->stage = take(t, stage * sizeof(float));
    c->logits = take(t, g->rank == 0 ? want * m->n_vocab * sizeof(float) : 0);
}

int cf__buffers(struct cf_engine *g, uint32_t threads, struct cf_arena *arena, uint64_t *bytes, struct cf_error *e) {
    const struct cf_model *m = g->o.model;
    struct taker t = {.arena = arena};
    struct extent x = extent_of(g);
    uint32_t rows = g->plan.n_rows;
    for (uint32_t i = 0; i < g->plan.n_flight; i++) {
        struct cf_context none = {0};
        take_context(g, arena ? &g->contexts[i] : &none, &t, &x);
    }
    for (uint32_t i = 0; i < g->queue_room; i++) {
        struct cf_queued none = {0}, *q = arena ? &g->queue[i] : &none;
        q->sequence = take(&t, rows * 4ull), q->position = take(&t, rows * 4ull), q->token = take(&t, rows * 4ull);
        q->want = take(&t, g->plan.n_want * 4ull);
    }
    for (uint32_t i = 0; i < g->mail.n_slots && g->size > 1; i++) {
        char *data = take(&t, g->program.slot_bytes);
        if (arena) g->mail.slots[i].data = data;
    }
    g->x = take_activation(&t, (uint32_t)most(rows, g->plan.n_want), m->n_embd);
    g->wide = take_activation(&t, rows, x.att > x.ffn ? x.att : x.ffn);
    g->q = take(&t, (uint64_t)rows * x.q * sizeof(float));
    g->k = take(&t, (uint64_t)rows * x.k * sizeof(float));
    g->v = take(&t, (uint64_t)rows * x.v * sizeof(float));
    g->thread_floats = most((CF_MAX_CHUNKS + 1) * CF_ROW_BLOCK * CF_TILE, 2 * m->d_v) + 64;
    g->thread_scratch = take(&t, threads * g->thread_floats * sizeof(float));
    g->span_floats = (4ull * threads) * (g->plan.n_ctx / CF_SPAN + 1) * (17 + m->d_v);
    g->span_states = take(&t, g->span_floats * sizeof(float));
    g->rope_freq = take(&t, m->rope.n_dims / 2 * sizeof(double));
    g->vectors = take(&t, (uint64_t)threads * 2 * CF_MAX_VECTORS * sizeof(float *));
    *bytes = t.bytes;
    return t.failed ? cf_fail(e, CF_ERR_MEMORY, "the arena is full at the buffers") : 0;
}

/* Programs and sizes from the plan. */
static int prepare(struct cf_engine *g, struct cf_error *e) {
    const struct cf_model *m = g->o.model;
    if (cf_program_compile(&g->program, &g->plan, m, g->rank, e)) return -1;
    if (cf_weights_measure(&g->weights, &g->plan, m, g->o.gguf, g->rank, e)) return -1;
    if (cf_kv_measure(&g->kv, &g->plan, m, g->rank, e)) return -1;
    g->queue_room = g->plan.n_flight + 4;
    g->mail.n_slots = 2 * g->plan.n_flight + 2;
    return 0;
}

static void unprepare(struct cf_engine *g) {
    cf_program_free(&g->program);
    cf_weights_free(&g->weights);
    cf_kv_free(&g->kv);
}

int cf_engine_bytes(const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *gguf, int rank,
    uint32_t threads, uint64_t *weights, uint64_t *kv, uint64_t *buffers, struct cf_error *e) {
    struct cf_engine g = {.o = {.model = m, .gguf = gguf}, .rank = rank, .size = 2, .plan = *p};
    int rc = prepare(&g, e);
    if (!rc) {
        *weights = cf_weights_bytes(&g.weights), *kv = cf_kv_bytes(&g.kv);
        rc = cf__buffers(&g, threads, NULL, buffers, e);
    }
    unprepare(&g);
    return rc;
}

static void load_progress(void *ctx, uint64_t done, uint64_t total) {
    struct cf_engine *g = ctx;
    if (g->rank == 0) {
        g->loaded[0] = done, g->to_load[0] = total;
        if (!g->o.progress) return;
        uint64_t all = 0, sum = 0;
        for (int r = 0; r < g->size; r++)
            sum += g->loaded[r], all += g->to_load[r];
        g->o.progress(g->o.ctx, sum, all);
    } else if (done - g->loaded[g->rank] > total / 50) {
        g->loaded[g->rank] = done;
        Cf__Progress p = CF__PROGRESS__INIT;
        p.bytes_done = done, p.bytes_total = total;
        Cf__Envelope env = CF__ENVELOPE__INIT;
        env.body_case = CF__ENVELOPE__BODY_PROGRESS, env.progress = &p;
        if (!g->poll_failed && cf_post(g->o.transport, 0, &env, NULL, 0, NULL, &g->poll_error) < 0)
            g->poll_failed = true;
    }
}

static int allocate(struct cf_engine *g, struct cf_error *e) {
    uint32_t threads = cf_team_size(g->o.team);
    uint64_t buffers = 0;
    g->contexts = calloc(g->plan.n_flight, sizeof *g->contexts);
    g->queue = calloc(g->queue_room, sizeof *g->queue);
    g->mail.slots = calloc(g->mail.n_slots, sizeof *g->mail.slots);
    if (!g->contexts || !g->queue || !g->mail.slots) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (cf__buffers(g, threads, NULL, &buffers, e)) return -1;
    uint64_t need = cf_weights_bytes(&g->weights) + cf_kv_bytes(&g->kv) + buffers + (1u << 20);
    if (cf_arena_open(&g->arena, need, g->o.node, g->o.huge, g->o.policy, e)) return -1;
    return cf__buffers(g, threads, &g->arena, &buffers, e);
}

/* Touches the cache and buffers so that no page fault is left for the first batch, and the audit sees every page. */
static void touch_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf_engine *g = ctx;
    uint32_t first, last;
    while (cf_team_next(team, thread, 4, &first, &last))
        for (size_t at = (size_t)first << 20; at < (size_t)last << 20 && at < g->arena.used; at += 4096) {
            volatile char *p = g->arena.base + at;
            *p = *p;
        }
}

static int load(struct cf_engine *g, struct cf_error *e) {
    double start = cf_now();
    bool zero = g->plan.zero_rank == g->rank;
    if (cf_weights_load(&g->weights, g->o.model, g->o.gguf, &g->arena, g->o.team, zero, load_progress, g, e)) return -1;
    if (cf_kv_place(&g->kv, &g->arena, e)) return -1;
    cf_team_do(g->o.team, touch_thread, g, (uint32_t)((g->arena.used >> 20) + 1));
    cf_rope_frequencies(&g->o.model->rope, g->rope_freq, &g->rope_mscale);
    for (int d = 0; d < CF_DOMAINS; d++)
        g->own.domain[d].tensors = g->weights.tensors[d], g->own.domain[d].bytes = g->weights.bytes[d];
    g->own.domain[CF_TEMPORAL].bytes = cf_kv_bytes(&g->kv);
    g->load_seconds = cf_now() - start;
    return polled(g, e);
}

static int post_ready(struct cf_engine *g, struct cf_error *e) {
    struct cf_audit audit;
    if (cf_arena_audit(&g->arena, &audit, e)) return -1;
    double share = audit.pages ? (double)audit.local / (double)audit.pages : 1.0;
    if (g->o.policy == CF_NUMA_STRICT && share < 0.99)
        return cf_fail(
            e, CF_ERR_MEMORY, "--numa strict: only %.1f %% of the pages lie on node %d", 100.0 * share, g->o.node);
    Cf__Ready r = CF__READY__INIT;
    r.bytes = g->arena.used, r.pages = audit.pages, r.pages_local = audit.local, r.pages_huge = audit.huge;
    r.note = g->arena.note, r.load_seconds = g->load_seconds;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_READY, env.ready = &r;
    return cf_post(g->o.transport, 0, &env, NULL, 0, NULL, e);
}

static bool plan_here(void *ctx) {
    return ((struct cf_engine *)ctx)->have_plan;
}
static bool all_ready(void *ctx) {
    struct cf_engine *g = ctx;
    for (int r = 0; r < g->size; r++)
        if (!g->ready[r].ready) return false;
    return true;
}

static int send_plan(struct cf_engine *g, const struct cf_plan *plan, struct cf_error *e) {
    Cf__Plan *msg = cf_plan_to_message(plan);
    if (!msg) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_PLAN, env.plan = msg;
    int rc = 0;
    for (int r = 0; r < g->size && !rc; r++)
        rc = cf_post(g->o.transport, r, &env, NULL, 0, NULL, e);
    cf__plan__free_unpacked(msg, NULL);
    return rc;
}

int cf_engine_start(struct cf_engine *g, const struct cf_plan *plan, struct cf_error *e) {
    if (plan && send_plan(g, plan, e)) return -1;
    if (cf_wait(g->o.transport, plan_here, g, NULL, e)) return -1;
    if (cf_plan_check(&g->plan, g->o.model, g->size, e) || prepare(g, e) || allocate(g, e) || load(g, e)) return -1;
    g->mail.transport = g->o.transport;
    g->mail.exchanges = g->program.exchanges, g->mail.n_exchanges = g->program.n_routes;
    g->mail.slot_bytes = g->program.slot_bytes;
    g->started = true;
    if (post_ready(g, e)) return -1;
    if (g->rank == 0 && cf_wait(g->o.transport, all_ready, g, NULL, e)) return -1;
    return 0;
}

const struct cf_rank_ready *cf_engine_ready(const struct cf_engine *g, int rank) {
    return &g->ready[rank];
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

static struct cf_context *context_of(const struct cf_engine *g, uint32_t id) {
    for (uint32_t i = 0; i < g->plan.n_flight; i++)
        if (g->contexts[i].used && g->contexts[i].id == id) return &g->contexts[i];
    return NULL;
}

struct rope_job {
    struct cf_engine *g;
    struct cf_context *c;
};
static void rope_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct rope_job *j = ctx;
    uint32_t first, last, n = j->g->o.model->rope.n_dims;
    while (cf_team_next(team, thread, 4, &first, &last))
        for (uint32_t r = first; r < last; r++)
            cf_rope_angles(j->c->rope + (size_t)r * n, j->g->rope_freq, n, j->g->rope_mscale, j->c->position[r]);
}

static struct cf_context *free_context(const struct cf_engine *g) {
    for (uint32_t i = 0; i < g->plan.n_flight; i++)
        if (!g->contexts[i].used) return &g->contexts[i];
    return NULL;
}

/* Can the first of the queue begin? A KV operation waits for all batches before it, a batch for a free context. */
static bool can_open(struct cf_engine *g) {
    if (!g->queue_n) return false;
    const struct cf_queued *q = queue_at(g, 0);
    if (!q->kv) return free_context(g) != NULL;
    for (uint32_t i = 0; i < g->plan.n_flight; i++) {
        const struct cf_context *c = &g->contexts[i];
        if (c->used && !c->done && (int32_t)(c->id - q->after) <= 0) return false;
    }
    return true;
}

/* Moves queued work into free contexts, in order. */
static void open_contexts(struct cf_engine *g) {
    while (can_open(g)) {
        struct cf_queued *q = queue_at(g, 0);
        if (q->kv) {
            cf_kv_truncate(&g->kv, q->kv_sequence, q->kv_position);
        } else {
            struct cf_context *c = free_context(g);
            c->used = true, c->done = false, c->compact = false, c->pc = 0;
            c->id = q->id, c->n_rows = q->n_rows, c->n_want = q->n_want;
            memcpy(c->sequence, q->sequence, q->n_rows * 4), memcpy(c->position, q->position, q->n_rows * 4);
            memcpy(c->token, q->token, q->n_rows * 4), memcpy(c->want, q->want, q->n_want * 4);
            struct rope_job j = {g, c};
            if (c->rope) cf_team_do(g->o.team, rope_thread, &j, c->n_rows);
        }
        g->queue_first = (g->queue_first + 1) % g->queue_room;
        g->queue_n--;
    }
}

static bool runnable(const struct cf_engine *g, const struct cf_context *c) {
    if (!c->used || c->done) return false;
    /* Never past an older batch, even if its inputs are late: a later chunk attends to the keys of an earlier one. */
    for (uint32_t i = 0; i < g->plan.n_flight; i++) {
        const struct cf_context *o = &g->contexts[i];
        if (o->used && !o->done && (int32_t)(o->id - c->id) < 0 && o->pc <= c->pc) return false;
    }
    if (c->pc == g->program.n_instrs) return true;
    const struct cf_instr *i = &g->program.instrs[c->pc];
    return i->route < 0 || cf_mail_ready(&g->mail, &g->program.routes[i->route].x, c->id, cf__step_expects(g, c, i));
}

/* The oldest batch that can go on, or NULL. */
static struct cf_context *oldest_runnable(const struct cf_engine *g) {
    struct cf_context *best = NULL;
    for (uint32_t i = 0; i < g->plan.n_flight; i++) {
        struct cf_context *c = &g->contexts[i];
        if (runnable(g, c) && (!best || (int32_t)(c->id - best->id) < 0)) best = c;
    }
    return best;
}

/* Runs a batch until it must wait. */
static int run_context(struct cf_engine *g, struct cf_context *c, struct cf_error *e) {
    while (c->pc < g->program.n_instrs) {
        if (!runnable(g, c)) return 0;
        const struct cf_instr *i = &g->program.instrs[c->pc];
        if (cf__step_run(g, c, i, e) || polled(g, e)) return -1;
        c->pc++;
        if (cf_progress(g->o.transport, e) < 0) return -1;
    }
    c->done = true;
    if (g->rank != 0) c->used = false;
    return 0;
}

static int answer_counts(struct cf_engine *g, struct cf_error *e) {
    g->counts_wanted = false;
    Cf__Statistics s = CF__STATISTICS__INIT;
    Cf__DomainStatistics d[CF_DOMAINS], *list[CF_DOMAINS];
    for (int i = 0; i < CF_DOMAINS; i++) {
        const struct cf_domain_count *k = &g->own.domain[i];
        cf__domain_statistics__init(&d[i]);
        d[i].domain = (uint32_t)i, d[i].tensors = k->tensors, d[i].bytes = k->bytes, d[i].hits = k->hits;
        d[i].seconds = k->seconds, d[i].bytes_read = k->bytes_read;
        list[i] = &d[i];
    }
    s.compute = g->own.compute, s.exchange = g->own.exchange, s.wait = g->own.wait;
    s.rss_anonymous = cf_memory_resident(), s.domains = list, s.n_domains = CF_DOMAINS;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_STATISTICS, env.statistics = &s;
    return cf_post(g->o.transport, 0, &env, NULL, 0, NULL, e);
}

static bool work_here(void *ctx) {
    struct cf_engine *g = ctx;
    return g->shutdown || g->counts_wanted || oldest_runnable(g) || can_open(g);
}

/* One turn: open, run or wait. until (may be NULL): stop waiting when it is true. */
static int turn(struct cf_engine *g, struct cf_error *e) {
    open_contexts(g);
    struct cf_context *c = oldest_runnable(g);
    if (c) return run_context(g, c, e);
    if (g->counts_wanted) return answer_counts(g, e);
    return cf_wait(g->o.transport, work_here, g, &g->own.wait, e);
}

int cf_engine_serve(struct cf_engine *g, struct cf_error *e) {
    while (!g->shutdown)
        if (turn(g, e)) return -1;
    return 0;
}

/* ---- rank 0 ---------------------------------------------------------------------------------------------------- */

int cf_engine_submit(struct cf_engine *g, struct cf_batch *b, struct cf_error *e) {
    const struct cf_plan *p = &g->plan;
    if (!b->n_rows || b->n_rows > p->n_rows || b->n_want > p->n_want)
        return cf_fail(e, CF_ERR_LIMIT, "a batch of %u rows, %u wanted; the plan allows %u and %u", b->n_rows,
            b->n_want, p->n_rows, p->n_want);
    uint32_t busy = 0;
    for (uint32_t i = 0; i < p->n_flight; i++)
        busy += g->contexts[i].used;
    for (uint32_t i = 0; i < g->queue_n; i++)
        busy += !queue_at(g, i)->kv;
    if (busy >= p->n_flight) return cf_fail(e, CF_ERR_LIMIT, "%u batches are in flight already", busy);
    b->id = g->next_id++;
    union {
        const uint32_t *in;
        uint32_t *out;
    } s = {.in = b->sequence}, q = {.in = b->position}, t = {.in = b->token}, w = {.in = b->want};
    Cf__Batch msg = CF__BATCH__INIT;
    msg.id = b->id, msg.n_sequence = msg.n_position = msg.n_token = b->n_rows, msg.n_want = b->n_want;
    msg.sequence = s.out, msg.position = q.out, msg.token = t.out, msg.want = w.out;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_BATCH, env.batch = &msg;
    for (int r = 1; r < g->size; r++)
        if (cf_post(g->o.transport, r, &env, NULL, 0, NULL, e)) return -1;
    return take_batch(g, &msg, e);
}

int cf_engine_wait(struct cf_engine *g, uint32_t id, struct cf_error *e) {
    for (;;) {
        struct cf_context *c = context_of(g, id);
        if (c && c->done) return 0;
        if (turn(g, e)) return -1;
    }
}

const float *cf_engine_logits(const struct cf_engine *g, uint32_t id, uint32_t i) {
    return context_of(g, id)->logits + (size_t)i * g->o.model->n_vocab;
}

void cf_engine_finish(struct cf_engine *g, uint32_t id) {
    struct cf_context *c = context_of(g, id);
    if (c) c->used = false;
}

int cf_engine_truncate(struct cf_engine *g, uint32_t sequence, uint32_t position, struct cf_error *e) {
    Cf__KvOperation k = CF__KV_OPERATION__INIT;
    k.after_batch = g->next_id - 1, k.sequence = sequence, k.position = position;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_KV, env.kv = &k;
    for (int r = 1; r < g->size; r++)
        if (cf_post(g->o.transport, r, &env, NULL, 0, NULL, e)) return -1;
    open_contexts(g); /* takes at once what need not wait, so that the queue has room */
    if (take_kv(g, &k)) return cf_fail(e, CF_ERR_LIMIT, "too many operations are queued");
    open_contexts(g);
    return 0;
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
    if (answer_counts(g, e) || cf_wait(g->o.transport, all_counted, g, NULL, e)) return -1;
    memcpy(counts, g->counts, (size_t)g->size * sizeof *counts);
    return 0;
}

int cf_engine_shutdown(struct cf_engine *g, struct cf_error *e) {
    Cf__Shutdown s = CF__SHUTDOWN__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_SHUTDOWN, env.shutdown = &s;
    for (int r = 1; r < g->size; r++)
        if (cf_post(g->o.transport, r, &env, NULL, 0, NULL, e)) return -1;
    return 0;
}

/* What MPI is still sending lies in the arena: it must be gone before the arena is. After a failure it may never go, and
 * the arena stays until the process ends. */
static bool sends_are_over(struct cf_engine *g) {
    struct cf_error e;
    if (cf_transport_failed_rank(g->o.transport) >= 0) return false;
    for (uint32_t i = 0; g->contexts && i < g->plan.n_flight; i++)
        if (cf__wait_sent(g, &g->contexts[i].sums_pending, &e) || cf__wait_sent(g, &g->contexts[i].stage_pending, &e))
            return false;
    return true;
}

void cf_engine_close(struct cf_engine *g) {
    if (!g) return;
    bool over = sends_are_over(g);
    cf_team_poll(g->o.team, NULL, NULL, 1.0);
    cf_transport_on_message(g->o.transport, NULL, NULL);
    unprepare(g);
    if (over) cf_arena_close(&g->arena);
    if (g->have_plan) cf_plan_free(&g->plan);
    free(g->contexts);
    free(g->queue);
    free(g->mail.slots);
    free(g->ready);
    free(g->counts);
    free(g->loaded);
    free(g->to_load);
    free(g);
}
