/* Rank tests of the host's shared window: `mpirun -n N window_ranks SCENARIO`, in the manner of transport_ranks.c.
 *
 * works: rounds with and without a window, and parts passed through it until every slot was used many times.
 * rings: who naps is woken by what it is sent, and by what it waits for in its own part.
 * hosts: the same where COFFER_TEST_HOSTS says that only some of the ranks share one.
 * The others must fail on every rank with the text that run_ranks.sh is told.
 */
#include "transport/exchange.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/internal.h"

enum { ROWS = 8, COLUMNS = 1000, ROUNDS = 300, SLOTS = 4, PAYLOAD = ROWS * COLUMNS * 4 };

/* ---- rounds ---- */

struct settled {
    int calls;
    void *base;
    size_t bytes;
    bool refuse;
};

static int settle(void *ctx, void *base, size_t bytes, struct cf_error *e) {
    struct settled *s = ctx;
    s->calls++, s->base = base, s->bytes = bytes;
    if (s->refuse) return cf_fail(e, CF_ERR_MEMORY, "no pages here");
    const unsigned char *p = base;
    for (size_t i = 0; i < bytes; i += 512)
        if (p[i]) return cf_fail(e, CF_ERR_FORMAT, "somebody has written there already");
    memset((char *)base + CF_WINDOW_CONTROL, 0x55, bytes - CF_WINDOW_CONTROL);
    return 0;
}

