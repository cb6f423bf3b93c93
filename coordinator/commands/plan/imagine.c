/* Ranks that are imagined: machines like this one, and ranks on them as a run would seat them. See subject.h. */
#include <string.h>

#include "coordinator/commands/plan/subject.h"

/* What so many of a node's threads read alone: straight lines between the numbers that were measured. */
static double reads_with(const struct cf_rank_info *here, uint32_t threads) {
    double most = here->threads, bandwidth = here->bandwidth;
    for (uint32_t i = 0; i < here->n_fewer; i++) {
        const struct cf_fewer *f = &here->fewer[i];
        if (f->threads <= threads)
            return f->bandwidth + (bandwidth - f->bandwidth) * (threads - f->threads) / (most - f->threads);
        most = f->threads, bandwidth = f->bandwidth;
    }
    return most > 0 ? bandwidth * threads / most : 0;
}

/* One of several ranks of a node. */
static void share_node(struct cf_rank_info *r, const struct cf_rank_info *here, uint32_t first) {
    r->memory = first;
    if (r->bandwidth > 0) r->alone = reads_with(here, r->threads) / r->bandwidth;
}

/* One of the ranks that are imagined here: a share of a node. More of them than the node has cores have one core each,
 * several the same, as a run seats them, and their figures are first those of a core (cf_figures_crowd). */
static void imagine(struct cf_rank_info *r, const struct cf__machines *k, const struct cf_machine *m,
    const struct cf_rank_info *here, uint32_t rank, uint32_t all, uint32_t per_host) {
    uint32_t local = rank % per_host;
    uint32_t node = local % m->n_nodes, cores = m->nodes[node].n_cores;
    uint32_t on_host = all - (rank - local) < per_host ? all - (rank - local) : per_host;
    uint32_t sharers = (on_host - node + m->n_nodes - 1) / m->n_nodes;
    bool shares = !k->by_node && k->bandwidth <= 0 && !k->threads && sharers > 1,
         crowded = shares && cores && sharers > cores;
    snprintf(r->host, sizeof r->host, "host%d", r->host_index);
    r->node = k->by_node ? (int)local : (int)m->nodes[node].os_index;
    r->threads = k->threads                         ? (uint32_t)k->threads
                 : m->nodes[node].n_cores / sharers ? m->nodes[node].n_cores / sharers
                                                    : 1;
    r->memory_free = k->memory ? (uint64_t)k->memory << 20
                               : cf_memory_share(m->nodes[node].memory_free, sharers, m->limit_free, on_host);
    if (!r->memory_free && m->nodes[node].memory_free) r->memory_free = 1; /* 0: not known */
    r->bandwidth = k->bandwidth > 0 ? here->bandwidth : here->bandwidth / (crowded ? cores : sharers);
    double share = here->threads ? (double)r->threads / here->threads : 1;
    for (int id = 0; id < CF_TYPE_LIMIT; id++)
        r->rates[id] = here->rates[id] * share, r->single[id] = here->single[id] * share,
        r->few[id] = here->few[id] * share;
    r->attention = here->attention * share, r->between = here->between * share, r->step = here->step;
    memcpy(r->noise, here->noise, sizeof r->noise);
    r->seat = node * CF_MAX_CORES + (crowded ? local / m->n_nodes % cores : 0);
    if (shares) share_node(r, here, rank - local + node);
    if (crowded) r->seat_cores = 1;
    /* Ranks that share a node halve their threads together, as all threads of the node were halved. */
    double part = here->bandwidth > 0 ? r->bandwidth / here->bandwidth : 1;
    for (uint32_t n = r->threads / 2; !k->threads && n && r->n_fewer < here->n_fewer; n /= 2) {
        const struct cf_fewer *f = &here->fewer[r->n_fewer];
        r->fewer[r->n_fewer++] = (struct cf_fewer){n, part * f->bandwidth, f->step};
    }
}

int cf__imagine(struct cf_figures *f, const struct cf__machines *k, const struct cf_machine *m,
    const struct cf_rank_info *here, struct cf_error *e) {
    uint32_t hosts = k->hosts ? (uint32_t)k->hosts : 1, n = k->ranks ? (uint32_t)k->ranks : m->n_nodes * hosts;
    uint32_t per_host = (n + hosts - 1) / hosts;
    if (hosts > n) return cf_fail(e, CF_ERR_USAGE, "--hosts %u is more than --ranks %u", hosts, n);
    if (cf_figures_new(f, n, hosts, e)) return -1;
    cf_figures_assume_links(f);
    for (uint32_t i = 0; i < n; i++) {
        f->ranks[i].host_index = (int)(i / per_host);
        imagine(&f->ranks[i], k, m, here, i, n, per_host);
    }
    cf_figures_crowd(f);
    return 0;
}
