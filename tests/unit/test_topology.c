/* Reading machines: described ones (HWLOC_SYNTHETIC), recorded /proc and /sys trees, and this one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/memory/binding.h"
#include "node/memory/meminfo.h"
#include "node/memory/topology.h"

/* Nodes are written os:cores, memory-only ones os>near; memory in GiB. */
static void print_machine(const struct cf_machine *m, char *out, size_t size) {
    size_t n = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const struct cf_numa_node *node = &m->nodes[i];
        n += (size_t)snprintf(out + n, size - n, "%s%u", i ? " " : "", node->os_index);
        if (!node->n_cores) n += (size_t)snprintf(out + n, size - n, ">%u", m->nodes[node->near].os_index);
        for (uint32_t c = 0; c < node->n_cores; c++)
            n += (size_t)snprintf(out + n, size - n, "%c%u", c ? ',' : ':', node->cores[c]);
    }
}

static const struct {
    const char *synthetic, *cpus, *mems, *nodes;
} described[] = {
    {"pack:2 numa:2 l3:1 core:4 pu:2", NULL, NULL, "0:0,2,4,6 1:8,10,12,14 2:16,18,20,22 3:24,26,28,30"},
    {"pack:1 core:4 pu:1", NULL, NULL, "0:0,1,2,3"},
    {"pack:2 l3:1 core:2 pu:2", NULL, NULL, "0:0,2,4,6"},
    {"numa:8 core:1 pu:1", NULL, NULL, "0:0 1:1 2:2 3:3 4:4 5:5 6:6 7:7"},
    /* Two kinds of memory beside the same cores: the cores go to the first, the second borrows. */
    {"pack:2 [numa(memory=32GB)] [numa(memory=8GB)] core:2 pu:1", NULL, NULL, "0:0,1 1>0 2:2,3 3>2"},
    /* A cpuset: only its cores, the other nodes keep their memory. */
    {"numa:2 core:4 pu:1", "2-5", NULL, "0:2,3 1:4,5"},
    {"numa:3 core:2 pu:1", "2,3", NULL, "0>1 1:2,3 2>1"},
    /* The second hyperthread only. */
    {"numa:2 core:2 pu:2", "1,5-7", NULL, "0:1 1:5,6"},
    /* A memory set: cores of the other nodes work for the memory that is left. */
    {"numa:2 core:2 pu:1", NULL, "1", "1:0,1,2,3"},
    {"numa:4 core:1 pu:1", NULL, "1,3", "1:0,1,2 3:3"},
};

static void described_machines(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof described / sizeof *described; i++) {
        struct cf_machine m;
        struct cf_error e = {0};
        char nodes[1024];
        setenv("HWLOC_SYNTHETIC", described[i].synthetic, 1);
        assert_int_equal(cf__machine_read_within(&m, described[i].cpus, described[i].mems, &e), 0);
        print_machine(&m, nodes, sizeof nodes);
        if (strcmp(nodes, described[i].nodes) != 0)
            fail_msg("%s: got %s, expected %s", described[i].synthetic, nodes, described[i].nodes);
        assert_false(m.widened);
        assert_true(m.limit_free == UINT64_MAX);
        cf_machine_free(&m);
        cf_machine_free(&m); /* twice is harmless */
    }
    unsetenv("HWLOC_SYNTHETIC");
}

static void memory_and_caches_are_the_descriptions(void **state) {
    (void)state;
    setenv("HWLOC_SYNTHETIC", "pack:2 [numa(memory=3GB)] l3:2(size=8MB) core:2 pu:1", 1);
    struct cf_machine m;
    struct cf_error e = {0};
    assert_int_equal(cf_machine_read(&m, 1, &e), 0);
    unsetenv("HWLOC_SYNTHETIC");
    assert_int_equal(m.n_nodes, 2);
    assert_true(m.nodes[1].memory >= UINT64_C(3000000000) && m.nodes[1].memory == m.nodes[1].memory_free);
    assert_true(m.llc_bytes >= 16000000 && m.llc_bytes <= (uint64_t)16 << 20); /* two caches in the node */
    cf_machine_free(&m);
}

static void equal_views_have_equal_hashes(void **state) {
    (void)state;
    struct cf_machine a, b, c;
    struct cf_error e = {0};
    setenv("HWLOC_SYNTHETIC", "numa:2 core:4 pu:1", 1);
    assert_int_equal(cf__machine_read_within(&a, "0-3", NULL, &e), 0);
    assert_int_equal(cf__machine_read_within(&b, "0-3", NULL, &e), 0);
    assert_int_equal(cf__machine_read_within(&c, "4-7", NULL, &e), 0);
    unsetenv("HWLOC_SYNTHETIC");
    assert_true(a.cpus_hash == b.cpus_hash);
    assert_true(a.cpus_hash != c.cpus_hash);
    cf_machine_free(&a);
    cf_machine_free(&b);
    cf_machine_free(&c);
}

