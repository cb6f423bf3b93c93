/* See binding.h. What Open MPI exports to its ranks was read off mpirun 4.1.4: --bind-to and --map-by become
 * OMPI_MCA_hwloc_base_binding_policy and OMPI_MCA_rmaps_base_mapping_policy; the defaults export nothing. Open MPI 5
 * (PRRTE) says it in PRTE_MCA_* or only on the launcher's command line, which is therefore looked at as well. */
#include "node/memory/binding.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Any of these names a width, or particular cores. */
static const char *const asks_binding[] = {"OMPI_MCA_hwloc_base_binding_policy", "OMPI_MCA_hwloc_base_cpu_list",
    "OMPI_MCA_hwloc_base_cpu_set", "OMPI_MCA_rmaps_base_cpus_per_rank", "OMPI_MCA_rmaps_base_cpus_per_proc",
    "OMPI_MCA_rmaps_rank_file_path", "OMPI_MCA_orte_rankfile", "OMPI_MCA_rmaps_base_rankfile",
    "PRTE_MCA_hwloc_default_binding_policy", "PRTE_MCA_hwloc_default_cpu_list", "PRTE_MCA_rmaps_file_path"};
/* These say where, and sometimes (core, PE=n) also how wide. */
static const char *const asks_mapping[] = {
    "OMPI_MCA_rmaps_base_mapping_policy", "PRTE_MCA_rmaps_default_mapping_policy"};
static const char *const asks_width[] = {"core", "hwthread", "PE=", "pe="};
static const char *const launcher_options[] = {
    "--bind-to", "-bind-to", "--bind-to-core", "--rankfile", "-rf", "--cpu-set", "--cpu-list", "--cpus-per-rank"};
static const char *const launchers[] = {"mpirun", "mpiexec", "orterun", "orted", "prted", "prterun", "prte"};
#define N(table) (sizeof(table) / sizeof *(table))

enum cf__widening cf__binding_asked(const char *(*get)(void *ctx, const char *name), void *ctx, int local_size) {
    const char *ranks = get(ctx, "OMPI_COMM_WORLD_SIZE");
    if (!ranks || atoi(ranks) > 2 || local_size > 2) return CF__KEEP;
    for (size_t i = 0; i < N(asks_binding); i++)
        if (get(ctx, asks_binding[i])) return CF__KEEP;
    for (size_t i = 0; i < N(asks_mapping); i++) {
        const char *policy = get(ctx, asks_mapping[i]);
        if (!policy) continue;
        for (size_t k = 0; k < N(asks_width); k++)
            if (strstr(policy, asks_width[k])) return CF__KEEP;
        return CF__TO_NODE;
    }
    return CF__TO_ALL;
}

static const char *from_environment(void *ctx, const char *name) {
    (void)ctx;
    return getenv(name);
}

/* One process above us, from /proc/PID/status. */
struct ancestor {
    char name[64];
    int parent;
    char cpus[4096]; /* Cpus_allowed_list */
};

static bool read_ancestor(const char *pid, struct ancestor *a) {
    char path[64], line[sizeof a->cpus + 64];
    memset(a, 0, sizeof *a);
    snprintf(path, sizeof path, "/proc/%s/status", pid);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "Name:\t", 6) == 0)
            snprintf(a->name, sizeof a->name, "%.63s", line + 6);
        else if (strncmp(line, "PPid:\t", 6) == 0)
            a->parent = atoi(line + 6);
        else if (strncmp(line, "Cpus_allowed_list:\t", 19) == 0)
            snprintf(a->cpus, sizeof a->cpus, "%.4095s", line + 19);
    }
    fclose(f);
    return true;
}

/* The launcher among our ancestors: mpirun or the daemon that it started on this host. */
static bool find_launcher(struct ancestor *a, char *pid, size_t size) {
    if (!read_ancestor("self", a)) return false;
    for (int steps = 0; steps < 16 && a->parent > 1; steps++) {
        snprintf(pid, size, "%d", a->parent);
        if (!read_ancestor(pid, a)) return false;
        for (size_t i = 0; i < N(launchers); i++)
            if (strcmp(a->name, launchers[i]) == 0) return true;
    }
    return false;
}