#define EXPECT(what)                                                                                                   \
    do {                                                                                                               \
        if (!(what)) return cf_fail(e, CF_ERR_FORMAT, "line %d: not so: %s (%s)", __LINE__, #what, cf_window_note(t)); \
    } while (0)

/* Nobody has a window, and everybody knows why. */
static int none(const struct cf_transport *t, const char *why, struct cf_error *e) {
    size_t bytes;
    EXPECT(!cf_window_own(t, &bytes));
    for (int r = 0; r < t->size; r++)
        EXPECT(!cf_window_reaches(t, r) && !cf_window_read(t, r, CF_WINDOW_CONTROL, 4));
    EXPECT(t->size == 1 || strstr(cf_window_note(t), why));
    return 0;
}

static int rounds_without(struct cf_transport *t, struct cf_error *e) {
    struct settled s = {0};
    if (cf_window_open(t, t->rank != 0, 1000, settle, &s, e) || none(t, "", e)) return -1;
    EXPECT(!s.calls && !cf_window_note(t)[0]);
    if (cf_window_open(t, true, (size_t)1 << 50, settle, &s, e) || none(t, "/dev/shm has room for", e)) return -1;
    EXPECT(!s.calls);
    s.refuse = t->rank == t->size - 1;
    char why[40];
    snprintf(why, sizeof why, "rank %d: no pages here", t->size - 1);
    return cf_window_open(t, true, 1000, settle, &s, e) || none(t, why, e) ? -1 : 0;
}

static int round_with(struct cf_transport *t, size_t bytes, struct cf_error *e) {
    struct settled s = {0};
    size_t part = 0;
    if (cf_window_open(t, true, bytes, settle, &s, e)) return -1;
    if (t->size == 1) return none(t, "", e);
    EXPECT(cf_window_own(t, &part) == s.base && s.base && part == s.bytes && s.calls == 1);
    EXPECT(part >= bytes + CF_WINDOW_CONTROL && part % 4096 == 0 && (uintptr_t)s.base % 4096 == 0);
    for (int r = 0; r < t->size; r++) {
        if (r == t->rank) continue;
        EXPECT(cf_window_reaches(t, r) && cf_window_read(t, r, CF_WINDOW_CONTROL, bytes));
        EXPECT(!cf_window_read(t, r, CF_WINDOW_CONTROL - 4, 4) && !cf_window_read(t, r, CF_WINDOW_CONTROL + 2, 4));
        EXPECT(!cf_window_read(t, r, 1ull << 40, 4) && !cf_window_read(t, r, UINT64_MAX - 3, 8));
        EXPECT(!cf_window_read(t, r, CF_WINDOW_CONTROL, UINT64_MAX - 8));
        EXPECT(!cf_window_read(t, r, CF_WINDOW_CONTROL, s.bytes * 4)); // parts are about as large as our own
    }
    for (uint32_t slot = 0; slot < CF_WINDOW_SLOTS; slot++)
        EXPECT(cf_window_released(t, slot) == 0);
    return 0;
}

/* ---- parts ---- */

/* Everybody sends everybody a part, from one outlet, again and again; exchange number = round % 2. */
struct office {
    struct cf_mailroom mail;
    struct cf_mail_slot slots[SLOTS];
    struct cf_exchange x[2];
    const struct cf_exchange *list[2];
    struct cf_outlet out[2];
    uint32_t round;
    bool open;
    uint64_t sent; /* bytes to each of the others */
};

static int on_mail(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    struct office *o = ctx;
    if (!o->open) return 1; // of a rank that is in its office already
    return cf_mail_deliver(&o->mail, from, env->activation, env->payload_bytes, data, offset, n, e);
}

static void open_office(struct cf_transport *t, struct office *o) {
    size_t bytes;
    char *own = cf_window_own(t, &bytes);
    for (uint32_t i = 0; i < 2; i++) {
        struct cf_exchange *x = &o->x[i];
        *x = (struct cf_exchange){.id = i, .max_rows = ROWS};
        for (int r = 0; r < t->size; r++) {
            if (r == t->rank) continue;
            uint32_t to = (uint32_t)(t->rank < r ? t->rank : t->rank - 1);
            x->in[x->n_in] = (struct cf_part){r, x->n_in, COLUMNS, cf_window_reaches(t, r), 0, CF_DTYPE_F32}, x->n_in++;
            x->out[x->n_out++] = (struct cf_part){r, to, COLUMNS, false, 0, CF_DTYPE_F32};
        }
        o->list[i] = x;
        o->out[i] = (struct cf_outlet){.window = own != NULL, .slot = i ? CF_WINDOW_SLOTS - 1 : 0};
        o->out[i].data = own ? (float *)(void *)(own + CF_WINDOW_CONTROL + i * PAYLOAD) : malloc(PAYLOAD);
    }
    for (int i = 0; i < SLOTS; i++)
        o->slots[i].data = malloc(cf_exchange_bytes(&o->x[0]) + 1);
    o->mail = (struct cf_mailroom){
        .transport = t, .exchanges = o->list, .n_exchanges = 2, .n_slots = SLOTS, .slots = o->slots};
    o->open = true;
}

static bool may_write(void *ctx) {
    struct office *o = ctx;
    return cf_mail_sent(&o->mail, &o->out[o->round % 2]);
}

static bool all_here(void *ctx) {
    struct office *o = ctx;
    const struct cf_exchange *x = &o->x[o->round % 2];
    return cf_mail_ready(&o->mail, x, o->round + 1, (uint32_t)((1ull << x->n_in) - 1));
}

static float value(int rank, uint32_t round, size_t i) {
    return (float)((size_t)rank * 1000 + round) + (float)i / 8192.0f;
}

static int pass(struct cf_transport *t, struct office *o, struct cf_error *e) {
    struct cf_exchange *x = &o->x[o->round % 2];
    struct cf_outlet *out = &o->out[o->round % 2];
    uint32_t batch = o->round + 1, rows = 1 + o->round % ROWS;
    if (cf_wait(t, may_write, o, NULL, e)) return -1;
    for (size_t i = 0; i < (size_t)rows * COLUMNS; i++)
        out->data[i] = value(t->rank, o->round, i);
    for (uint32_t k = 0; k < x->n_out; k++)
        if (cf_mail_send(&o->mail, x, &(struct cf_parcel){batch, k, out->data, {rows, COLUMNS, 0}}, out, e)) return -1;
    o->sent += (uint64_t)rows * COLUMNS * sizeof(float);
    if (cf_wait(t, all_here, o, NULL, e)) return -1;
    if ((o->round * 7 + (uint32_t)t->rank) % 13 == 0) usleep(300); // now and then somebody reads late
    for (uint32_t k = 0; k < x->n_in; k++) {
        const float *part = cf_mail_part(&o->mail, x, batch, k, rows, COLUMNS, e);
        for (size_t i = 0; part && i < (size_t)rows * COLUMNS; i++)
            if (part[i] < value(x->in[k].rank, o->round, i) || part[i] > value(x->in[k].rank, o->round, i))
                return cf_fail(e, CF_ERR_FORMAT, "round %u: rank %d sent another number", o->round, x->in[k].rank);
        if (!part) return -1;
    }
    cf_mail_release(&o->mail, x, batch);
    o->mail.done_batch = batch;
    return 0;
}

/* Every byte is counted, on the way that it went. */
static int counted(
    struct cf_transport *t, const struct office *o, const struct cf_traffic *before, struct cf_error *e) {
    for (int r = 0; r < t->size; r++) {
        const struct cf_traffic *now = cf_transport_traffic(t, r);
        uint64_t window = now->window - before[r].window, payload = now->payload - before[r].payload;
        EXPECT(window == (cf_window_reaches(t, r) ? o->sent : 0));
        EXPECT(payload == (cf_window_reaches(t, r) || r == t->rank ? 0 : o->sent));
    }
    return 0;
}

/* In the window an outlet is not free before it has been read everywhere. */
static int passes(struct cf_transport *t, struct cf_error *e) {
    struct office o = {0};
    struct cf_traffic before[16];
    for (int r = 0; r < t->size; r++)
        before[r] = *cf_transport_traffic(t, r);
    cf_transport_on_message(t, on_mail, &o);
    open_office(t, &o);
    int rc = 0;
    for (; o.round < ROUNDS && !rc; o.round++)
        rc = pass(t, &o, e);
    for (int i = 0; i < 2 && !rc; i++, o.round++)
        rc = cf_wait(t, may_write, &o, NULL, e);
    for (int i = 0; i < 2 && !rc && t->size > 1 && o.out[i].window; i++)
        EXPECT(cf_window_released(t, o.out[i].slot) == ROUNDS / 2 * ((uint32_t)t->local_size - 1) && !o.out[i].pending);
    if (!rc) rc = counted(t, &o, before, e);
    for (int i = 0; i < SLOTS; i++)
        free(o.slots[i].data);
    for (int i = 0; i < 2 && !o.out[i].window; i++)
        free(o.out[i].data);
    cf_transport_on_message(t, NULL, NULL);
    return rc;
}

static int works(struct cf_transport *t, struct cf_error *e) {
    if (rounds_without(t, e) || passes(t, e)) return -1;
    if (round_with(t, 2 * PAYLOAD, e) || passes(t, e)) return -1;
    if (round_with(t, 5 << 20, e) || passes(t, e)) return -1;
    return rounds_without(t, e) || passes(t, e) || round_with(t, 2 * PAYLOAD, e) ? -1 : 0;
}

/* COFFER_TEST_HOSTS=2: the first half of the ranks is one host, the rest another. */
static int hosts(struct cf_transport *t, struct cf_error *e) {
    struct settled s = {0};
    EXPECT(t->hosts == 2);
    if (cf_window_open(t, true, 2 * PAYLOAD, settle, &s, e)) return -1;
    for (int r = 0; r < t->size; r++) {
        EXPECT(cf_transport_host_of(t, r) == r * 2 / t->size);
        EXPECT(cf_transport_machine_of(t, r) == 0); /* they run under one kernel */
        EXPECT(cf_window_reaches(t, r) == (r != t->rank && r * 2 / t->size == t->rank * 2 / t->size));
    }
    EXPECT(t->local_size == (t->size + 1 - t->rank * 2 / t->size) / 2);
    return passes(t, e);
}

/* ---- bells ---- */

enum { NAPS = 40 };

static int on_word(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    (void)from, (void)env, (void)data, (void)offset, (void)n, (void)e;
    ++*(int *)ctx;
    return 0;
}

/* Naps of 5 ms, as after a long wait, until there were so many words. *early: naps that ended well before their time,
 * as no timer does. */
static int nap_until(struct cf_transport *t, const int *words, int wanted, int *early, struct cf_error *e) {
    while (*words < wanted) {
        struct nap nap = {.since = cf_now() - 1000};
        cf__listen(t, &nap);
        EXPECT(nap.listens);
        if (cf_progress(t, e) < 0) return -1;
        if (*words >= wanted) break;
        double start = cf_now();
        cf__rest(t, &nap, start);
        *early += cf_now() - start < 4e-3;
    }
    return 0;
}

static bool is_asleep(void *ctx) {
    return atomic_load(&((struct cf__bell *)ctx)->asleep);
}

/* The last rank naps; rank 0 waits until it does, and posts a word. At last it releases a slot there. */
static int rings(struct cf_transport *t, struct cf_error *e) {
    int words = 0, early = 0, last = t->size - 1;
    cf_transport_on_message(t, on_word, &words);
    if (round_with(t, 1000, e)) return -1;
    struct cf__bell *bell = cf__window_bell(t, last);
    EXPECT(bell && cf__window_bell(t, t->rank) &&
           cf__window_bell(t, t->rank) != cf__window_bell(t, (t->rank + 1) % t->size));
    for (int i = 0; i < NAPS; i++) {
        if (t->rank == last && nap_until(t, &words, i + 1, &early, e)) return -1;
        if (t->rank) continue;
        if (cf_wait(t, is_asleep, bell, NULL, e)) return -1;
        Cf__Activation a = CF__ACTIVATION__INIT;
        Cf__Envelope env = CF__ENVELOPE__INIT;
        env.body_case = CF__ENVELOPE__BODY_ACTIVATION, env.activation = &a;
        if (cf_post(t, last, &env, NULL, 0, NULL, e)) return -1;
    }
    uint32_t before = atomic_load(&bell->rung);
    if (t->rank == 0) cf_window_release(t, last, 7);
    EXPECT(t->rank || atomic_load(&bell->rung) != before);
    EXPECT(t->rank != last || early >= NAPS / 4);
    EXPECT(t->rank != last || words == NAPS);
    return 0;
}

/* ---- failures ---- */

static bool never(void *ctx) {
    return (void)ctx, false;
}

/* The last rank names a place that is not in its window. */
static int lies(struct cf_transport *t, struct cf_error *e) {
    struct office o = {0};
    if (round_with(t, 2 * PAYLOAD, e)) return -1;
    cf_transport_on_message(t, on_mail, &o);
    open_office(t, &o);
    if (t->rank == t->size - 1) {
        Cf__Activation a = CF__ACTIVATION__INIT;
        Cf__Envelope env = CF__ENVELOPE__INIT;
        env.body_case = CF__ENVELOPE__BODY_ACTIVATION, env.activation = &a;
        size_t bytes;
        if (!cf_window_own(t, &bytes)) return -1;
        a.batch = 1, a.segment = (uint32_t)t->rank - 1, a.rows = 1, a.columns = COLUMNS, a.window_slot = 1;
        a.window_offset = bytes - 4;
        if (cf_post(t, 0, &env, NULL, 0, NULL, e)) return -1;
    }
    return cf_wait(t, never, NULL, NULL, e);
}

/* The last rank does not come to the round: it stops, or it fails. */
static int absent(struct cf_transport *t, bool stops, struct cf_error *e) {
    if (t->rank != t->size - 1) return cf_window_open(t, true, 1000, NULL, NULL, e);
    usleep(50000);
    if (stops) raise(SIGSTOP);
    return cf_fail(e, CF_ERR_NUMERIC, "no room for the weights");
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    const char *scenario = argv[1], *expected = argc > 2 ? argv[2] : NULL;
    struct cf_transport_options options = {.timeout = 2};
    struct cf_transport *t;
    struct cf_error e = {0};
    if (cf_transport_open(&t, &options, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    int rc = !strcmp(scenario, "works")   ? works(t, &e)
             : !strcmp(scenario, "rings") ? rings(t, &e)
             : !strcmp(scenario, "hosts") ? hosts(t, &e)
             : !strcmp(scenario, "lies")  ? lies(t, &e)
             : !strcmp(scenario, "stops") ? absent(t, true, &e)
                                          : absent(t, false, &e);
    if (rc) cf_transport_fail(t, &e);
    if (rc && expected && strstr(e.text, expected))
        fprintf(stderr, "rank %d saw it\n", cf_transport_rank(t));
    else if (rc)
        fprintf(stderr, "rank %d failed: %s\n", cf_transport_rank(t), e.text);
    cf_transport_close(t, rc == 0);
    return rc ? 1 : 0;
}
