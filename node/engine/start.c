/* From a plan to a rank that is ready: program, arena, weights, cache, audit. And the end of an engine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/engine/state.h"
#include "transport/clock.h"

/* Bytes of weights that a thread fetches while it waits: a part of its second-level cache, for rows and partial sums
 * live there too, or a part of its share of the last level. A message between hosts leaves time for some megabytes. */
static size_t ahead_bytes(void) {
    enum { LEAST = 64 << 10, MOST = 4 << 20 };
    long second = sysconf(_SC_LEVEL2_CACHE_SIZE), last = sysconf(_SC_LEVEL3_CACHE_SIZE),
         cores = sysconf(_SC_NPROCESSORS_CONF);
    size_t near = second > 0 ? (size_t)second / 4 : LEAST;
    size_t far = last > 0 && cores > 0 ? (size_t)last / 4 / (size_t)cores : 0;
    if (far > MOST) far = MOST;
    return far > near ? far : near;
}

int cf_engine_open(struct cf_engine **out, const struct cf_engine_options *o, struct cf_error *e) {
    struct cf_engine *g = calloc(1, sizeof *g);
    if (!g) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    g->o = *o;
    g->rank = cf_transport_rank(o->transport), g->size = cf_transport_size(o->transport);
    g->next_id = 1;
    g->ready = calloc((size_t)g->size, sizeof *g->ready), g->counts = calloc((size_t)g->size, sizeof *g->counts);
    g->loaded = calloc((size_t)g->size, sizeof *g->loaded), g->to_load = calloc((size_t)g->size, sizeof *g->to_load);
    size_t size = (size_t)g->size;
    g->traffic = calloc(g->rank == 0 ? size * size : 1, sizeof *g->traffic);
    g->sent_before = calloc(size, sizeof *g->sent_before);
    g->works = calloc(size, sizeof *g->works);
    g->sent = calloc(size, sizeof *g->sent), g->sent_list = calloc(size, sizeof(Cf__Traffic *));
    if (!g->ready || !g->counts || !g->loaded || !g->to_load || !g->traffic || !g->sent_before || !g->works ||
        !g->sent || !g->sent_list) {
        cf_engine_close(g);
        return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    cf_transport_on_message(o->transport, cf__on_message, g);
    cf_team_poll(o->team, cf__poll, g, 0.0005);
    g->ahead = ahead_bytes();
    *out = g;
    return 0;
}

/* A sender is at most one exchange ahead, so of each batch two may lie here, or one if only one comes; and two more. */
static uint32_t slots_of(const struct cf_engine *g) {
    uint32_t coming = 0;
    for (uint32_t i = 0; i < g->program.n_routes && coming < 2; i++)
        coming += g->program.routes[i].x.n_in > 0;
    return coming * g->plan.n_flight + 2;
}

/* Programs and sizes from the plan. */
static int prepare(struct cf_engine *g, struct cf_error *e) {
    const struct cf_model *m = g->o.model;
    if (cf_program_compile(&g->program, &g->plan, m, g->rank, e)) return -1;
    if (cf_weights_measure(&g->weights, &g->plan, m, g->o.gguf, g->rank, e)) return -1;
    if (cf_kv_measure(&g->kv, &g->plan, m, g->rank, e)) return -1;
    g->queue_room = g->plan.n_flight + 4;
    g->mail.n_slots = slots_of(g);
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
    g->load_start = cf_now();
    g->contexts = calloc(g->plan.n_flight, sizeof *g->contexts);
    g->queue = calloc(g->queue_room, sizeof *g->queue);
    g->filled = calloc(g->plan.n_seqs, sizeof *g->filled);
    g->mail.slots = calloc(g->mail.n_slots, sizeof *g->mail.slots);
    if (!g->contexts || !g->queue || !g->filled || !g->mail.slots) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (cf__buffers(g, threads, NULL, &buffers, e)) return -1;
    uint64_t need = cf_weights_bytes(&g->weights) + cf_kv_bytes(&g->kv) + buffers + (1u << 20);
    if (cf_arena_open(&g->arena, need, g->o.node, g->o.huge, g->o.policy, g->o.team, e)) return -1;
    return cf__buffers(g, threads, &g->arena, &buffers, e);
}

/* Touches the cache and buffers so that no page fault is left for the first batch, and the audit sees every page. */
static void touch_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf_engine *g = ctx;
    uint32_t first, last;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    while (cf_team_next(team, thread, 4, &first, &last))
        for (size_t at = (size_t)first << 20; at < (size_t)last << 20 && at < g->arena.used; at += page) {
            volatile char *p = g->arena.base + at;
            *p = *p;
        }
}

static int load(struct cf_engine *g, struct cf_error *e) {
    struct cf_load l = {.model = g->o.model,
        .gguf = g->o.gguf,
        .arena = &g->arena,
        .team = g->o.team,
        .zero = g->plan.zero_rank == g->rank,
        .progress = load_progress,
        .ctx = g};
    if (cf_weights_load(&g->weights, &l, &g->load_stats, e)) return -1;
    if (cf_kv_place(&g->kv, &g->arena, e)) return -1;
    cf_team_do(g->o.team, touch_thread, g, (uint32_t)((g->arena.used >> 20) + 1));
    for (int windowed = 0; windowed < 2; windowed++) {
        struct cf_rope rope = cf_model_rope(g->o.model, windowed, g->plan.n_ctx);
        cf_rope_frequencies(&rope, g->rope_freq[windowed], &g->rope_mscale[windowed]);
    }
    for (int d = 0; d < CF_DOMAINS; d++)
        g->own.domain[d].tensors = g->weights.tensors[d], g->own.domain[d].bytes = g->weights.bytes[d];
    g->own.domain[CF_TEMPORAL].bytes = cf_kv_bytes(&g->kv);
    return cf__polled(g, e);
}

