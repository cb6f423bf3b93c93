/* Reads the machine into struct cf_machine. See topology.h.
 *
 * hwloc says which nodes, cores and caches there are and which of them cgroups allow; the process's binding and
 * numactl's
 * --membind narrow that; /proc and /sys say how much memory is free. Every core goes to exactly one node: the smallest
 * that contains it and has memory, else the nearest. */
#include "node/memory/topology.h"

#include <hwloc.h>
#include <hwloc/distances.h>
#include <numa.h>
#include <numaif.h>
#include <stdlib.h>
#include <string.h>

#include "node/memory/binding.h"
#include "node/memory/meminfo.h"

struct reading {
    hwloc_topology_t topology;
    bool ours;                /* the machine we run on, not a described one */
    hwloc_bitmap_t cpus;      /* PUs that we may use */
    hwloc_bitmap_t mems;      /* nodes that we may use */
    hwloc_obj_t *nodes;       /* [n_nodes] hwloc's object of each cf_machine.nodes */
    hwloc_uint64_t *distance; /* [n_nodes][n_nodes] or NULL */
};

/* file: an export of another machine, or NULL. */
static int reading_open(struct reading *r, const char *file, struct cf_error *e) {
    memset(r, 0, sizeof *r);
    if (hwloc_topology_init(&r->topology) < 0) {
        r->topology = NULL;
        return cf_fail(e, CF_ERR_SYSTEM, "hwloc cannot start");
    }
    if (file && hwloc_topology_set_xml(r->topology, file) < 0)
        return cf_fail(e, CF_ERR_FORMAT, "%s: hwloc cannot read it: no export of lstopo?", file);
    if (hwloc_topology_load(r->topology) < 0)
        return file ? cf_fail(e, CF_ERR_FORMAT, "%s: hwloc finds no machine in it", file)
                    : cf_fail(e, CF_ERR_SYSTEM, "hwloc cannot read this machine's topology");
    r->ours = !file && hwloc_topology_is_thissystem(r->topology);
    r->cpus = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(r->topology));
    r->mems = hwloc_bitmap_dup(hwloc_topology_get_allowed_nodeset(r->topology));
    if (!r->cpus || !r->mems) return cf_fail(e, CF_ERR_MEMORY, "no memory to read the topology");
    return 0;
}

static void reading_close(struct reading *r) {
    hwloc_bitmap_free(r->cpus);
    hwloc_bitmap_free(r->mems);
    free(r->nodes);
    free(r->distance);
    if (r->topology) hwloc_topology_destroy(r->topology);
}

/* numactl --membind is a wish as good as a cpuset. (numa_get_membind would print a refusal, which containers do.) */
static void apply_membind(hwloc_bitmap_t mems) {
    int mode = MPOL_DEFAULT;
    struct bitmask *bound = numa_bitmask_alloc(CF_MAX_NODES);
    hwloc_bitmap_t both = hwloc_bitmap_dup(mems);
    if (bound && both && get_mempolicy(&mode, bound->maskp, bound->size + 1, NULL, 0) == 0 && mode == MPOL_BIND) {
        for (int i = hwloc_bitmap_first(mems); i >= 0; i = hwloc_bitmap_next(mems, i))
            if (!numa_bitmask_isbitset(bound, (unsigned)i)) hwloc_bitmap_clr(both, (unsigned)i);
        if (!hwloc_bitmap_iszero(both)) hwloc_bitmap_copy(mems, both);
    }
    hwloc_bitmap_free(both);
    if (bound) numa_bitmask_free(bound);
}

static int by_os_index(const void *a, const void *b) {
    const hwloc_obj_t *x = a, *y = b;
    return ((*x)->os_index > (*y)->os_index) - ((*x)->os_index < (*y)->os_index);
}

/* Fills r->nodes with the allowed nodes that have memory (or, if hwloc knows of no memory at all, all allowed nodes).
 */
static int list_nodes(struct cf_machine *m, struct reading *r, struct cf_error *e) {
    r->nodes = calloc(CF_MAX_NODES, sizeof(hwloc_obj_t));
    if (!r->nodes) return cf_fail(e, CF_ERR_MEMORY, "no memory to read the topology");
    for (int any_size = 0; any_size < 2 && !m->n_nodes; any_size++) {
        for (hwloc_obj_t n = NULL; (n = hwloc_get_next_obj_by_type(r->topology, HWLOC_OBJ_NUMANODE, n));) {
            if (!hwloc_bitmap_isset(r->mems, n->os_index)) continue;
            if (!n->attr->numanode.local_memory && !any_size) continue;
            if (m->n_nodes == CF_MAX_NODES)
                return cf_fail(e, CF_ERR_LIMIT, "more than %d NUMA nodes", (int)CF_MAX_NODES);
            r->nodes[m->n_nodes++] = n;
        }
    }
    if (!m->n_nodes) return cf_fail(e, CF_ERR_SYSTEM, "no NUMA node whose memory this process may use");
    qsort(r->nodes, m->n_nodes, sizeof(hwloc_obj_t), by_os_index);
    m->nodes = calloc(m->n_nodes, sizeof *m->nodes);
    if (!m->nodes) return cf_fail(e, CF_ERR_MEMORY, "no memory for %u nodes", m->n_nodes);
    return 0;
}

