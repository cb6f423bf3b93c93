/* Where activations leave from: memory that the other ranks of this host can read, if there is such; and the run that
 * leaves the exchange out to show what it costs. */
#include "transport/window.h"

#include <string.h>

#include "node/engine/state.h"

/* The transport's callback: this rank's part of the window, which nobody has touched yet. */
static int settle(void *ctx, void *base, size_t bytes, struct cf_error *e) {
    struct cf_engine *g = ctx;
    return cf_arena_adopt(&g->window, base, bytes, g->o.node, g->o.policy, e);
}

/* Parts that come through the window take no room in the mail. */
static void mark_parts(struct cf_engine *g) {
    g->program.slot_bytes = 0;
    for (uint32_t i = 0; i < g->program.n_routes; i++) {
        struct cf_exchange *x = &g->program.routes[i].x;
        for (uint32_t k = 0; k < x->n_in; k++)
            x->in[k].window = cf_window_reaches(g->o.transport, x->in[k].rank);
        size_t bytes = cf_exchange_bytes(x);
        if (bytes > g->program.slot_bytes) g->program.slot_bytes = bytes;
    }
}

int cf__open_window(struct cf_engine *g, struct cf_error *e) {
    struct cf_transport *t = g->o.transport;
    bool few = (uint64_t)g->plan.n_flight * (CF_SUMS + 1) <= CF_WINDOW_SLOTS;
    bool wanted = g->o.exchange != CF_EXCHANGE_MESSAGES && !g->o.no_exchange && few;
    if (cf_window_open(t, wanted, cf__outlet_bytes(g), settle, g, e)) return -1;
    size_t bytes;
    if (cf_window_own(t, &bytes)) {
        cf_arena_take(&g->window, CF_WINDOW_CONTROL, 64);
        mark_parts(g);
        return 0;
    }
    memset(&g->window, 0, sizeof g->window);
    if (g->o.exchange != CF_EXCHANGE_WINDOW || cf_transport_local_size(t) == 1 || g->o.no_exchange) return 0;
    return cf_fail(e, CF_ERR_SYSTEM, "--exchange window: %s", few ? cf_window_note(t) : "too many batches in flight");
}

int cf__leave_out_exchange(struct cf_engine *g, struct cf_error *e) {
    if (!g->o.no_exchange) return 0;
    if (g->size > CF_MAX_PARTS)
        return cf_fail(e, CF_ERR_LIMIT, "the exchange can be left out with at most %d ranks", CF_MAX_PARTS);
    struct cf_exchange *x = &g->end;
    x->id = g->program.n_routes, x->always = true;
    for (int r = 1; r < g->size; r++) {
        if (g->rank == 0) x->in[x->n_in++] = (struct cf_part){.rank = r, .segment = (uint32_t)r - 1};
        if (g->rank == r) x->out[x->n_out++] = (struct cf_part){.rank = 0, .segment = (uint32_t)r - 1};
    }
    g->program.exchanges[x->id] = x; /* the list has room for one more */
    return 0;
}
