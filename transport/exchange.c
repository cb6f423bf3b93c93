/* See exchange.h. */
#include "transport/exchange.h"

#include <string.h>

size_t cf_exchange_bytes(const struct cf_exchange *x) {
    size_t columns = 0;
    for (uint32_t i = 0; i < x->n_in; i++)
        columns += x->in[i].columns;
    return columns * x->max_rows * sizeof(float);
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
    size_t columns = 0;
    for (uint32_t i = 0; i < part; i++)
        columns += x->in[i].columns;
    return (float *)(void *)s->data + columns * x->max_rows;
}

int cf_mail_deliver(struct cf_mailroom *m, int from, const Cf__Activation *a, size_t total, const void *data,
    size_t offset, size_t n, struct cf_error *e) {
    const struct cf_exchange *x = a->exchange < m->n_exchanges ? m->exchanges[a->exchange] : NULL;
    if (!x || a->segment >= x->n_in || x->in[a->segment].rank != from || a->dtype != 0 || a->rows > x->max_rows ||
        a->columns > x->in[a->segment].columns || total != (size_t)a->rows * a->columns * sizeof(float) ||
        (int32_t)(a->batch - m->done_batch) <= 0)
        return cf_fail(e, CF_ERR_PEER,
            "rank %d sent activations that this rank does not expect (batch %u, exchange %u, part %u, %u x %u)", from,
            a->batch, a->exchange, a->segment, a->rows, a->columns);
    struct cf_mail_slot *s = find(m, a->batch, a->exchange);
    if (!s && !(s = take(m, a->batch, a->exchange))) return 1;
    uint32_t i = a->segment;
    if (s->arrived & 1u << i || s->received[i] != offset)
        return cf_fail(e, CF_ERR_PEER, "rank %d sent part %u of exchange %u twice", from, i, a->exchange);
    if (n) memcpy((char *)place(x, s, i) + offset, data, n);
    s->received[i] += n, s->rows[i] = a->rows, s->columns[i] = a->columns;
    if (s->received[i] == total) s->arrived |= 1u << i;
    return 0;
}

bool cf_mail_ready(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t mask) {
    if (!mask) return true;
    const struct cf_mail_slot *s = find(m, batch, x->id);
    return s && (s->arrived & mask) == mask;
}

const float *cf_mail_part(const struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t part,
    uint32_t *rows, uint32_t *columns) {
    const struct cf_mail_slot *s = find(m, batch, x->id);
    if (!s || !(s->arrived & 1u << part)) return NULL;
    if (rows) *rows = s->rows[part];
    if (columns) *columns = s->columns[part];
    return place(x, s, part);
}

void cf_mail_release(struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch) {
    struct cf_mail_slot *s = find(m, batch, x->id);
    if (s) s->used = false;
}

int cf_mail_send(struct cf_mailroom *m, const struct cf_exchange *x, uint32_t batch, uint32_t out, const float *payload,
    uint32_t rows, uint32_t columns, int *pending, struct cf_error *e) {
    Cf__Activation a = CF__ACTIVATION__INIT;
    a.batch = batch, a.exchange = x->id, a.layer = x->layer, a.step = x->step, a.segment = x->out[out].segment;
    a.rows = rows, a.columns = columns;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_ACTIVATION;
    env.activation = &a;
    return cf_post(m->transport, x->out[out].rank, &env, payload, (size_t)rows * columns * sizeof(float), pending, e);
}
