/* See exchange.h. */
#include "transport/exchange.h"

#include <string.h>

uint32_t cf_extent_line(struct cf_extent s) {
    return s.line ? s.line : s.columns;
}

size_t cf_extent_lines(struct cf_extent s) {
    return s.columns ? (size_t)s.rows * (s.columns / cf_extent_line(s)) : 0;
}

size_t cf_extent_bytes(struct cf_extent s, enum cf_dtype dtype) {
    return cf_payload_bytes(dtype, cf_extent_lines(s), cf_extent_line(s));
}

static size_t room_of(const struct cf_exchange *x, uint32_t part) {
    const struct cf_part *p = &x->in[part];
    return p->bytes ? p->bytes : (size_t)p->columns * x->max_rows * sizeof(float);
}

/* Room that the first n parts take in a slot. */
static size_t room_before(const struct cf_exchange *x, uint32_t n) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < n; i++)
        bytes += x->in[i].window ? 0 : room_of(x, i);
    return bytes;
}

size_t cf_exchange_bytes(const struct cf_exchange *x) {
    return room_before(x, x->n_in);
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
static char *place(const struct cf_exchange *x, const struct cf_mail_slot *s, uint32_t part) {
    return s->data + room_before(x, part);
}

/* Is there such a part, for this batch, from this rank? */
static bool expected(const struct cf_mailroom *m, const struct cf_exchange *x, int from, const Cf__Activation *a) {
    return x && a->segment < x->n_in && x->in[a->segment].rank == from && (int32_t)(a->batch - m->done_batch) > 0;
}

/* Can a part be of this shape and dtype? Its lines are compared when the step that wants it comes. */
static bool fits(const struct cf_exchange *x, const Cf__Activation *a) {
    struct cf_extent s = {a->rows, a->columns, a->line};
    const struct cf_part *p = &x->in[a->segment];
    return s.rows <= x->max_rows && s.columns <= p->columns && s.line <= s.columns &&
           (!s.line || s.columns % s.line == 0) && cf_extent_bytes(s, p->dtype) <= room_of(x, a->segment);
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
    bool is_due = expected(m, x, from, a);
    if (is_due && a->dtype != (uint32_t)x->in[a->segment].dtype)
        return cf_fail(e, CF_ERR_PEER,
            "rank %d sent activations of type %u (%s) where %s was due (exchange %u, part %u)", from, a->dtype,
            cf_dtype_name(a->dtype), cf_dtype_name(x->in[a->segment].dtype), a->exchange, a->segment);
    is_due = is_due && fits(x, a);
    size_t bytes = is_due ? cf_extent_bytes((struct cf_extent){a->rows, a->columns, a->line}, a->dtype) : 0;
    /* What comes through the window comes without payload, and nothing else does, unless there is nothing to say. */
    bool window = is_due && x->in[a->segment].window && bytes;
    if (!is_due || window != (a->window_slot != 0) || total != (window ? 0 : bytes))
        return cf_fail(e, CF_ERR_PEER,
            "rank %d sent activations that this rank does not expect (batch %u, exchange %u, part %u, %u x %u in lines "
            "of %u, %s, %zu bytes)",
            from, a->batch, a->exchange, a->segment, a->rows, a->columns, a->line, cf_dtype_name(a->dtype), total);
    struct cf_mail_slot *s = find(m, a->batch, a->exchange);
    if (!s && !(s = take(m, a->batch, a->exchange))) return 1;
    uint32_t i = a->segment;
    if (s->arrived & 1u << i || s->received[i] != offset)
        return cf_fail(e, CF_ERR_PEER, "rank %d sent part %u of exchange %u twice", from, i, a->exchange);
    if (window && note_place(m, s, from, a, bytes, e)) return -1;
    if (n) memcpy(place(x, s, i) + offset, data, n);
    s->received[i] += n, s->shape[i] = (struct cf_extent){a->rows, a->columns, a->line};
    if (s->received[i] == total) s->arrived |= 1u << i;
    return 0;
}

bool cf_mail_ready(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t mask) {
    if (!mask || (m->nothing && !x->always)) return true;
    const struct cf_mail_slot *s = find(m, batch, x->id);
    return s && (s->arrived & mask) == mask;
}

const void *cf_mail_packed(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t part,
    struct cf_extent due, struct cf_error *e) {
    if (m->nothing) return m->nothing;
    const struct cf_mail_slot *s = find(m, batch, x->id);
    if (!s || !(s->arrived & 1u << part)) return NULL;
    struct cf_extent is = s->shape[part];
    bool lines = x->in[part].dtype == CF_DTYPE_F32 || cf_extent_line(is) == cf_extent_line(due);
    if (is.rows != due.rows || is.columns != due.columns || !lines) {
        cf_fail(e, CF_ERR_PEER,
            "rank %d sent %u x %u activations of exchange %u in lines of %u where %u x %u in lines of %u were due",
            x->in[part].rank, is.rows, is.columns, x->id, cf_extent_line(is), due.rows, due.columns,
            cf_extent_line(due));
        return NULL;
    }
    static const float empty;
    if (!due.rows || !due.columns) return &empty;
    return s->there[part] ? (const void *)s->there[part] : place(x, s, part);
}

const float *cf_mail_part(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t part,
    uint32_t rows, uint32_t columns, struct cf_error *e) {
    if (x->in[part].dtype == CF_DTYPE_F32)
        return cf_mail_packed(m, x, batch, part, (struct cf_extent){rows, columns, 0}, e);
    cf_fail(e, CF_ERR_USAGE, "part %u of exchange %u is not f32", part, x->id);
    return NULL;
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
    enum cf_dtype dtype = x->out[p->out].dtype;
    size_t bytes = cf_extent_bytes(p->shape, dtype);
    Cf__Activation a = CF__ACTIVATION__INIT;
    a.batch = p->batch, a.exchange = x->id, a.layer = x->layer, a.step = x->step, a.segment = x->out[p->out].segment;
    a.rows = p->shape.rows, a.columns = p->shape.columns, a.dtype = (uint32_t)dtype;
    if (dtype != CF_DTYPE_F32) a.line = cf_extent_line(p->shape);
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_ACTIVATION;
    env.activation = &a;
    if (!bytes || dtype != CF_DTYPE_F32 || !from->window || !cf_window_reaches(m->transport, to))
        return cf_post(m->transport, to, &env, p->payload, bytes, bytes ? &from->pending : NULL, e);
    size_t part;
    const char *own = cf_window_own(m->transport, &part);
    a.window_slot = from->slot + 1;
    a.window_offset = (uint64_t)((const char *)p->payload - own);
    from->told++;
    cf_window_publish(m->transport, to, bytes);
    return cf_post(m->transport, to, &env, NULL, 0, NULL, e);
}

bool cf_mail_sent(const struct cf_mailroom *m, const struct cf_outlet *o) {
    if (o->pending) return false;
    return !o->window || cf_window_released(m->transport, o->slot) == o->told;
}
