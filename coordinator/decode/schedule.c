/* See schedule.h. */
#include "coordinator/decode/schedule.h"

#include <stdlib.h>

#include "coordinator/plan/split.h"
#include "transport/clock.h"

struct slot {
    struct cf_sequence s;
    bool used;
    bool ready;    /* its last token is known and not fed yet */
    uint32_t sent; /* positions that are in batches or in the cache */
    uint32_t token;
};

/* A batch on its way: whose rows are wanted. */
struct flight {
    uint32_t id, n_want;
    uint32_t *slots; /* [n_want], room for n_seqs */
};

struct run {
    struct cf_schedule *o;
    const struct cf_plan *plan;
    struct slot *slots;     /* [n_seqs] */
    struct flight *flights; /* [n_flight], a ring */
    uint32_t first, n_flying;
    uint32_t *rows; /* [4][n_rows] sequence, position, token, want */
    uint32_t *lists;
    struct cf_batch batch;
    bool none_left;
};

static int allocate(struct run *r, struct cf_error *e) {
    const struct cf_plan *p = r->plan;
    r->slots = calloc(p->n_seqs, sizeof *r->slots);
    r->flights = calloc(p->n_flight, sizeof *r->flights);
    r->rows = calloc(p->n_rows, 4 * sizeof *r->rows);
    r->lists = calloc((size_t)p->n_flight * p->n_seqs, sizeof *r->lists);
    if (!r->slots || !r->flights || !r->rows || !r->lists) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < p->n_flight; i++)
        r->flights[i].slots = r->lists + (size_t)i * p->n_seqs;
    return 0;
}

static void release(struct run *r) {
    free(r->slots);
    free(r->flights);
    free(r->rows);
    free(r->lists);
}

static int end(struct run *r, struct slot *t, enum cf_ending ending, struct cf_error *e) {
    t->used = false;
    t->s.ending = ending;
    r->o->n_generated += t->s.n_generated;
    if (ending != CF_ENDS_NOT && cf_say_end(&t->s.say, e)) {
        t->s.ending = CF_ENDS_NOT;
        r->o->done(r->o->ctx, &t->s, &(struct cf_error){0});
        return -1;
    }
    return r->o->done(r->o->ctx, &t->s, e);
}

/* Gives the free slots to sequences that wait. */
static int admit(struct run *r, struct cf_error *e) {
    for (uint32_t i = 0; i < r->plan->n_seqs && !r->none_left; i++) {
        struct slot *t = &r->slots[i];
        if (t->used) continue;
        *t = (struct slot){0};
        int got = r->o->next(r->o->ctx, &t->s, e);
        if (got < 0) return -1;
        r->none_left = got;
        if (got) break;
        t->used = true;
        if (t->s.n_predict == 0) {
            if (end(r, t, CF_ENDS_AT_LIMIT, e)) return -1;
            i--; /* the slot is free again */
            continue;
        }
        for (uint32_t k = 0; k < t->s.n_prompt; k++)
            cf_sampler_accept(t->s.sampler, t->s.prompt[k]);
        r->o->n_sequences++;
        r->o->n_prompt += t->s.n_prompt;
        if (cf_engine_truncate(r->o->job->engine, i, 0, e)) return -1;
    }
    return 0;
}

/* One more row of the batch; wanted: its logits will be looked at. */
static void add(struct run *r, struct flight *f, uint32_t slot, uint32_t token, bool wanted) {
    uint32_t room = r->plan->n_rows, *row = r->rows + r->batch.n_rows;
    row[0] = slot, row[room] = r->slots[slot].sent++, row[2 * room] = token;
    if (wanted) {
        r->rows[3 * room + f->n_want] = r->batch.n_rows;
        f->slots[f->n_want++] = slot;
    }
    r->batch.n_rows++;
}

/* The sequences that decode, as many as are one batch's share. */
static void add_tokens(struct run *r, struct flight *f) {
    uint32_t decoding = 0, room = r->plan->n_rows < r->plan->n_want ? r->plan->n_rows : r->plan->n_want;
    for (uint32_t i = 0; i < r->plan->n_seqs; i++)
        decoding += r->slots[i].used && r->slots[i].sent >= r->slots[i].s.n_prompt;
    uint32_t batches = cf_split_sequences(r->plan, decoding);
    uint32_t share = batches ? (decoding + batches - 1) / batches : 0;
    if (share > room) share = room;
    for (uint32_t i = 0; i < r->plan->n_seqs && r->batch.n_rows < share; i++) {
        struct slot *t = &r->slots[i];
        if (!t->used || !t->ready) continue;
        t->ready = false;
        r->o->rows.answer++, r->o->rows.together += decoding, r->o->rows.depth += t->sent;
        add(r, f, i, t->token, true);
    }
}

