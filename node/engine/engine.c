/* The message-driven loop: queued work into free contexts, the oldest batch that can go on, else wait. */
#include <string.h>

#include "node/engine/state.h"

struct cf_context *cf__context_of(const struct cf_engine *g, uint32_t id) {
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
    const struct cf_engine *g = j->g;
    uint32_t first, last, n = g->o.model->rope.n_dims, tables = g->o.model->windowed ? 2 : 1;
    while (cf_team_next(team, thread, 4, &first, &last))
        for (uint32_t r = first; r < last; r++)
            for (uint32_t i = 0; i < tables; i++)
                cf_rope_angles(j->c->rope + ((size_t)i * g->plan.n_rows + r) * n, g->rope_freq[i], n, g->rope_mscale[i],
                    j->c->position[r]);
}

static struct cf_context *free_context(const struct cf_engine *g) {
    for (uint32_t i = 0; i < g->plan.n_flight; i++)
        if (!g->contexts[i].used) return &g->contexts[i];
    return NULL;
}

static bool has_rows_of(const struct cf_context *c, uint32_t sequence) {
    for (uint32_t i = 0; i < c->n_rows; i++)
        if (c->sequence[i] == sequence) return true;
    return false;
}

/* Can the first of the queue begin? A KV operation waits for the batches before it that have rows of its sequence, a
 * batch for a free context. */
static bool can_open(struct cf_engine *g) {
    if (!g->queue_n) return false;
    const struct cf_queued *q = cf__queue_at(g, 0);
    if (!q->kv) return free_context(g) != NULL;
    for (uint32_t i = 0; i < g->plan.n_flight; i++) {
        const struct cf_context *c = &g->contexts[i];
        if (c->used && !c->done && (int32_t)(c->id - q->after) <= 0 && has_rows_of(c, q->kv_sequence)) return false;
    }
    return true;
}

static void operate(struct cf_engine *g, const struct cf_queued *q) {
    struct cf_error none;
    if (q->kv_kind == CF_KV_EXPORT) {
        g->give.wanted = true, g->give.sequence = q->kv_sequence, g->give.positions = q->kv_position;
        return;
    }
    cf_kv_truncate(&g->kv, q->kv_sequence, q->kv_kind == CF_KV_IMPORT ? 0 : q->kv_position);
    if (q->kv_kind == CF_KV_IMPORT && q->kv_position) /* in range: take_kv() has looked */
        cf_kv_reserve(&g->kv, q->kv_sequence, q->kv_position - 1, &none);
}

/* Moves queued work into free contexts, in order. */
void cf__open_contexts(struct cf_engine *g) {
    while (can_open(g)) {
        struct cf_queued *q = cf__queue_at(g, 0);
        if (q->kv) {
            operate(g, q);
        } else {
            struct cf_context *c = free_context(g);
            c->used = true, c->done = false, c->compact = false, c->pc = 0;
            c->hidden = q->hidden, c->id = q->id, c->n_rows = q->n_rows, c->n_want = q->n_want;
            memcpy(c->sequence, q->sequence, q->n_rows * 4), memcpy(c->position, q->position, q->n_rows * 4);
            memcpy(c->token, q->token, q->n_rows * 4), memcpy(c->want, q->want, q->n_want * 4);
            struct rope_job j = {g, c};
            if (c->rope) cf_team_do(g->o.team, rope_thread, &j, c->n_rows);
        }
        g->queue_first = (g->queue_first + 1) % g->queue_room;
        g->queue_n--;
    }
}

/* Without exchange rank 0 waits for the ends of a batch elsewhere, and for nothing else. */
static uint32_t all_ends(const struct cf_engine *g) {
    return (uint32_t)((1ull << g->end.n_in) - 1);
}

static int end_batch(struct cf_engine *g, struct cf_context *c, struct cf_error *e) {
    struct cf_outlet none = {0};
    cf_mail_release(&g->mail, &g->end, c->id);
    return g->end.n_out ? cf_mail_send(&g->mail, &g->end, &(struct cf_parcel){.batch = c->id}, &none, e) : 0;
}

