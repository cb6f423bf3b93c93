/* What the KV cache holds of one sequence, carried out of all ranks to rank 0 and from there into all ranks.
 *
 * The content has a canonical form that does not depend on ranks or layout: page after page, and in a page a slot
 * (keys, then values) for each layer and KV head, ascending. A rank's page in memory is its own slots one behind the
 * other, so one message carries one page, without a copy on the sending side of an export, and rank 0 puts each slot in
 * its place. KV heads that several members hold are taken from one of them and given to all.
 *
 * Nothing is in flight meanwhile. Order does the rest: what rank 0 sends to a rank is taken in the order in which it
 * was sent, so the batches that follow an import find its pages there.
 */
#include <stdlib.h>
#include <string.h>

#include "node/engine/state.h"

/* Which canonical slots a rank holds. */
struct holding {
    uint32_t n;
    uint32_t *slot; /* [n] canonical number, in the order of its page */
    bool *owner;    /* [n] is it taken from this rank? */
};

struct cf__carry {
    size_t slot_bytes;
    uint64_t page_bytes;
    struct holding *of; /* [size] */
    cf_kv_sink sink;    /* export: where it goes */
    void *ctx;
    uint64_t left; /* export: pages that other ranks still send */
};

static void free_carry(struct cf__carry *y, int size) {
    for (int r = 0; y && y->of && r < size; r++) {
        free(y->of[r].slot);
        free(y->of[r].owner);
    }
    if (y) free(y->of);
    free(y);
}

static int hold(
    const struct cf_engine *g, struct cf__carry *y, int rank, bool *taken, const struct cf_kv *kv, struct cf_error *e) {
    struct holding *h = &y->of[rank];
    h->slot = calloc(kv->slots + 1u, sizeof *h->slot), h->owner = calloc(kv->slots + 1u, sizeof *h->owner);
    if (!h->slot || !h->owner) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t l = 0; l < kv->n_layers; l++)
        for (uint32_t i = 0; i < kv->n_kv[l]; i++) {
            uint32_t slot = l * g->o.model->n_head_kv + kv->kv0[l] + i;
            h->slot[h->n] = slot, h->owner[h->n++] = !taken[slot];
            taken[slot] = true;
        }
    return 0;
}

static struct cf__carry *new_carry(const struct cf_engine *g, struct cf_error *e) {
    const struct cf_model *m = g->o.model;
    size_t slots = (size_t)m->n_layers * m->n_head_kv;
    struct cf__carry *y = calloc(1, sizeof *y);
    bool *taken = calloc(slots, sizeof *taken);
    if (y) y->of = calloc((size_t)g->size, sizeof *y->of);
    int rc = y && taken && y->of ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (int r = 0; !rc && r < g->size; r++) {
        struct cf_kv kv;
        rc = cf_kv_measure(&kv, &g->plan, m, r, e);
        if (!rc) rc = hold(g, y, r, taken, &kv, e);
        cf_kv_free(&kv);
    }
    free(taken);
    if (rc) {
        free_carry(y, g->size);
        return NULL;
    }
    y->slot_bytes = g->kv.slot_bytes, y->page_bytes = slots * y->slot_bytes;
    return y;
}

uint64_t cf_engine_kv_page_bytes(const struct cf_engine *g) {
    const struct cf_model *m = g->o.model;
    return (uint64_t)m->n_layers * m->n_head_kv * g->kv.slot_bytes;
}

static uint32_t pages_of(uint32_t positions) {
    return (positions + CF_PAGE - 1) / CF_PAGE;
}

/* The same on all ranks that hold anything, in order with the batches. */
static int order(struct cf_engine *g, uint32_t kind, uint32_t sequence, uint32_t positions, struct cf_error *e) {
    if (sequence >= g->plan.n_seqs || positions > g->plan.n_ctx)
        return cf_fail(e, CF_ERR_LIMIT, "sequence %u of %u positions is beyond the KV cache (%u of %u)", sequence,
            positions, g->plan.n_seqs, g->plan.n_ctx);
    return cf__kv_operation(g, kind, sequence, positions, e);
}

/* Bytes [offset, offset + n) of a rank's page into the sink, slot by slot. */
static int sort_out(
    const struct cf__carry *y, int rank, uint32_t page, const char *data, size_t offset, size_t n, struct cf_error *e) {
    const struct holding *h = &y->of[rank];
    while (n) {
        size_t slot = offset / y->slot_bytes, within = offset % y->slot_bytes, some = y->slot_bytes - within;
        if (some > n) some = n;
        uint64_t to = page * y->page_bytes + (uint64_t)h->slot[slot] * y->slot_bytes + within;
        if (h->owner[slot] && y->sink(y->ctx, to, data, some, e)) return -1;
        data += some, offset += some, n -= some;
    }
    return 0;
}

/* On every rank that holds anything: an export has come to its turn. Positions behind the end become zeros, so that the
 * content is the same whatever was there before. Other ranks send, rank 0 sorts its own pages out. */