/* Chunks of prompts, until the batch is full. */
static void add_prompts(struct run *r, struct flight *f) {
    uint64_t waiting = 0;
    for (uint32_t i = 0; i < r->plan->n_seqs; i++)
        if (r->slots[i].used && r->slots[i].sent < r->slots[i].s.n_prompt)
            waiting += r->slots[i].s.n_prompt - r->slots[i].sent;
    uint32_t rows = cf_split_prompt(r->plan, waiting < UINT32_MAX ? (uint32_t)waiting : UINT32_MAX);
    for (uint32_t i = 0; i < r->plan->n_seqs; i++) {
        struct slot *t = &r->slots[i];
        while (t->used && t->sent < t->s.n_prompt && r->batch.n_rows < rows) {
            bool last = t->sent + 1 == t->s.n_prompt;
            if (last && f->n_want == r->plan->n_want) break;
            r->o->rows.prompt++, r->o->rows.waiting += (double)waiting;
            add(r, f, i, t->s.prompt[t->sent], last);
        }
    }
}

/* Sends a batch if there is work for one. Returns 1 if there is none. */
static int submit(struct run *r, struct cf_error *e) {
    struct flight *f = &r->flights[(r->first + r->n_flying) % r->plan->n_flight];
    uint32_t room = r->plan->n_rows;
    r->batch = (struct cf_batch){.sequence = r->rows,
        .position = r->rows + room,
        .token = r->rows + 2 * (size_t)room,
        .want = r->rows + 3 * (size_t)room};
    f->n_want = 0;
    add_tokens(r, f);
    add_prompts(r, f);
    if (!r->batch.n_rows) return 1;
    r->batch.n_want = f->n_want;
    if (cf_engine_submit(r->o->job->engine, &r->batch, e)) return -1;
    f->id = r->batch.id;
    r->n_flying++;
    return 0;
}

/* One sequence looks at its logits. */
static int choose(struct run *r, struct slot *t, const float *logits, struct cf_error *e) {
    struct cf_sequence *s = &t->s;
    if (s->result && cf_result_logits(s->result, logits, e)) return -1;
    t->token = cf_sampler_pick(s->sampler, logits);
    cf_sampler_accept(s->sampler, t->token);
    s->n_generated++;
    bool eos = !s->ignore_eos && cf_tokenizer_is_end(r->o->job->tokenizer, t->token);
    if (cf_say_token(&s->say, t->token, eos, e)) return -1;
    t->ready = true;
    if (eos) return end(r, t, CF_ENDS_AT_EOS, e);
    if (cf_say_stopped(&s->say)) return end(r, t, CF_ENDS_AT_STOP, e);
    if (s->n_predict >= 0 && s->n_generated >= (uint64_t)s->n_predict) return end(r, t, CF_ENDS_AT_LIMIT, e);
    return t->sent >= r->plan->n_ctx ? end(r, t, CF_ENDS_AT_CONTEXT, e) : 0;
}

/* Waits for the oldest batch and hands out its logits. */
static int take(struct run *r, struct cf_error *e) {
    struct flight *f = &r->flights[r->first];
    struct cf_engine *g = r->o->job->engine;
    int rc = cf_engine_wait(g, f->id, e);
    for (uint32_t i = 0; !rc && i < f->n_want && !r->o->interrupt_status; i++)
        rc = choose(r, &r->slots[f->slots[i]], cf_engine_logits(g, f->id, i), e);
    if (!rc) cf_engine_finish(g, f->id);
    r->first = (r->first + 1) % r->plan->n_flight;
    r->n_flying--;
    return rc;
}

static int turn(struct run *r, struct cf_error *e) {
    for (;;) {
        if (r->o->interrupted && !r->o->interrupt_status) r->o->interrupt_status = r->o->interrupted();
        bool goes_on = !r->o->interrupt_status;
        if (goes_on && admit(r, e)) return -1;
        int none = goes_on && r->n_flying < r->plan->n_flight ? submit(r, e) : 1;
        if (none < 0) return -1;
        if (none && !r->n_flying) return 0;
        if (none && take(r, e)) return -1;
    }
}

int cf_schedule_run(struct cf_schedule *s, struct cf_error *e) {
    struct run r = {.o = s, .plan = &s->job->plan};
    double start = cf_now();
    int rc = allocate(&r, e) ? -1 : turn(&r, e);
    struct cf_error ignored;
    for (uint32_t i = 0; r.slots && i < r.plan->n_seqs; i++)
        if (r.slots[i].used) end(&r, &r.slots[i], CF_ENDS_NOT, &ignored);
    s->seconds = cf_now() - start;
    release(&r);
    return rc;
}