static void join_notes(const struct cf_engine *g, char note[CF_NOTE_BYTES]) {
    const char *missed = cf_window_note(g->o.transport), *more = g->o.note ? g->o.note : "", *arena = g->arena.note;
    snprintf(note, CF_NOTE_BYTES, "%s%s%s%s%s%s", arena, *arena && *missed ? "; " : "",
        *missed ? "no shared window: " : "", missed, (*arena || *missed) && *more ? "; " : "", more);
}

static int post_ready(struct cf_engine *g, struct cf_error *e) {
    struct cf_audit audit, window;
    char note[CF_NOTE_BYTES];
    double start = cf_now();
    if (cf_arena_audit(&g->arena, &audit, e) || cf_arena_audit(&g->window, &window, e)) return -1;
    audit.pages += window.pages, audit.local += window.local, audit.huge += window.huge;
    double share = audit.pages ? (double)audit.local / (double)audit.pages : 1.0;
    if (g->o.policy == CF_NUMA_STRICT && share < 0.99)
        return cf_fail(
            e, CF_ERR_MEMORY, "--numa strict: only %.1f %% of the pages lie on node %d", 100.0 * share, g->o.node);
    Cf__Ready r = CF__READY__INIT;
    r.bytes = g->arena.used + g->window.used, r.window_bytes = g->window.used ? g->window.bytes : 0;
    r.pages = audit.pages, r.pages_local = audit.local, r.pages_huge = audit.huge;
    join_notes(g, note);
    r.threads = cf_team_size(g->o.team), r.note = note, r.load_bytes = g->load_stats.bytes;
    r.read_seconds = g->load_stats.read, r.pack_seconds = g->load_stats.pack;
    r.audit_seconds = cf_now() - start, r.load_seconds = cf_now() - g->load_start;
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

static int ship(struct cf_engine *g, struct cf_error *e) {
    if (!g->o.ship) return 0;
    int rc = cf_ship_slices(g->o.ship, &g->plan, g->o.model, g->o.gguf, e);
    cf_transport_on_message(g->o.transport, cf__on_message, g);
    return rc;
}

/* Rank 0 and this rank must agree on which ranks share a host, or one would send f32 where the other waits for less. */
static int check_hosts(const struct cf_engine *g, struct cf_error *e) {
    for (int r = 0; r < g->size && g->plan.host; r++)
        if (g->plan.host[r] != (uint32_t)cf_transport_host_of(g->o.transport, r))
            return cf_fail(e, CF_ERR_PLAN, "plan: rank %d is on host %u there, and on host %d as this rank sees it", r,
                g->plan.host[r], cf_transport_host_of(g->o.transport, r));
    return 0;
}

int cf_engine_start(struct cf_engine *g, const struct cf_plan *plan, struct cf_error *e) {
    if (plan && send_plan(g, plan, e)) return -1;
    if (cf_wait(g->o.transport, plan_here, g, NULL, e)) return -1;
    if (cf_plan_check(&g->plan, g->o.model, g->size, e) || check_hosts(g, e) || prepare(g, e) ||
        cf__leave_out_exchange(g, e))
        return -1;
    if (ship(g, e) || cf__open_window(g, e) || allocate(g, e) || load(g, e)) return -1;
    g->mail.transport = g->o.transport;
    g->mail.exchanges = g->program.exchanges, g->mail.n_exchanges = g->program.n_routes + g->o.no_exchange;
    g->mail.slot_bytes = g->program.slot_bytes;
    for (int r = 0; r < g->size; r++) {
        g->sent_before[r] = *cf_transport_traffic(g->o.transport, r);
        g->works[r] = g->rank == 0 && (g->o.no_exchange || cf_plan_works(&g->plan, r)); /* without: all say their end */
    }
    g->started = true;
    if (post_ready(g, e)) return -1;
    if (g->rank == 0 && cf_wait(g->o.transport, all_ready, g, NULL, e)) return -1;
    return 0;
}

const struct cf_rank_ready *cf_engine_ready(const struct cf_engine *g, int rank) {
    return &g->ready[rank];
}

/* What MPI is still sending lies in the arena: it must be gone before the arena is. After a failure it may never go,
 * and the arena stays until the process ends. */
static bool sends_are_over(struct cf_engine *g) {
    struct cf_error e;
    if (cf_transport_failed_rank(g->o.transport) >= 0) return false;
    for (uint32_t i = 0; g->contexts && i < g->plan.n_flight; i++) {
        for (int k = 0; k < CF_SUMS; k++)
            if (cf__wait_sent(g, &g->contexts[i].sums_out[k].pending, &e)) return false;
        if (cf__wait_sent(g, &g->contexts[i].stage_out.pending, &e)) return false;
    }
    return true;
}

void cf_engine_close(struct cf_engine *g) {
    if (!g) return;
    bool over = sends_are_over(g);
    cf_team_poll(g->o.team, NULL, NULL, 1.0);
    cf_team_ahead(g->o.team, 0, NULL, 0);
    cf_transport_on_message(g->o.transport, NULL, NULL);
    unprepare(g);
    if (over) cf_arena_close(&g->arena);
    if (g->have_plan) cf_plan_free(&g->plan);
    free(g->contexts);
    free(g->queue);
    free(g->filled);
    free(g->mail.slots);
    free(g->ready);
    free(g->counts);
    free(g->traffic);
    free(g->sent_before);
    free(g->works);
    free(g->sent);
    free(g->sent_list);
    free(g->loaded);
    free(g->to_load);
    free(g);
}
