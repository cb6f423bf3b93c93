/* Deals the ranks of one host to its NUMA nodes and cores. See topology.h: pure logic, no system call.
 *
 * Two steps, the same on every rank: `deal` gives each rank a home (the node of its memory), then the ranks whose homes
 * use the same node's cores divide those cores. */
#include "node/memory/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CF_MAX_LOCAL_RANKS = 65536, CF_NO_NODE = UINT32_MAX };

static uint32_t node_of_os_index(const struct cf_machine *m, int os_index) {
    for (uint32_t i = 0; i < m->n_nodes; i++)
        if (os_index >= 0 && m->nodes[i].os_index == (uint32_t)os_index) return i;
    return CF_NO_NODE;
}

/* The node whose cores work for memory on `node`. */
static uint32_t cores_for(const struct cf_machine *m, uint32_t node) {
    if (m->nodes[node].n_cores) return node;
    uint32_t near = m->nodes[node].near;
    if (near < m->n_nodes && m->nodes[near].n_cores) return near;
    uint32_t best = CF_NO_NODE, best_gap = UINT32_MAX;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        uint32_t gap = i > node ? i - node : node - i;
        if (m->nodes[i].n_cores && gap < best_gap) best = i, best_gap = gap;
    }
    return best;
}

static int fail_no_node(const struct cf_machine *m, int rank, int os_index, struct cf_error *e) {
    char list[256] = "";
    size_t n = 0;
    for (uint32_t i = 0; i < m->n_nodes && n + 32 < sizeof list; i++)
        n += (size_t)snprintf(
            list + n, sizeof list - n, " %u%s", m->nodes[i].os_index, m->nodes[i].n_cores ? "" : " (no cores)");
    return cf_fail(e, CF_ERR_USAGE, "local rank %d: there is no NUMA node %d here that this process may use; nodes:%s",
        rank, os_index, list);
}

/* The node that gets the next rank: fewest ranks, then most cores, then first. */
static uint32_t emptiest(const struct cf_machine *m, const uint32_t *load) {
    uint32_t best = CF_NO_NODE;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        if (!m->nodes[i].n_cores) continue;
        if (best == CF_NO_NODE || load[i] < load[best] ||
            (load[i] == load[best] && m->nodes[i].n_cores > m->nodes[best].n_cores))
            best = i;
    }
    return best;
}

/* home: [local_size] node index of each rank. load, slots: [n_nodes] zeroed. */
static int deal(const struct cf_machine *m, int local_size, const int *wanted, uint32_t *home, uint32_t *load,
    uint32_t *slots, struct cf_error *e) {
    int without = 0;
    for (int r = 0; r < local_size; r++) {
        home[r] = CF_NO_NODE;
        if (!wanted || wanted[r] < 0) {
            without++;
            continue;
        }
        home[r] = node_of_os_index(m, wanted[r]);
        if (home[r] == CF_NO_NODE) return fail_no_node(m, r, wanted[r], e);
        load[cores_for(m, home[r])]++;
    }
    for (int k = 0; k < without; k++) {
        uint32_t node = emptiest(m, load);
        load[node]++, slots[node]++;
    }
    uint32_t node = 0;
    for (int r = 0; r < local_size; r++) {
        if (home[r] != CF_NO_NODE) continue;
        while (!slots[node])
            node++;
        slots[node]--;
        home[r] = node;
    }
    return 0;
}

/* Cuts this rank's share out of the cores that its home uses. */
static void take_cores(
    struct cf_seat *seat, const struct cf_machine *m, int local_rank, int local_size, const uint32_t *home) {
    uint32_t desk = cores_for(m, home[local_rank]);
    uint32_t at = 0, ranks = 0; /* this is rank number `at` of `ranks` at these cores */
    for (int r = 0; r < local_size; r++) {
        if (home[r] == home[local_rank]) seat->sharers++;
        if (cores_for(m, home[r]) != desk) continue;
        if (r < local_rank) at++;
        ranks++;
    }
    uint64_t n = m->nodes[desk].n_cores;
    uint64_t first = at * n / ranks, last = (at + 1) * n / ranks;
    if (ranks > n) {
        first = at % n, last = first + 1;
        seat->crowded = true;
    }
    if (last - first > CF_MAX_CORES) last = first + CF_MAX_CORES;
    seat->node = home[local_rank];
    seat->n_cores = (uint32_t)(last - first);
    memcpy(seat->cores, m->nodes[desk].cores + first, seat->n_cores * sizeof *seat->cores);
}

int cf_seat_assign(struct cf_seat *seat, const struct cf_machine *m, int local_rank, int local_size, const int *wanted,
    struct cf_error *e) {
    memset(seat, 0, sizeof *seat);
    if (local_size < 1 || local_size > CF_MAX_LOCAL_RANKS || local_rank < 0 || local_rank >= local_size)
        return cf_fail(e, CF_ERR_USAGE, "local rank %d of %d ranks on this host", local_rank, local_size);
    if (!m->n_nodes || cores_for(m, 0) == CF_NO_NODE)
        return cf_fail(e, CF_ERR_SYSTEM, "this host shows no core that this process may use");
    uint32_t *home = calloc((size_t)local_size + 2 * m->n_nodes, sizeof *home);
    if (!home) return cf_fail(e, CF_ERR_MEMORY, "no memory to seat %d ranks", local_size);
    uint32_t *load = home + local_size, *slots = load + m->n_nodes;
    int rc = deal(m, local_size, wanted, home, load, slots, e);
    if (rc == 0) take_cores(seat, m, local_rank, local_size, home);
    free(home);
    return rc;
}

int cf_seat_assign_bound(struct cf_seat *seat, const struct cf_machine *m, int local_rank, int local_size,
    const int *wanted, const uint64_t *cpus_hash, struct cf_error *e) {
    memset(seat, 0, sizeof *seat);
    if (local_size < 1 || local_size > CF_MAX_LOCAL_RANKS || local_rank < 0 || local_rank >= local_size)
        return cf_fail(e, CF_ERR_USAGE, "local rank %d of %d ranks on this host", local_rank, local_size);
    int *peers_want = malloc((size_t)local_size * sizeof *peers_want);
    if (!peers_want) return cf_fail(e, CF_ERR_MEMORY, "no memory to seat %d ranks", local_size);
    int peers = 0, at = 0;
    for (int r = 0; r < local_size; r++) {
        if (cpus_hash && cpus_hash[r] != cpus_hash[local_rank]) continue;
        if (r < local_rank) at++;
        peers_want[peers++] = wanted ? wanted[r] : -1;
    }
    int rc = cf_seat_assign(seat, m, at, peers, peers_want, e);
    free(peers_want);
    return rc;
}