static bool runnable(const struct cf_engine *g, const struct cf_context *c) {
    if (!c->used || c->done) return false;
    /* Never past an older batch, even if its inputs are late: a later chunk attends to the keys of an earlier one. */
    for (uint32_t i = 0; i < g->plan.n_flight; i++) {
        const struct cf_context *o = &g->contexts[i];
        if (o->used && !o->done && (int32_t)(o->id - c->id) < 0 && o->pc <= c->pc) return false;
    }
    if (c->pc == g->program.n_instrs) return cf_mail_ready(&g->mail, &g->end, c->id, all_ends(g));
    const struct cf_instr *i = &g->program.instrs[c->pc];
    /* Never waits inside a step: what others must read first may hang on an older batch here. */
    if (!cf__step_may_write(g, c, i)) return false;
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

struct held_batch {
    const struct cf_engine *g;
    const struct cf_context *c;
};
static bool held_runnable(void *ctx) {
    const struct held_batch *h = ctx;
    cf_team_fetch(h->g->o.team);
    return runnable(h->g, h->c);
}

/* Members of a group come to a sum at about the same time. A rank that took another batch's step meanwhile would do so
 * at every sum: both batches would go through this stage together, and the other stages would have nothing to do. So it
 * holds on to the batch for a moment. 1: the batch can go on. */
static int hold(struct cf_engine *g, const struct cf_context *c, struct cf_error *e) {
    if (g->plan.n_flight == 1 || !cf_program_holds(&g->program, c->pc)) return 0;
    struct held_batch h = {g, c};
    int rc = cf_wait_for(g->o.transport, held_runnable, &h, CF_PROGRAM_HOLD, &g->own.wait, e);
    return rc ? -1 : runnable(g, c);
}

/* Runs a batch until it must wait. */
static int run_context(struct cf_engine *g, struct cf_context *c, struct cf_error *e) {
    while (c->pc < g->program.n_instrs) {
        if (!runnable(g, c)) {
            int on = hold(g, c, e);
            if (on <= 0) return on;
        }
        const struct cf_instr *i = &g->program.instrs[c->pc];
        if (cf__step_run(g, c, i, e) || cf__polled(g, e)) return -1;
        c->pc++;
        if (cf_progress(g->o.transport, e) < 0) return -1;
    }
    if (!runnable(g, c)) return 0;
    if (end_batch(g, c, e)) return -1;
    c->done = true;
    g->mail.done_batch = c->id; /* batches end in order: nothing may come for it any more */
    if (g->rank != 0) c->used = false;
    return 0;
}

/* To whom this rank has sent anything since it was ready. */
static void add_traffic(struct cf_engine *g, Cf__Statistics *s) {
    s->traffic = g->sent_list;
    for (int r = 0; r < g->size; r++) {
        const struct cf_traffic *k = cf_transport_traffic(g->o.transport, r), *before = &g->sent_before[r];
        if (k->bytes == before->bytes && k->messages == before->messages) continue;
        Cf__Traffic *t = g->sent_list[s->n_traffic] = &g->sent[s->n_traffic];
        s->n_traffic++;
        cf__traffic__init(t);
        t->to = (uint32_t)r, t->messages = k->messages - before->messages, t->payload = k->payload - before->payload;
        t->bytes = k->bytes - before->bytes, t->window = k->window - before->window;
    }
}

void cf_wire_count_add(struct cf_wire_count *to, const struct cf_wire_count *more) {
    to->values += more->values, to->cut += more->cut;
    to->error2 += more->error2, to->value2 += more->value2;
    if (more->most > to->most) to->most = more->most;
}

int cf__answer_counts(struct cf_engine *g, struct cf_error *e) {
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
    s.rss_anonymous = cf_memory_resident(), s.peak = cf_memory_peak(), s.domains = list, s.n_domains = CF_DOMAINS;
    add_traffic(g, &s);
    Cf__Rounding rounding[CF_STEP_KINDS], *roundings[CF_STEP_KINDS];
    s.rounding = roundings;
    for (int i = 0; i < CF_STEP_KINDS; i++) {
        const struct cf_wire_count *k = &g->own.wire[i];
        if (!k->values) continue;
        Cf__Rounding *r = roundings[s.n_rounding] = &rounding[s.n_rounding];
        s.n_rounding++;
        cf__rounding__init(r);
        r->step = (uint32_t)i, r->values = k->values, r->cut = k->cut, r->error2 = k->error2, r->value2 = k->value2;
        r->most = k->most;
    }
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_STATISTICS, env.statistics = &s;
    return cf_post(g->o.transport, 0, &env, NULL, 0, NULL, e);
}

bool cf__unfinished(const struct cf_engine *g) {
    for (uint32_t i = 0; i < g->plan.n_flight; i++)
        if (g->contexts[i].used && !g->contexts[i].done) return true;
    return g->queue_n > 0;
}

static bool work_here(void *ctx) {
    struct cf_engine *g = ctx;
    cf_team_fetch(g->o.team);
    return (g->shutdown && !cf__unfinished(g)) || g->counts_wanted || g->give.wanted || oldest_runnable(g) ||
           can_open(g);
}

/* One turn: open, run or wait. until (may be NULL): stop waiting when it is true. */
int cf__engine_turn(struct cf_engine *g, struct cf_error *e) {
    cf__open_contexts(g);
    struct cf_context *c = oldest_runnable(g);
    if (c) return run_context(g, c, e);
    if (g->give.wanted) return cf__give_pages(g, e);
    if (g->counts_wanted) return cf__answer_counts(g, e);
    return cf_wait(g->o.transport, work_here, g, &g->own.wait, e);
}

int cf_engine_serve(struct cf_engine *g, struct cf_error *e) {
    /* What is still on its way to a slow rank belongs to this engine and not to the next one. */
    while (!g->shutdown || cf__unfinished(g))
        if (cf__engine_turn(g, e)) return -1;
    return cf__wait_sent(g, &g->give.pending, e); /* the pages go with the arena */
}

bool cf_engine_was_last(const struct cf_engine *g) {
    return g->last;
}
