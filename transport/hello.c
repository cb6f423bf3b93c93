/* The hello round: every rank tells rank 0 what it is, rank 0 compares, and its verdict goes to all. */
#include "transport/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- comparing ---- */

static bool same(const Cf__Hello *a, const Cf__Hello *b) {
    return a->protocol == b->protocol && strcmp(a->program, b->program) == 0 && a->model_bytes == b->model_bytes &&
           a->model_hash == b->model_hash;
}

/* What `mine` has that `theirs` has not; called for hellos that differ. */
static void describe(const Cf__Hello *mine, const Cf__Hello *theirs, int other, struct cf_error *e) {
    const char *host = theirs->host;
    if (mine->protocol != theirs->protocol)
        cf_fail(e, CF_ERR_PEER, "speaks protocol %u, but rank %d (%s) speaks %u", mine->protocol, other, host,
            theirs->protocol);
    else if (strcmp(mine->program, theirs->program) != 0)
        cf_fail(e, CF_ERR_PEER, "runs coffer %.32s, but rank %d (%s) runs %.32s", mine->program, other, host,
            theirs->program);
    else if (mine->model_bytes != theirs->model_bytes)
        cf_fail(e, CF_ERR_PEER, "has a model of %" PRIu64 " bytes, but that of rank %d (%s) has %" PRIu64,
            mine->model_bytes, other, host, theirs->model_bytes);
    else
        cf_fail(e, CF_ERR_PEER,
            "has another model: its header hashes to %016" PRIx64 ", that of rank %d (%s) to %016" PRIx64,
            mine->model_hash, other, host, theirs->model_hash);
}

int cf__hello_compare(Cf__Hello *const *hellos, int n, int *origin, struct cf_error *e) {
    for (int r = 0; r < n; r++) {
        const Cf__Error *error = hellos[r]->error;
        if (!error) continue;
        *origin = r;
        bool known = error->code > CF_OK && error->code < CF_ERR_END;
        return cf_fail(e, known ? (enum cf_code)error->code : CF_ERR_PEER, "%s", error->text);
    }
    int first = 0, differ = 0;
    for (int r = 1; r < n; r++) {
        if (same(hellos[r], hellos[0])) continue;
        if (differ++ == 0) first = r;
    }
    if (differ == 0) return 0;
    // Where all others agree with each other, rank 0 is the odd one.
    bool zero_is_odd = n > 2 && differ == n - 1;
    for (int r = 2; r < n && zero_is_odd; r++)
        zero_is_odd = same(hellos[r], hellos[1]);
    int odd = zero_is_odd ? 0 : first, other = zero_is_odd ? 1 : 0;
    describe(hellos[odd], hellos[other], other, e);
    *origin = odd;
    return -1;
}

/* ---- the round ---- */

struct greeting {
    struct cf_transport *t;
    Cf__Hello **hellos; /* [size], rank 0 only */
    int missing;
    unsigned char *packed; /* [packed_bytes] of the verdict, the first `arrived` of them are there */
    size_t packed_bytes, arrived;
    int pending; /* ranks that are still being sent it */
    Cf__Verdict *verdict;
};

void *cf_transport_copy(const ProtobufCMessage *message, struct cf_error *e) {
    size_t bytes = protobuf_c_message_get_packed_size(message);
    void *copy = NULL, *packed = malloc(bytes + 1);
    if (packed) {
        protobuf_c_message_pack(message, packed);
        copy = protobuf_c_message_unpack(message->descriptor, NULL, bytes, packed);
    }
    free(packed);
    if (!copy) cf_fail(e, CF_ERR_MEMORY, "no memory for a message of %zu bytes", bytes);
    return copy;
}

/* A piece of the verdict, which is a payload: with many ranks it is longer than an envelope may be. */
static int take_verdict(
    struct greeting *g, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    const size_t bytes = env->payload_bytes;
    if (!g->packed) {
        if (bytes == 0 || bytes > (size_t)g->t->size * CF_SMALL)
            return cf_fail(e, CF_ERR_FORMAT, "a verdict of %zu bytes on %d ranks", bytes, g->t->size);
        g->packed = malloc(bytes);
        g->packed_bytes = bytes;
    }
    if (!g->packed) return cf_fail(e, CF_ERR_MEMORY, "no memory for what %d ranks are", g->t->size);
    if (bytes != g->packed_bytes || offset != g->arrived || n > bytes - offset)
        return cf_fail(e, CF_ERR_FORMAT, "a piece of a verdict that does not belong there");
    memcpy(g->packed + offset, data, n);
    g->arrived += n;
    if (g->arrived < bytes) return 0;
    g->verdict = cf__verdict__unpack(NULL, bytes, g->packed);
    return g->verdict ? 0 : cf_fail(e, CF_ERR_FORMAT, "a verdict that cannot be read");
}

