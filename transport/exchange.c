/* See exchange.h. */
#include "transport/exchange.h"

#include <string.h>

static size_t floats_of(const struct cf_exchange *x, uint32_t part) {
    const struct cf_part *p = &x->in[part];
    return p->floats ? p->floats : (size_t)p->columns * x->max_rows;
}

/* Room that the first n parts take in a slot. */
static size_t floats_before(const struct cf_exchange *x, uint32_t n) {
    size_t floats = 0;
    for (uint32_t i = 0; i < n; i++)
        floats += x->in[i].window ? 0 : floats_of(x, i);
    return floats;
}

size_t cf_exchange_bytes(const struct cf_exchange *x) {
    return floats_before(x, x->n_in) * sizeof(float);
}

static struct cf_mail_slot *find(const struct cf_mailroom *m, uint32_t batch, uint32_t exchange) {
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (m->slots[i].used && m->slots[i].batch == batch && m->slots[i].exchange == exchange) return &m->slots[i];
    return NULL;
}

static struct cf_mail_slot *take(struct cf_mailroom *m, uint32_t batch, uint32_t exchange) {
    for (uint32_t i = 0; i < m->n_slots; i++) {
        struct cf_mail_slot *s = &m->slots[i];
        if (s->used) continue;
        char *data = s->data;
        memset(s, 0, sizeof *s);
        s->used = true, s->batch = batch, s->exchange = exchange, s->data = data;
        return s;
    }
    return NULL;
}

/* Where part i begins in a slot. */
static float *place(const struct cf_exchange *x, const struct cf_mail_slot *s, uint32_t part) {
    return (float *)(void *)s->data + floats_before(x, part);
}

static bool expected(const struct cf_mailroom *m, const struct cf_exchange *x, int from, const Cf__Activation *a) {
    return x && a->segment < x->n_in && x->in[a->segment].rank == from && a->dtype == 0 && a->rows <= x->max_rows &&
           a->columns <= x->in[a->segment].columns && (size_t)a->rows * a->columns <= floats_of(x, a->segment) &&
           (int32_t)(a->batch - m->done_batch) > 0;
}

/* A part that lies in the window: remembers where. */
static int note_place(struct cf_mailroom *m, struct cf_mail_slot *s, int from, const Cf__Activation *a, size_t bytes,
    struct cf_error *e) {
    const void *there = NULL;
    if (a->window_slot <= CF_WINDOW_SLOTS) there = cf_window_read(m->transport, from, a->window_offset, bytes);
    if (!there)
        return cf_fail(e, CF_ERR_PEER, "rank %d named a place outside of its window (slot %u, offset %llu, %zu bytes)",
            from, a->window_slot, (unsigned long long)a->window_offset, bytes);
    s->there[a->segment] = there;
    s->window_slot[a->segment] = a->window_slot;
    return 0;
}

int cf_mail_deliver(struct cf_mailroom *m, int from, const Cf__Activation *a, size_t total, const void *data,
    size_t offset, size_t n, struct cf_error *e) {
    const struct cf_exchange *x = a->exchange < m->n_exchanges ? m->exchanges[a->exchange] : NULL;
    size_t bytes = (size_t)a->rows * a->columns * sizeof(float);
    bool fits = expected(m, x, from, a);
    /* What comes through the window comes without payload, and nothing else does, unless there is nothing to say. */
    bool window = fits && x->in[a->segment].window && bytes;
    if (!fits || window != (a->window_slot != 0) || total != (window ? 0 : bytes))
        return cf_fail(e, CF_ERR_PEER,
            "rank %d sent activations that this rank does not expect (batch %u, exchange %u, part %u, %u x %u)", from,
            a->batch, a->exchange, a->segment, a->rows, a->columns);
    struct cf_mail_slot *s = find(m, a->batch, a->exchange);
    if (!s && !(s = take(m, a->batch, a->exchange))) return 1;
    uint32_t i = a->segment;
    if (s->arrived & 1u << i || s->received[i] != offset)
        return cf_fail(e, CF_ERR_PEER, "rank %d sent part %u of exchange %u twice", from, i, a->exchange);
    if (window && note_place(m, s, from, a, bytes, e)) return -1;
    if (n) memcpy((char *)place(x, s, i) + offset, data, n);
    s->received[i] += n, s->rows[i] = a->rows, s->columns[i] = a->columns;
    if (s->received[i] == total) s->arrived |= 1u << i;
    return 0;
}

bool cf_mail_ready(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t mask) {
    if (!mask || (m->nothing && !x->always)) return true;
    const struct cf_mail_slot *s = find(m, batch, x->id);
    return s && (s->arrived & mask) == mask;
}

const float *cf_mail_part(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t part,
    uint32_t rows, uint32_t columns, struct cf_error *e) {
    if (m->nothing) return m->nothing;
    const struct cf_mail_slot *s = find(m, batch, x->id);
    if (!s || !(s->arrived & 1u << part)) return NULL;
    if (s->rows[part] != rows || s->columns[part] != columns) {
        cf_fail(e, CF_ERR_PEER, "rank %d sent %u x %u activations of exchange %u where %u x %u were due",
            x->in[part].rank, s->rows[part], s->columns[part], x->id, rows, columns);
        return NULL;
    }
    static const float empty;
    if (!rows || !columns) return &empty;
    return s->there[part] ? s->there[part] : place(x, s, part);
}

void cf_mail_release(struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch) {
    struct cf_mail_slot *s = find(m, batch, x->id);
    if (!s) return;
    for (uint32_t i = 0; i < x->n_in; i++)
        if (s->there[i]) cf_window_release(m->transport, x->in[i].rank, s->window_slot[i] - 1);
    s->used = false;
}

int cf_mail_send(struct cf_mailroom *m, const struct cf_exchange *x, const struct cf_parcel *p, struct cf_outlet *from,
    struct cf_error *e) {
    if (m->nothing && !x->always) return 0;
    int to = x->out[p->out].rank;
    size_t bytes = (size_t)p->rows * p->columns * sizeof(float);
    Cf__Activation a = CF__ACTIVATION__INIT;
    a.batch = p->batch, a.exchange = x->id, a.layer = x->layer, a.step = x->step, a.segment = x->out[p->out].segment;
    a.rows = p->rows, a.columns = p->columns;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_ACTIVATION;
    env.activation = &a;
    if (!bytes || !from->window || !cf_window_reaches(m->transport, to))
        return cf_post(m->transport, to, &env, p->payload, bytes, bytes ? &from->pending : NULL, e);
    size_t part;
    const char *own = cf_window_own(m->transport, &part);
    a.window_slot = from->slot + 1;
    a.window_offset = (uint64_t)((const char *)(const void *)p->payload - own);
    from->told++;
    cf_window_publish(m->transport, to, bytes);
    return cf_post(m->transport, to, &env, NULL, 0, NULL, e);
}

bool cf_mail_sent(const struct cf_mailroom *m, const struct cf_outlet *o) {
    if (o->pending) return false;
    return !o->window || cf_window_released(m->transport, o->slot) == o->told;
}