static void no_core_left_is_a_machine_but_no_seat(void **state) {
    (void)state;
    struct cf_machine m;
    struct cf_seat s;
    struct cf_error e = {0};
    setenv("HWLOC_SYNTHETIC", "numa:2 core:4 pu:1", 1);
    assert_int_equal(cf__machine_read_within(&m, "99", NULL, &e), 0);
    assert_int_equal(cf_seat_assign(&s, &m, 0, 1, NULL, &e), -1);
    cf_machine_free(&m);
    assert_int_equal(cf__machine_read_within(&m, NULL, "7", &e), -1);
    assert_int_equal(e.code, CF_ERR_SYSTEM);
    unsetenv("HWLOC_SYNTHETIC");
}

/* What must hold on any machine that runs this test. */
static void this_machine(void **state) {
    (void)state;
    struct cf_machine m;
    struct cf_seat s;
    struct cf_error e = {0};
    assert_int_equal(cf_machine_read(&m, 1, &e), 0);
    char nodes[4096];
    print_machine(&m, nodes, sizeof nodes);
    print_message("this machine: %s, node %u: %.1f of %.1f GiB free, last cache %.0f MiB\n", nodes, m.nodes[0].os_index,
        (double)m.nodes[0].memory_free / (1 << 30), (double)m.nodes[0].memory / (1 << 30),
        (double)m.llc_bytes / (1 << 20));
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    uint32_t cores = 0;
    for (uint32_t i = 0; i < m.n_nodes; i++) {
        cores += m.nodes[i].n_cores;
        for (uint32_t c = 0; c < m.nodes[i].n_cores && !m.widened; c++)
            assert_true(CPU_ISSET(m.nodes[i].cores[c], &set));
        assert_true(m.nodes[i].memory_free > 0 && m.nodes[i].memory_free <= m.nodes[i].memory);
    }
    assert_true(cores >= 1);
    assert_int_equal(cf_seat_assign(&s, &m, 0, 1, NULL, &e), 0);
    cf_machine_free(&m);
}

static void a_binding_is_honoured(void **state) {
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    uint32_t last = 0;
    for (uint32_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all)) last = i;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    struct cf_machine m;
    struct cf_seat s;
    struct cf_error e = {0};
    int rc = cf_machine_read(&m, 1, &e);
    sched_setaffinity(0, sizeof all, &all);
    assert_int_equal(rc, 0);
    assert_int_equal(cf_seat_assign(&s, &m, 0, 1, NULL, &e), 0);
    assert_int_equal(s.n_cores, 1);
    assert_int_equal(s.cores[0], last);
    assert_false(m.widened);
    cf_machine_free(&m);
}

/* ---- what mpirun's environment says ---- */

static const struct {
    const char *environment[4]; /* NAME=VALUE */
    int local_size;
    enum cf__widening asked;
} launched[] = {
    {{NULL}, 1, CF__KEEP},
    {{"OMPI_COMM_WORLD_SIZE=1"}, 1, CF__TO_ALL},
    {{"OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_rmaps_base_oversubscribe=1"}, 2, CF__TO_ALL},
    {{"OMPI_COMM_WORLD_SIZE=3"}, 2, CF__KEEP},
    {{"OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_hwloc_base_binding_policy=core"}, 2, CF__KEEP},
    {{"OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_rmaps_base_mapping_policy=numa"}, 2, CF__TO_NODE},
    {{"OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_rmaps_base_mapping_policy=slot:PE=1"}, 2, CF__KEEP},
    {{"OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_rmaps_base_mapping_policy=core"}, 2, CF__KEEP},
    {{"OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_hwloc_base_cpu_list=0,1"}, 2, CF__KEEP},
    {{"OMPI_COMM_WORLD_SIZE=2", "PRTE_MCA_hwloc_default_binding_policy=core"}, 2, CF__KEEP},
};

static const char *look_up(void *ctx, const char *name) {
    const char *const *environment = ctx;
    size_t n = strlen(name);
    for (size_t i = 0; i < 4 && environment[i]; i++)
        if (strncmp(environment[i], name, n) == 0 && environment[i][n] == '=') return environment[i] + n + 1;
    return NULL;
}

static void only_the_default_binding_is_widened(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof launched / sizeof *launched; i++) {
        const char *environment[4];
        memcpy(environment, launched[i].environment, sizeof environment);
        if (cf__binding_asked(look_up, environment, launched[i].local_size) != launched[i].asked)
            fail_msg("case %zu is judged wrongly", i);
    }
}

/* ---- recorded /proc and /sys ---- */

static char root[] = "/tmp/cf_topology_XXXXXX";