/* The latencies that firmware or the description gives, if any. */
static void read_distances(const struct cf_machine *m, struct reading *r) {
    unsigned count = 1;
    struct hwloc_distances_s *d = NULL;
    if (hwloc_distances_get_by_type(
            r->topology, HWLOC_OBJ_NUMANODE, &count, &d, HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) < 0 ||
        !count || !d)
        return;
    r->distance = calloc((size_t)m->n_nodes * m->n_nodes, sizeof *r->distance);
    for (uint32_t i = 0; r->distance && i < m->n_nodes; i++) {
        for (uint32_t k = 0; k < m->n_nodes; k++) {
            int a = hwloc_distances_obj_index(d, r->nodes[i]), b = hwloc_distances_obj_index(d, r->nodes[k]);
            hwloc_uint64_t v = a < 0 || b < 0 ? 0 : d->values[(unsigned)a * d->nbobjs + (unsigned)b];
            r->distance[i * m->n_nodes + k] = v ? v : UINT64_MAX;
        }
    }
    hwloc_distances_release(r->topology, d);
}

/* The listed node that owns a core. A core on a node without memory goes to the first node of the smallest object
 * around it that has one. */
static uint32_t owner_of(const struct cf_machine *m, const struct reading *r, hwloc_obj_t core, int pu) {
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        if (!hwloc_bitmap_isset(r->nodes[i]->cpuset, (unsigned)pu)) continue;
        if (best == UINT32_MAX ||
            hwloc_bitmap_weight(r->nodes[i]->cpuset) < hwloc_bitmap_weight(r->nodes[best]->cpuset))
            best = i;
    }
    if (best != UINT32_MAX) return best;
    for (hwloc_obj_t around = core; around; around = around->parent)
        for (uint32_t i = 0; i < m->n_nodes; i++)
            if (hwloc_bitmap_intersects(r->nodes[i]->cpuset, around->cpuset)) return i;
    return 0;
}

static int list_cores(struct cf_machine *m, const struct reading *r, struct cf_error *e) {
    hwloc_obj_type_t type = hwloc_get_nbobjs_by_type(r->topology, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    size_t most = (size_t)hwloc_get_nbobjs_by_type(r->topology, type);
    hwloc_bitmap_t ours = hwloc_bitmap_alloc();
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        m->nodes[i].cores = calloc(most, sizeof *m->nodes[i].cores);
        if (!m->nodes[i].cores || !ours) {
            hwloc_bitmap_free(ours);
            return cf_fail(e, CF_ERR_MEMORY, "no memory to list the cores");
        }
    }
    for (hwloc_obj_t c = NULL; (c = hwloc_get_next_obj_by_type(r->topology, type, c));) {
        hwloc_bitmap_and(ours, c->cpuset, r->cpus);
        int pu = hwloc_bitmap_first(ours);
        if (pu < 0) continue;
        struct cf_numa_node *node = &m->nodes[owner_of(m, r, c, pu)];
        if (node->n_cores < CF_MAX_CORES) node->cores[node->n_cores++] = (uint32_t)pu;
        m->cpus_hash = (m->cpus_hash ^ ((uint64_t)pu + 1)) * UINT64_C(0x100000001b3); /* FNV-1a */
    }
    hwloc_bitmap_free(ours);
    return 0;
}

/* Is node a a better lender of cores to node i than node b? Same place first, then distance, then number. */
static bool nearer(const struct cf_machine *m, const struct reading *r, uint32_t i, uint32_t a, uint32_t b) {
    bool a_here = hwloc_bitmap_intersects(r->nodes[i]->cpuset, r->nodes[a]->cpuset);
    bool b_here = hwloc_bitmap_intersects(r->nodes[i]->cpuset, r->nodes[b]->cpuset);
    if (a_here != b_here) return a_here;
    if (r->distance) {
        hwloc_uint64_t to_a = r->distance[i * m->n_nodes + a], to_b = r->distance[i * m->n_nodes + b];
        if (to_a != to_b) return to_a < to_b;
    }
    return (a > i ? a - i : i - a) < (b > i ? b - i : i - b);
}