int cf__give_pages(struct cf_engine *g, struct cf_error *e) {
    struct cf_kv *kv = &g->kv;
    uint32_t sequence = g->give.sequence, n = pages_of(g->give.positions);
    g->give.wanted = false;
    if (!kv->slots) return 0;
    if (n > kv->length[sequence])
        return cf_fail(e, CF_ERR_LIMIT, "sequence %u has no %u positions to give", sequence, g->give.positions);
    cf_kv_clear_tail(kv, sequence, g->give.positions);
    size_t bytes = kv->slots * kv->slot_bytes;
    for (uint32_t page = 0; page < n; page++) {
        const char *data = cf_kv_page(kv, sequence, page);
        if (g->rank == 0) {
            if (sort_out(g->carry, 0, page, data, 0, bytes, e)) return -1;
            continue;
        }
        Cf__KvPage p = CF__KV_PAGE__INIT;
        p.sequence = sequence, p.page = page;
        Cf__Envelope env = CF__ENVELOPE__INIT;
        env.body_case = CF__ENVELOPE__BODY_KV_PAGE, env.kv_page = &p;
        if (cf_post(g->o.transport, 0, &env, data, bytes, &g->give.pending, e)) return -1;
    }
    return 0;
}

static bool all_taken(void *ctx) {
    const struct cf_engine *g = ctx;
    return g->carry->left == 0;
}

int cf_engine_kv_export(
    struct cf_engine *g, uint32_t sequence, uint32_t positions, cf_kv_sink sink, void *ctx, struct cf_error *e) {
    struct cf__carry *y = g->carry = new_carry(g, e);
    if (!y) return -1;
    y->sink = sink, y->ctx = ctx;
    for (int r = 1; r < g->size; r++)
        if (y->of[r].n) y->left += pages_of(positions);
    int rc = order(g, CF_KV_EXPORT, sequence, positions, e);
    while (!rc && (g->give.wanted || cf__unfinished(g)))
        rc = cf__engine_turn(g, e);
    if (!rc) rc = cf_wait(g->o.transport, all_taken, g, NULL, e);
    free_carry(y, g->size);
    g->carry = NULL;
    return rc;
}

/* A piece of a page that another rank gives (rank 0), or that this rank gets. */
int cf__take_page(struct cf_engine *g, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n,
    struct cf_error *e) {
    const Cf__KvPage *p = env->kv_page;
    struct cf_kv *kv = &g->kv;
    if (g->rank == 0) {
        struct cf__carry *y = g->carry;
        if (!y || !y->left || env->payload_bytes != y->of[from].n * y->slot_bytes)
            return cf_fail(e, CF_ERR_PEER, "rank %d sent a KV page of %llu bytes that nobody wants", from,
                (unsigned long long)env->payload_bytes);
        if (offset + n == env->payload_bytes) y->left--;
        return sort_out(y, from, p->page, data, offset, n, e);
    }
    if (cf__unfinished(g)) return 1; /* the pages are not there yet */
    if (p->sequence >= kv->n_seqs || p->page >= kv->length[p->sequence] ||
        env->payload_bytes != kv->slots * kv->slot_bytes)
        return cf_fail(e, CF_ERR_PEER, "rank %d sent page %u of sequence %u, %llu bytes, which has no place", from,
            p->page, p->sequence, (unsigned long long)env->payload_bytes);
    memcpy(cf_kv_page(kv, p->sequence, p->page) + offset, data, n);
    return 0;
}

/* Rank's part of a page: [its slots]. */
static size_t pick(const struct cf__carry *y, int rank, const char *page, char *out) {
    const struct holding *h = &y->of[rank];
    for (uint32_t i = 0; i < h->n; i++)
        memcpy(out + i * y->slot_bytes, page + (size_t)h->slot[i] * y->slot_bytes, y->slot_bytes);
    return h->n * y->slot_bytes;
}

static int spread_page(struct cf_engine *g, const struct cf__carry *y, uint32_t sequence, uint32_t number,
    const char *page, char *parts, struct cf_error *e) {
    int pending = 0, rc = 0;
    pick(y, 0, page, cf_kv_page(&g->kv, sequence, number));
    for (int r = 1; r < g->size && !rc; r++) {
        size_t bytes = pick(y, r, page, parts);
        if (!bytes) continue;
        Cf__KvPage p = CF__KV_PAGE__INIT;
        p.sequence = sequence, p.page = number;
        Cf__Envelope env = CF__ENVELOPE__INIT;
        env.body_case = CF__ENVELOPE__BODY_KV_PAGE, env.kv_page = &p;
        rc = cf_post(g->o.transport, r, &env, parts, bytes, &pending, e);
        parts += bytes;
    }
    return rc ? -1 : cf__wait_sent(g, &pending, e);
}

int cf_engine_kv_import(
    struct cf_engine *g, uint32_t sequence, uint32_t positions, cf_kv_source source, void *ctx, struct cf_error *e) {
    struct cf__carry *y = new_carry(g, e);
    if (!y) return -1;
    size_t all = 0;
    for (int r = 1; r < g->size; r++)
        all += y->of[r].n * y->slot_bytes;
    char *page = malloc(y->page_bytes), *parts = malloc(all + 1);
    int rc = page && parts ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for a page of the KV cache");
    if (!rc) rc = order(g, CF_KV_IMPORT, sequence, positions, e);
    while (!rc && cf__unfinished(g))
        rc = cf__engine_turn(g, e);
    for (uint32_t p = 0; !rc && p < pages_of(positions); p++) {
        rc = source(ctx, p, page, e);
        if (!rc) rc = spread_page(g, y, sequence, p, page, parts, e);
    }
    free(page);
    free(parts);
    free_carry(y, g->size);
    return rc;
}