static void put(const char *path, const char *text) {
    char full[1024];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + sizeof root; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(full, 0700);
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static const uint64_t kib = 1024, mib = 1 << 20;

static void free_memory_of_a_node(void **state) {
    (void)state;
    struct cf__memory m;
    assert_false(cf__memory_of_node(root, 3, false, &m));
    put("/sys/devices/system/node/node3/meminfo",
        "Node 3 MemTotal:        6400000 kB\nNode 3 MemFree:         1000000 kB\nNode 3 Active(file):      30000 kB\n"
        "Node 3 Inactive(file):    70000 kB\nNode 3 Dirty:             20000 kB\nNode 3 SReclaimable:       5000 kB\n");
    assert_true(cf__memory_of_node(root, 3, false, &m));
    assert_true(m.total == 6400000 * kib);
    assert_true(m.free == (1000000 + 100000 - 20000 + 5000 - 100000) * kib);
    /* A small node keeps 24 MiB, a tiny one three eighths of itself; 1.5 GiB is where a 64th is as much. */
    const struct {
        uint64_t total, kept; /* kB */
    } nodes[] = {{1600000, 25000}, {1572864, 24576}, {81920, 24576}, {65536, 24576}, {49152, 18432}};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        char text[128];
        snprintf(text, sizeof text, "Node 3 MemTotal: %llu kB\nNode 3 MemFree: 40000 kB\n",
            (unsigned long long)nodes[i].total);
        put("/sys/devices/system/node/node3/meminfo", text);
        assert_true(cf__memory_of_node(root, 3, false, &m));
        assert_true(m.free == (40000 - nodes[i].kept) * kib);
    }
    put("/sys/devices/system/node/node3/meminfo", "Node 3 MemTotal: 6400000 kB\n");
    /* If it is the only node, the host's figures count where they are larger. */
    put("/proc/meminfo", "MemTotal:       9000000 kB\nMemFree:        100 kB\nMemAvailable:    7000000 kB\n");
    assert_true(cf__memory_of_node(root, 3, true, &m));
    assert_true(m.total == 9000000 * kib && m.free == 7000000 * kib);
}

static void cgroup_limits(void **state) {
    (void)state;
    assert_true(cf__memory_limit_free(root) == UINT64_MAX);
    put("/proc/self/cgroup", "0::/a/b\n");
    assert_true(cf__memory_limit_free(root) == UINT64_MAX);
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_true(cf__memory_limit_free(root) == UINT64_MAX);
    put("/sys/fs/cgroup/a/memory.max", "104857600\n"); /* the parent's limit: 100 MiB, 60 used, 10 of that cache */
    put("/sys/fs/cgroup/a/memory.current", "62914560\n");
    put("/sys/fs/cgroup/a/memory.stat", "anon 1\nactive_file 4194304\ninactive_file 6291456\n");
    assert_true(cf__memory_limit_free(root) == 50 * mib);
    /* Version 1, seen from inside a container: the path is not there, the mount's root is the limit. */
    put("/proc/self/cgroup", "5:cpuset:/x\n4:memory:/docker/123\n0::/none\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "31457280\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "20971520\n");
    assert_true(cf__memory_limit_free(root) == 10 * mib);
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(cf__memory_limit_free(root) == UINT64_MAX);
}

static void nodes_that_we_may_use(void **state) {
    (void)state;
    uint32_t first;
    assert_int_equal(cf__memory_nodes(root, &first), 1);
    assert_true(cf__memory_node_allowed(root, 0));
    put("/sys/devices/system/node/has_memory", "0-3\n");
    assert_int_equal(cf__memory_nodes(root, &first), 4);
    put("/proc/self/status", "Name:\tx\nMems_allowed:\t0\nMems_allowed_list:\t1,3-4\n");
    assert_int_equal(cf__memory_nodes(root, &first), 3);
    assert_int_equal(first, 1);
    assert_true(cf__memory_node_allowed(root, 4));
    assert_false(cf__memory_node_allowed(root, 2));
    put("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "17\n");
    assert_int_equal(cf__memory_free_hugepages(root, 1, 2 << 20), 17);
    assert_int_equal(cf__memory_free_hugepages(root, 2, 2 << 20), 0);
    put("/sys/devices/system/node/node1/hugepages/hugepages-16384kB/free_hugepages", "5\n"); /* POWER8 */
    assert_int_equal(cf__memory_free_hugepages(root, 1, 16 << 20), 5);
}

static void huge_page_sizes_are_asked_for(void **state) {
    (void)state;
    assert_int_equal(cf__memory_hugepage_size("/nowhere"), 0);
    assert_int_equal(cf__memory_transparent_size("/nowhere"), 0);
    put("/proc/meminfo", "MemTotal: 1024 kB\nHugePages_Free: 3\nHugepagesize:      16384 kB\n");
    put("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "16777216\n");
    assert_int_equal(cf__memory_hugepage_size(root), 16 << 20);
    assert_int_equal(cf__memory_transparent_size(root), 16 << 20);
    put("/proc/meminfo", "Hugepagesize: 3000 kB\n");
    put("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "always\n");
    assert_int_equal(cf__memory_hugepage_size(root), 0);
    assert_int_equal(cf__memory_transparent_size(root), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(described_machines),
        cmocka_unit_test(memory_and_caches_are_the_descriptions),
        cmocka_unit_test(equal_views_have_equal_hashes),
        cmocka_unit_test(no_core_left_is_a_machine_but_no_seat),
        cmocka_unit_test(this_machine),
        cmocka_unit_test(a_binding_is_honoured),
        cmocka_unit_test(only_the_default_binding_is_widened),
        cmocka_unit_test(free_memory_of_a_node),
        cmocka_unit_test(cgroup_limits),
        cmocka_unit_test(nodes_that_we_may_use),
        cmocka_unit_test(huge_page_sizes_are_asked_for),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