static bool launcher_was_told(const char *pid) {
    char path[64], text[16384];
    snprintf(path, sizeof path, "/proc/%s/cmdline", pid);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    for (size_t at = 0; at < n; at += strlen(text + at) + 1)
        for (size_t i = 0; i < N(launcher_options); i++)
            if (strcmp(text + at, launcher_options[i]) == 0) return true;
    return false;
}

/* Index among the cores that have a PU in `cpus` of the core that holds PU `pu`; -1 none. */
static int core_number(hwloc_topology_t t, hwloc_const_bitmap_t cpus, int pu) {
    int n = 0;
    for (hwloc_obj_t c = NULL; (c = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_CORE, c));) {
        if (!hwloc_bitmap_intersects(c->cpuset, cpus)) continue;
        if (hwloc_bitmap_isset(c->cpuset, (unsigned)pu)) return n;
        n++;
    }
    return -1;
}

static bool is_one_core(hwloc_topology_t t, hwloc_const_bitmap_t cpus) {
    int n = 0;
    for (hwloc_obj_t c = NULL; (c = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_CORE, c));)
        n += hwloc_bitmap_intersects(c->cpuset, cpus);
    return n == 1 || hwloc_bitmap_weight(cpus) == 1;
}

/* Keeps of `cpus` what lies on the smallest NUMA node that holds PU `pu`. */
static void keep_node_of(hwloc_topology_t t, int pu, hwloc_bitmap_t cpus) {
    hwloc_obj_t best = NULL;
    for (hwloc_obj_t n = NULL; (n = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, n));) {
        if (!hwloc_bitmap_isset(n->cpuset, (unsigned)pu)) continue;
        if (!best || hwloc_bitmap_weight(n->cpuset) < hwloc_bitmap_weight(best->cpuset)) best = n;
    }
    if (best) hwloc_bitmap_and(cpus, cpus, best->cpuset);
}

/* Puts into `wide` what the launcher may use; false: somebody else, such as taskset, chose our core. mpirun's default
 * deals core k to local rank k, counting the host's cores even where it may itself use only some of them. */
static bool launcher_cpus(hwloc_topology_t t, int pu, hwloc_bitmap_t wide) {
    struct ancestor a;
    char pid[16];
    hwloc_const_bitmap_t all = hwloc_topology_get_allowed_cpuset(t);
    hwloc_bitmap_copy(wide, all);
    if (find_launcher(&a, pid, sizeof pid)) {
        if (launcher_was_told(pid) || hwloc_bitmap_list_sscanf(wide, a.cpus) < 0) return false;
        hwloc_bitmap_and(wide, wide, all);
    }
    const char *local_rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    int k = local_rank ? atoi(local_rank) : 0;
    return core_number(t, all, pu) == k || core_number(t, wide, pu) == k;
}

bool cf__binding_read(hwloc_topology_t t, int local_size, hwloc_bitmap_t cpus) {
    hwloc_bitmap_copy(cpus, hwloc_topology_get_allowed_cpuset(t));
    hwloc_bitmap_t own = hwloc_bitmap_alloc(), wide = hwloc_bitmap_alloc();
    bool widened = false;
    if (own && wide && hwloc_get_cpubind(t, own, HWLOC_CPUBIND_THREAD) == 0 && hwloc_bitmap_intersects(own, cpus)) {
        hwloc_bitmap_and(cpus, cpus, own);
        enum cf__widening asked = cf__binding_asked(from_environment, NULL, local_size);
        int pu = hwloc_bitmap_first(cpus);
        if (asked != CF__KEEP && is_one_core(t, cpus) && launcher_cpus(t, pu, wide)) {
            if (asked == CF__TO_NODE) keep_node_of(t, pu, wide);
            widened = !hwloc_bitmap_iszero(wide) && !hwloc_bitmap_isequal(cpus, wide);
            if (widened) hwloc_bitmap_copy(cpus, wide);
        }
    }
    hwloc_bitmap_free(own);
    hwloc_bitmap_free(wide);
    return widened;
}