static int on_greeting(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    struct greeting *g = ctx;
    if (g->t->rank == 0 && env->body_case == CF__ENVELOPE__BODY_HELLO) {
        if (g->missing == 0) return 1; // of the next round: others are still being sent the verdict of this one
        if (g->hellos[from]) return cf_fail(e, CF_ERR_FORMAT, "rank %d: a second hello", from);
        g->hellos[from] = cf_transport_copy(&env->hello->base, e);
        g->missing--;
        return g->hellos[from] ? 0 : -1;
    }
    if (from == 0 && env->body_case == CF__ENVELOPE__BODY_VERDICT && !g->verdict)
        return take_verdict(g, env, data, offset, n, e);
    return 1; // of a rank that is through already: waits until this one is, too
}

static bool all_came(void *ctx) {
    return ((struct greeting *)ctx)->missing == 0;
}
static bool judged(void *ctx) {
    return ((struct greeting *)ctx)->verdict != NULL;
}

static bool all_sent(void *ctx) {
    return ((struct greeting *)ctx)->pending == 0;
}

static int post_verdict(struct greeting *g, const Cf__Verdict *verdict, struct cf_error *e) {
    g->packed_bytes = cf__verdict__get_packed_size(verdict);
    g->packed = malloc(g->packed_bytes + 1);
    if (!g->packed) return cf_fail(e, CF_ERR_MEMORY, "no memory for what %d ranks are", g->t->size);
    cf__verdict__pack(verdict, g->packed);
    for (int r = 1; r < g->t->size; r++) {
        Cf__Envelope env = CF__ENVELOPE__INIT;
        Cf__Verdict here = CF__VERDICT__INIT; /* its hellos come as the payload */
        env.body_case = CF__ENVELOPE__BODY_VERDICT;
        env.verdict = &here;
        if (cf_post(g->t, r, &env, g->packed, g->packed_bytes, &g->pending, e)) return -1;
    }
    g->verdict = cf_transport_copy(&verdict->base, e);
    return g->verdict ? cf_wait(g->t, all_sent, g, NULL, e) : -1;
}

/* Rank 0: waits for all hellos, compares them and tells everybody the result. A refusal goes as an Error, because those
 * overtake the farewells of ranks that have already heard of it. */
static int judge(struct greeting *g, struct cf_error *e) {
    struct cf_transport *t = g->t;
    if (cf_wait(t, all_came, g, NULL, e)) return -1;
    struct cf_error why;
    int origin = 0;
    if (!t->tolerant && cf__hello_compare(g->hellos, t->size, &origin, &why)) {
        cf__refuse(t, &why, origin);
        if (e) *e = t->why;
        return -1;
    }
    Cf__Verdict verdict = CF__VERDICT__INIT;
    verdict.n_hellos = (size_t)t->size;
    verdict.hellos = g->hellos;
    return post_verdict(g, &verdict, e);
}

static int ask(struct greeting *g, Cf__Hello *mine, struct cf_error *e) {
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_HELLO;
    env.hello = mine;
    if (cf_post(g->t, 0, &env, NULL, 0, NULL, e)) return -1;
    return cf_wait(g->t, judged, g, NULL, e);
}

int cf_transport_hello(struct cf_transport *t, const Cf__Hello *mine, Cf__Verdict **all, struct cf_error *e) {
    char program[] = COFFER_VERSION;
    Cf__Hello hello = *mine;
    hello.protocol = CF_PROTOCOL_VERSION;
    hello.program = program;
    hello.host = t->host_names[t->rank];
    struct greeting g = {.t = t, .missing = t->rank == 0 ? t->size : 0};
    cf_on_message before = t->on_message;
    void *before_ctx = t->on_message_ctx;
    *all = NULL;
    if (t->rank == 0) {
        g.hellos = calloc((size_t)t->size, sizeof(Cf__Hello *));
        if (!g.hellos) return cf_fail(e, CF_ERR_MEMORY, "no memory for %d ranks", t->size);
        g.hellos[0] = cf_transport_copy(&hello.base, e);
        g.missing--;
    }
    cf_transport_on_message(t, on_greeting, &g);
    t->greeting = true;
    int rc = t->rank != 0 ? ask(&g, &hello, e) : g.hellos[0] ? judge(&g, e) : -1;
    cf_transport_on_message(t, before, before_ctx);
    t->greeting = false;
    if (rc == 0 && g.verdict->n_hellos != (size_t)t->size)
        rc = cf_fail(e, CF_ERR_FORMAT, "a verdict on %zu of %d ranks", g.verdict->n_hellos, t->size);
    for (int r = 0; r < t->size && g.hellos; r++)
        if (g.hellos[r]) cf__hello__free_unpacked(g.hellos[r], NULL);
    free(g.hellos);
    if (g.pending == 0) free(g.packed); // after a failure MPI may still be reading it
    if (rc == 0)
        *all = g.verdict;
    else if (g.verdict)
        cf__verdict__free_unpacked(g.verdict, NULL);
    return rc;
}
