/* See planner.h: weights from measured figures, the layout, the proof, and the fit to free memory. */
#include "coordinator/plan/planner.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/plan/internal.h"
#include "node/engine/engine.h"

static const double GIB = 1024.0 * 1024.0 * 1024.0;
enum { FLIGHT = 8, MOST_FLIGHT = 64 /* as --micro-batches */ };

/* A rank's bandwidth: ranks on one node share its memory, so a thread of one gets what a thread of another gets. */
static double bandwidth_of(const struct cf_draft *d, uint32_t rank) {
    double sum = 0;
    uint32_t threads = 0;
    for (uint32_t i = 0; i < d->n_ranks; i++) {
        if (d->ranks[i].host_index != d->ranks[rank].host_index || d->ranks[i].node != d->ranks[rank].node) continue;
        if (d->ranks[i].bandwidth <= 0) return 0;
        sum += d->ranks[i].bandwidth, threads += d->ranks[i].threads;
    }
    return threads ? sum * d->ranks[rank].threads / threads : 0;
}

/* Shares by measured bandwidth; figures within a quarter of each other are noise and count as equal. */
static void set_weights(struct cf_draft *d) {
    double low = 0, high = 0;
    bool known = true;
    for (uint32_t i = 0; i < d->n_ranks; i++) {
        double b = bandwidth_of(d, i);
        if (b <= 0) known = false;
        if (!i || b < low) low = b;
        if (!i || b > high) high = b;
    }
    bool equal = d->wish->equal || !known || high <= 1.25 * low;
    for (uint32_t i = 0; i < d->n_ranks; i++)
        d->weight[i] = d->wish->cut_weights ? d->wish->cut_weights[i] : equal ? 1.0 : bandwidth_of(d, i);
}

static uint32_t default_stages(const struct cf_draft *d) {
    int hosts = d->ranks[d->n_ranks - 1].host_index + 1;
    for (uint32_t i = 0; i < d->n_ranks; i++)
        if (d->ranks[i].host_index >= hosts) hosts = d->ranks[i].host_index + 1;
    if (hosts > 1) return (uint32_t)hosts;
    return d->n_ranks >= 4 ? 2 : 1;
}

/* Batches in flight: what the user says, or one for every stage that has something to do. Each has buffers of its own
 * on every rank, hence an end to it: as many as there are sequences, where memory allows that. */
static uint32_t flight(const struct cf_draft *d, uint32_t stages) {
    if (d->wish->micro_batches) return d->wish->micro_batches;
    uint32_t busy = stages < d->m->n_layers ? stages : d->m->n_layers, most = FLIGHT;
    if (!d->few_in_flight && d->wish->n_seqs > most) most = d->wish->n_seqs;
    if (most > MOST_FLIGHT) most = MOST_FLIGHT;
    return busy < most ? busy : most;
}

static int lay_out(struct cf_draft *d, struct cf_error *e) {
    struct cf_plan *p = d->plan;
    free(p->rows);
    p->rows = NULL, p->n_plan_rows = 0, d->row_room = 0;
    uint32_t stages = d->wish->stages ? d->wish->stages : default_stages(d);
    switch (p->layout) {
    case CF_LAYOUT_LAYERS: p->n_flight = flight(d, d->n_ranks); return cf__layout_stages(d, d->n_ranks, e);
    case CF_LAYOUT_HYBRID: p->n_flight = flight(d, stages); return cf__layout_stages(d, stages, e);
    case CF_LAYOUT_DOMAIN: p->n_flight = flight(d, d->n_ranks > 1 ? 2 : 1); return cf__layout_domain(d, e);
    default: p->n_flight = flight(d, 1); return cf__layout_tensor(d, e);
    }
}

int cf_planner_need(const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g, uint32_t rank,
    const struct cf_rank_info *info, struct cf_rank_need *need, struct cf_error *e) {
    return cf_engine_bytes(
        p, m, g, (int)rank, info->threads ? info->threads : 1, &need->weights, &need->kv, &need->buffers, e);
}