static void find_near(struct cf_machine *m, const struct reading *r) {
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        m->nodes[i].near = i;
        if (m->nodes[i].n_cores) continue;
        uint32_t best = UINT32_MAX;
        for (uint32_t k = 0; k < m->n_nodes; k++)
            if (m->nodes[k].n_cores && (best == UINT32_MAX || nearer(m, r, i, k, best))) best = k;
        if (best != UINT32_MAX) m->nodes[i].near = best;
    }
}

static void read_memory(struct cf_machine *m, const struct reading *r) {
    m->limit_free = r->ours ? cf__memory_limit_free("") : UINT64_MAX;
    uint32_t first;
    bool only = cf__memory_nodes("", &first) == 1;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        struct cf_numa_node *n = &m->nodes[i];
        struct cf__memory now;
        n->os_index = r->nodes[i]->os_index;
        n->memory = n->memory_free = r->nodes[i]->attr->numanode.local_memory;
        if (r->ours && cf__memory_of_node("", n->os_index, only, &now)) {
            n->memory = now.total;
            n->memory_free = now.free;
        }
        if (n->memory_free > m->limit_free) n->memory_free = m->limit_free;
    }
}

/* The caches of the highest level that touch one node; one that several nodes share counts by its share. */
static uint64_t last_level_cache(const struct reading *r, hwloc_obj_t node) {
    static const hwloc_obj_type_t levels[] = {
        HWLOC_OBJ_L5CACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L2CACHE};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        uint64_t sum = 0;
        for (hwloc_obj_t c = NULL; (c = hwloc_get_next_obj_by_type(r->topology, levels[i], c));) {
            if (!hwloc_bitmap_intersects(c->cpuset, node->cpuset)) continue;
            int all = hwloc_bitmap_weight(c->cpuset), here = hwloc_bitmap_weight(node->cpuset);
            sum += all > here && here > 0 ? c->attr->cache.size / (uint64_t)all * (uint64_t)here : c->attr->cache.size;
        }
        if (sum) return sum;
    }
    return 0;
}

static int build(struct cf_machine *m, struct reading *r, struct cf_error *e) {
    if (list_nodes(m, r, e) < 0) return -1;
    read_distances(m, r);
    if (list_cores(m, r, e) < 0) return -1;
    find_near(m, r);
    read_memory(m, r);
    m->llc_bytes = last_level_cache(r, r->nodes[m->nodes[0].near]);
    return 0;
}

int cf_machine_read(struct cf_machine *m, int local_size, struct cf_error *e) {
    memset(m, 0, sizeof *m);
    struct reading r;
    int rc = reading_open(&r, NULL, e);
    if (rc == 0 && r.ours) {
        m->widened = cf__binding_read(r.topology, local_size, r.cpus);
        apply_membind(r.mems);
    }
    if (rc == 0) rc = build(m, &r, e);
    reading_close(&r);
    if (rc < 0) cf_machine_free(m);
    return rc;
}

int cf__machine_read_export(struct cf_machine *m, const char *path, struct cf_error *e) {
    memset(m, 0, sizeof *m);
    struct reading r;
    int rc = reading_open(&r, path, e);
    if (rc == 0) rc = build(m, &r, e);
    reading_close(&r);
    if (rc < 0) cf_machine_free(m);
    return rc;
}

int cf__machine_read_within(struct cf_machine *m, const char *cpus, const char *mems, struct cf_error *e) {
    memset(m, 0, sizeof *m);
    struct reading r;
    int rc = reading_open(&r, NULL, e);
    hwloc_bitmap_t list = hwloc_bitmap_alloc();
    if (rc == 0 && cpus && list && hwloc_bitmap_list_sscanf(list, cpus) == 0) hwloc_bitmap_and(r.cpus, r.cpus, list);
    if (rc == 0 && mems && list && hwloc_bitmap_list_sscanf(list, mems) == 0) hwloc_bitmap_and(r.mems, r.mems, list);
    hwloc_bitmap_free(list);
    if (rc == 0) rc = build(m, &r, e);
    reading_close(&r);
    if (rc < 0) cf_machine_free(m);
    return rc;
}

void cf_machine_free(struct cf_machine *m) {
    for (uint32_t i = 0; i < m->n_nodes && m->nodes; i++)
        free(m->nodes[i].cores);
    free(m->nodes);
    memset(m, 0, sizeof *m);
}