/* Scales the weights of ranks whose slices do not fit; returns 1 if any did not, with the worst in *e. Slices are whole
 * chunks and layers: after some rounds, what is just too much gets smaller by more than it is too much. */
static int fit(struct cf_draft *d, int round, struct cf_error *e) {
    const double step = round < 3 ? 0.97 : 0.6;
    double worst = 0;
    for (uint32_t i = 0; i < d->n_ranks; i++) {
        struct cf_rank_need n;
        if (cf_planner_need(d->plan, d->m, d->g, i, &d->ranks[i], &n, e)) return -1;
        double need = (double)(n.weights + n.kv + n.buffers), has = (double)d->ranks[i].memory_free;
        if (!d->ranks[i].memory_free || need <= has) continue;
        d->weight[i] *= step * has / need;
        if (need - has <= worst) continue;
        worst = need - has;
        const char *unit = need < GIB ? "MiB" : "GiB";
        const double one = need < GIB ? GIB / 1024 : GIB;
        cf_fail(e, CF_ERR_MEMORY,
            "the model does not fit: rank %u (host %s node %d) needs %.2f %s (weights %.2f, KV cache %.2f, buffers "
            "%.2f) and has %.2f %s free: %.2f %s short",
            i, d->ranks[i].host, d->ranks[i].node, need / one, unit, (double)n.weights / one, (double)n.kv / one,
            (double)n.buffers / one, has / one, unit, worst / one, unit);
    }
    return worst > 0;
}

static void remark(const struct cf_draft *d, char note[512]) {
    size_t n = 0;
    note[0] = 0;
    for (uint32_t r = 0; r < d->n_ranks && n < 400; r++) {
        if (!cf_plan_works(d->plan, (int)r))
            n += (size_t)snprintf(note + n, 512 - n,
                "%srank %u holds nothing: this model has too few parts for %u ranks", n ? "\n" : "", r, d->n_ranks);
    }
    /* Where sets of ranks were compared, that was reckoned with. */
    if (d->plan->layout == CF_LAYOUT_DOMAIN && d->n_ranks > 1 && !d->wish->use && n < 400)
        snprintf(note + n, 512 - n,
            "%slayout domain pays only with two or more batches in flight; one sequence decodes faster with --layout "
            "tensor",
            n ? "\n" : "");
}

/* The plan was drawn up for the ranks in use, numbered from 0. */
static void renumber(struct cf_plan *p, const uint32_t *use) {
    for (uint32_t i = 0; i < p->n_plan_rows; i++)
        for (uint32_t k = 0; k < p->rows[i].n; k++)
            p->rows[i].ranks[k] = (int)use[p->rows[i].ranks[k]];
}

static void set_sizes(struct cf_plan *plan, const struct cf_draft *d) {
    const struct cf_plan_wish *wish = d->wish;
    bool one_host = true;
    for (uint32_t i = 0; i < d->n_ranks; i++)
        one_host &= d->ranks[i].host_index == d->ranks[0].host_index;
    plan->layout = wish->layout >= 0 ? (enum cf_layout)wish->layout : one_host ? CF_LAYOUT_TENSOR : CF_LAYOUT_HYBRID;
    plan->n_layers = d->m->n_layers, plan->n_ctx = wish->n_ctx, plan->n_seqs = wish->n_seqs,
    plan->zero_rank = wish->zero_rank;
    plan->n_rows = wish->n_rows < wish->n_ctx * wish->n_seqs ? wish->n_rows : wish->n_ctx * wish->n_seqs;
    plan->wire = wish->wire;
    plan->kv_type = wish->kv_type, plan->kv_size = wish->kv_size, plan->kv_keep = wish->kv_keep;
    if (plan->kv_size && plan->n_rows > (plan->kv_size + 1) / 2) plan->n_rows = (plan->kv_size + 1) / 2;
    plan->n_want = wish->n_want < plan->n_rows ? wish->n_want : plan->n_rows;
}

/* Hosts of the ranks, where there are several. */
static int set_hosts(struct cf_plan *plan, const struct cf_rank_info *ranks, uint32_t n_ranks, struct cf_error *e) {
    bool one_host = true;
    for (uint32_t i = 0; i < n_ranks; i++)
        one_host &= ranks[i].host_index == ranks[0].host_index;
    free(plan->host);
    plan->host = NULL, plan->n_hosts = 0;
    if (one_host) return 0;
    plan->host = calloc(n_ranks, sizeof *plan->host);
    if (!plan->host) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    plan->n_hosts = n_ranks;
    for (uint32_t i = 0; i < n_ranks; i++)
        plan->host[i] = (uint32_t)ranks[i].host_index;
    return 0;
}

/* The layout with shares that fit. 1: there are none, and why. */
static int shares(struct cf_draft *d, struct cf_error *e) {
    enum { ROUNDS = 12 };
    set_weights(d);
    int rc = lay_out(d, e), misfit = 0;
    for (int round = 0; !rc && round < ROUNDS; round++) {
        rc = cf_plan_check(d->plan, d->m, (int)d->n_ranks, e);
        misfit = rc ? 0 : fit(d, round, e);
        if (misfit < 0) rc = -1;
        if (rc || !misfit) break;
        if (round < ROUNDS - 1) rc = lay_out(d, e);
    }
    return rc ? -1 : misfit;
}

static int draw_up(struct cf_draft *d, char note[512], struct cf_error *e) {
    set_sizes(d->plan, d);
    if (set_hosts(d->plan, d->ranks, d->n_ranks, e)) return -1;
    int rc = shares(d, e);
    d->few_in_flight = true;
    if (rc > 0 && !d->wish->micro_batches && d->plan->n_flight > FLIGHT) rc = shares(d, e);
    if (rc) return -1;
    remark(d, note);
    return 0;
}

void cf_planner_count(const struct cf_plan *p, const struct cf_figures *f, uint32_t *ranks, uint32_t *hosts) {
    *ranks = *hosts = 0;
    for (uint32_t h = 0; h < f->n_hosts; h++) {
        uint32_t before = *ranks;
        for (uint32_t r = 0; r < f->n_ranks; r++)
            *ranks += f->ranks[r].host_index == (int)h && cf_plan_works(p, (int)r);
        *hosts += *ranks > before;
    }
}

/* Hosts counted from 0 on without gaps, in the order of their first ranks: of a part of all hosts numbers are missing.
 */
static void renumber_hosts(struct cf_rank_info *to, const struct cf_rank_info *ranks, const uint32_t *use, uint32_t n) {
    int hosts = 0;
    for (uint32_t i = 0; i < n; i++) {
        int known = -1;
        for (uint32_t k = 0; k < i && known < 0; k++)
            if (ranks[use[k]].host_index == ranks[use[i]].host_index) known = to[k].host_index;
        to[i].host_index = known < 0 ? hosts++ : known;
    }
}

int cf_planner_make(struct cf_plan *plan, const struct cf_plan_wish *wish, const struct cf_model *m,
    const struct cf_gguf *g, const struct cf_rank_info *ranks, uint32_t n_ranks, char note[512], struct cf_error *e) {
    memset(plan, 0, sizeof *plan);
    struct cf_draft d = {.plan = plan, .wish = wish, .m = m, .g = g, .ranks = ranks, .n_ranks = n_ranks};
    struct cf_rank_info *used = NULL;
    if (wish->use) {
        used = calloc(wish->n_use, sizeof *used);
        for (uint32_t i = 0; used && i < wish->n_use; i++)
            used[i] = ranks[wish->use[i]];
        if (used) renumber_hosts(used, ranks, wish->use, wish->n_use);
        d.ranks = used, d.n_ranks = wish->n_use;
    }
    d.weight = calloc(d.n_ranks, sizeof *d.weight);
    int rc = -1;
    if (!d.weight || !d.ranks)
        cf_fail(e, CF_ERR_MEMORY, "out of memory");
    else
        rc = draw_up(&d, note, e);
    free(d.weight);
    free(used);
    if (!rc && wish->use) renumber(plan, wish->use);
    if (!rc && wish->use) rc = set_hosts(plan, ranks, n_ranks, e);
    if (rc) cf_plan_free(plan);
    return rc;
}
