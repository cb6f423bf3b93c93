/* Descriptions of clusters: what is written becomes figures, what is left out is assumed and said, and what is wrong is
 * refused by file and field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/plan/cluster/cluster.h"

static struct cf_error error;

static int parse(struct cf_cluster *c, const char *text) {
    memset(c, 0, sizeof *c);
    return cf_cluster_parse(c, "c.json", text, strlen(text), &error);
}

static void figures_of(struct cf_figures *f, struct cf_cluster *c, const char *text, unsigned *assumed) {
    *assumed = 0;
    if (parse(c, text) || cf_cluster_figures(f, c, assumed, &error)) fail_msg("%s", error.text);
}

static void near(double a, double b) {
    if (!(a > b * (1 - 1e-9) && a < b * (1 + 1e-9))) fail_msg("%.12g is not %.12g", a, b);
}

static void equal_hosts(void **state) {
    (void)state;
    struct cf_cluster c;
    struct cf_figures f;
    unsigned assumed;
    figures_of(&f, &c,
        "{\"hosts\": [{\"name\": \"a\", \"count\": 4, \"nodes\": 2, \"cores\": 49, \"memory_gib\": 256, "
        "\"bandwidth_gbs\": 360, \"isa\": \"avx512\", \"gmacs_per_core\": {\"q4_k\": 200}}], "
        "\"network\": {\"gbit\": 25, \"latency_us\": 30}, \"inside\": {\"gbs\": 8, \"latency_us\": 3}}",
        &assumed);
    assert_int_equal(f.n_ranks, 8);
    assert_int_equal(f.n_hosts, 4);
    assert_string_equal(f.ranks[0].host, "a-1");
    assert_string_equal(f.ranks[7].host, "a-4");
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(f.ranks[i].host_index, i / 2);
        assert_int_equal(f.ranks[i].node, i % 2);
        assert_int_equal(f.ranks[i].threads, i % 2 ? 24 : 25); /* the odd core */
        near((double)f.ranks[i].memory_free, 0.95 * 128 * 1024 * 1024 * 1024);
        near(f.ranks[i].bandwidth, 180e9);
        near(f.ranks[i].rates[CF_TYPE_Q4_K], 200e9 * f.ranks[i].threads);
        assert_true(f.ranks[i].rates[CF_TYPE_Q8_0] > 0 && f.ranks[i].attention > 0 && f.ranks[i].step > 0);
    }
    near(cf_figures_link(&f, 0, 1)->seconds[2], 3e-6 + 1048576 / 8e9);
    near(cf_figures_link(&f, 0, 7)->seconds[2], 30e-6 + 1048576 / (25 * 117e6));
    assert_int_equal(assumed, CF_ASSUMED_MEMORY | CF_ASSUMED_RATES | CF_ASSUMED_ATTENTION | CF_ASSUMED_STEP |
                                  CF_ASSUMED_QUIET | CF_ASSUMED_FEWER | CF_ASSUMED_BETWEEN);
    cf_figures_free(&f);
    cf_cluster_free(&c);
}

static void unequal_nodes_and_racks(void **state) {
    (void)state;
    struct cf_cluster c;
    struct cf_figures f;
    unsigned assumed;
    figures_of(&f, &c,
        "{\"hosts\": [{\"rack\": \"x\", \"gbit\": 10, \"nodes\": [{\"cores\": 16, \"memory_gib\": 128, "
        "\"bandwidth_gbs\": 150}, {\"cores\": 0, \"memory_gib\": 512}, {\"cores\": 4, \"memory_gib\": 64}]}, "
        "{\"rack\": \"y\", \"cores\": 2, \"memory_gib\": 8}, {\"rack\": \"y\", \"cores\": 2, \"memory_gib\": 8}], "
        "\"network\": {\"gbit\": 100}, \"racks\": {\"latency_us\": 500}}",
        &assumed);
    assert_int_equal(f.n_ranks, 4); /* none where there is memory only */
    assert_int_equal(f.ranks[1].node, 2);
    near(f.ranks[0].bandwidth, 150e9);
    near(f.ranks[1].bandwidth, 4 * 17e9);
    assert_string_equal(f.ranks[3].host, "host3");
    assert_int_equal(f.ranks[3].host_index, 2);
    near(cf_figures_link(&f, 0, 2)->seconds[1], 500e-6 + 16384 / (10 * 117e6)); /* the slower port, the longer way */
    near(cf_figures_link(&f, 2, 3)->seconds[1], CF_HOP_REMOTE + 16384 / (100 * 117e6));
    assert_int_equal(assumed & (CF_ASSUMED_BANDWIDTH | CF_ASSUMED_ISA | CF_ASSUMED_LATENCY | CF_ASSUMED_INSIDE),
        CF_ASSUMED_BANDWIDTH | CF_ASSUMED_ISA | CF_ASSUMED_LATENCY | CF_ASSUMED_INSIDE);
    assert_int_equal(assumed & CF_ASSUMED_NETWORK, 0);
    cf_figures_free(&f);
    cf_cluster_free(&c);
}

static void what_was_assumed_is_said(void **state) {
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    cf_cluster_say_assumed(to, "assumed: ", CF_ASSUMED_INSIDE | CF_ASSUMED_MEMORY);
    fclose(to);
    assert_string_equal(text, "assumed: of the memory of a node 95 % is free for Coffer\n"
                              "assumed: between NUMA nodes of a host, where it is not given: 15 us, and bytes as fast "
                              "as a node reads its own memory\n");
    free(text);
}

#define HOST(x) "{\"hosts\": [{\"cores\": 2, \"memory_gib\": 8}, {" x "}]}"
static const struct {
    const char *text, *says;
} wrong[] = {
    {"", "c.json:1: "},
    {"{\"hosts\": [\n{\"cores\": 2,, }]}", "c.json:2: "},
    {"[]", "c.json: an object is wanted"},
    {"{}", "c.json: hosts: is missing"},
    {"{\"hosts\": []}", "c.json: hosts: a list of objects is wanted"},
    {"{\"hosts\": {}}", "c.json: hosts: a list of objects is wanted"},
    {"{\"hosts\": [3]}", "c.json: hosts[0]: an object is wanted"},
    {"{\"host\": []}", "c.json: host: unknown (hosts, network, racks, inside)"},
    {HOST("\"memory_gib\": 8"), "c.json: hosts[1].cores: is missing"},
    {HOST("\"cores\": 8"), "c.json: hosts[1].memory_gib: is missing"},
    {HOST("\"cores\": 1.5"), "c.json: hosts[1].cores: a whole number from 1 to 4096 is wanted"},
    {HOST("\"cores\": 0"), "c.json: hosts[1].cores: a whole number from 1 to 4096 is wanted"},
    {HOST("\"cores\": 1e300"), "hosts[1].cores: a whole number"},
    {HOST("\"cores\": \"8\""), "hosts[1].cores: a whole number"},
    {HOST("\"cores\": 1, \"memory_gib\": -1"), "hosts[1].memory_gib: a number from 0.001 to 1e+06 is wanted"},
    {HOST("\"cores\": 1, \"memory_gib\": 4, \"nodes\": 2"), "hosts[1].cores: fewer than nodes"},
    {HOST("\"cores\": 1, \"memory_gib\": 4, \"count\": 1025"), "hosts[1].count: a whole number from 1 to 1024"},
    {HOST("\"cores\": 1, \"memory_gib\": 4, \"count\": 1024"), "hosts[1]: more than 1024 hosts"},
    {HOST("\"name\": \"a b\""), "hosts[1].name: a name is wanted"},
    {HOST("\"name\": \"<b>\""), "hosts[1].name: a name is wanted"},
    {HOST("\"name\": \"\\u001b[2J\""), "hosts[1].name: a name is wanted"},
    {HOST("\"name\": \"\""), "hosts[1].name: a name is wanted"},
    {HOST("\"rack\": 3"), "hosts[1].rack: a name is wanted"},
    {HOST("\"isa\": \"mmx\""), "hosts[1].isa: avx2 or avx512 is wanted"},
    {HOST("\"gmacs_per_core\": 3"), "hosts[1].gmacs_per_core: an object of types"},
    {HOST("\"gmacs_per_core\": {\"q9\": 3}"), "hosts[1].gmacs_per_core.q9: no type of weights is called so"},
    {HOST("\"gmacs_per_core\": {\"q8_0\": 0}"), "hosts[1].gmacs_per_core.q8_0: a number from"},
    {HOST("\"nodes\": []"), "hosts[1].nodes: 1 to 64 nodes are wanted"},
    {HOST("\"nodes\": [{}]"), "hosts[1].nodes[0].cores: is missing (0 for memory only)"},
    {HOST("\"nodes\": [{\"cores\": 3}]"), "hosts[1].nodes[0].memory_gib: is missing"},
    {HOST("\"nodes\": [{\"cores\": 3, \"speed\": 3}]"), "hosts[1].nodes[0].speed: unknown"},
    {HOST("\"nodes\": [{\"cores\": 0, \"memory_gib\": 3}]"), "hosts[1].nodes: none of them has a core"},
    {HOST("\"nodes\": [{\"cores\": 1, \"memory_gib\": 3}], \"cores\": 3"), "hosts[1].nodes: is a list, so cores"},
    {HOST("\"topology\": \"nowhere.xml\""), "hosts[1].topology: nowhere.xml: No such file"},
    {HOST("\"topology\": \"nowhere.xml\", \"cores\": 3"), "hosts[1].topology: says what nodes, cores"},
    {HOST("\"cpus\": 3"), "hosts[1].cpus: unknown"},
    {"{\"network\": {\"gbits\": 3}}", "c.json: network.gbits: unknown"},
    {"{\"network\": 10}", "c.json: network: an object is wanted"},
    {"{\"inside\": {\"gbs\": 0}}", "c.json: inside.gbs: a number from 0.001 to 100000 is wanted"},
    {"{\"hosts\": [{\"cores\": 1, \"cores\": 1}]}", "c.json:1: duplicate"},
};

static void wrong_descriptions(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct cf_cluster c;
        error.text[0] = 0;
        assert_int_equal(parse(&c, wrong[i].text), -1);
        if (!strstr(error.text, wrong[i].says))
            fail_msg("%s says \"%s\", not \"%s\"", wrong[i].text, error.text, wrong[i].says);
        cf_cluster_free(&c);
    }
}

static void exports_of_hwloc(void **state) {
    (void)state;
    struct cf_cluster c = {0};
    struct cf_figures f;
    unsigned assumed = 0;
    static const char *const words[] = {
        COFFER_TEST_DATA "/hwloc/two-nodes.xml:3", COFFER_TEST_DATA "/hwloc/memory-only.xml"};
    for (size_t i = 0; i < 2; i++)
        if (cf_cluster_read(&c, words[i], &error)) fail_msg("%s", error.text);
    if (cf_cluster_figures(&f, &c, &assumed, &error)) fail_msg("%s", error.text);
    assert_int_equal(f.n_hosts, 4);
    assert_int_equal(f.n_ranks, 8);
    assert_string_equal(f.ranks[0].host, "two-nodes-1");
    assert_string_equal(f.ranks[7].host, "memory-only");
    assert_int_equal(f.ranks[1].threads, 4); /* cores, not their hyperthreads */
    assert_int_equal(f.ranks[7].threads, 2);
    near((double)f.ranks[0].memory_free, (double)(uint64_t)(0.95 * 64e9));
    near(f.ranks[0].bandwidth, 4 * 17e9);
    cf_figures_free(&f);
    cf_cluster_free(&c);
}

/* Half of the threads read 17 GB/s each until the node gives no more; where all together read more than that each, a
 * half of them reads half. Each time that there are half as many they meet a microsecond sooner. */
static void fewer_threads(void **state) {
    (void)state;
    struct cf_cluster c;
    struct cf_figures f;
    unsigned assumed;
    figures_of(&f, &c,
        "{\"hosts\": [{\"cores\": 12, \"memory_gib\": 8, \"bandwidth_gbs\": 80}, "
        "{\"cores\": 2, \"memory_gib\": 8, \"bandwidth_gbs\": 60}, {\"cores\": 1, \"memory_gib\": 8}]}",
        &assumed);
    const struct cf_rank_info *r = f.ranks;
    assert_int_equal(r[0].n_fewer, 3);
    static const struct cf_fewer wanted[] = {{6, 80e9, 4e-6}, {3, 51e9, 3e-6}, {1, 17e9, 1e-6}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r[0].fewer[i].threads, wanted[i].threads);
        near(r[0].fewer[i].bandwidth, wanted[i].bandwidth);
        near(r[0].fewer[i].step, wanted[i].step);
    }
    assert_int_equal(r[1].n_fewer, 1);
    near(r[1].fewer[0].bandwidth, 30e9);
    assert_int_equal(r[2].n_fewer, 0);
    assert_true(assumed & CF_ASSUMED_FEWER);
    cf_figures_free(&f);
    cf_cluster_free(&c);
    figures_of(&f, &c, "{\"hosts\": [{\"cores\": 1, \"memory_gib\": 8}]}", &assumed);
    assert_false(assumed & CF_ASSUMED_FEWER);
    cf_figures_free(&f);
    cf_cluster_free(&c);
}

/* A description that names an export beside it. */
static void topology_in_a_description(void **state) {
    (void)state;
    static const char text[] = "{\"hosts\": [{\"topology\": \"two-nodes.xml\", \"bandwidth_gbs\": 100}]}";
    struct cf_cluster c = {0};
    if (cf_cluster_parse(&c, COFFER_TEST_DATA "/hwloc/c.json", text, sizeof text - 1, &error))
        fail_msg("%s", error.text);
    assert_int_equal(c.hosts[0].n_nodes, 2);
    near(c.hosts[0].nodes[1].bandwidth, 50e9);
    cf_cluster_free(&c);
    assert_int_equal(cf_cluster_parse(&c, NULL, text, sizeof text - 1, &error), -1);
    assert_non_null(strstr(error.text, "files cannot be named here"));
    cf_cluster_free(&c);
}

static void write_text(char path[32], const char *text, size_t n) {
    strcpy(path, "/tmp/coffer-cluster-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, n) == (ssize_t)n);
    close(fd);
}

/* hwloc 2.9 follows a pointer that is not there where a core lacks one of its sets. */
static void exports_that_hwloc_dies_of(void **state) {
    (void)state;
    static char text[8192];
    char path[32];
    struct cf_cluster c = {0};
    FILE *f = fopen(COFFER_TEST_DATA "/hwloc/two-nodes.xml", "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    char *at = strstr(strstr(text, "\"Core\" os_index=\"2\""), "complete_cpuset");
    memcpy(at, "complete_cp9set", 15);
    write_text(path, text, n);
    assert_int_equal(cf_cluster_read(&c, path, &error), -1);
    unlink(path);
    if (!strstr(error.text, path) || !strstr(error.text, "hwloc")) fail_msg("%s", error.text);
    for (size_t cut = 0; cut < n; cut += 499) { /* and ends anywhere */
        write_text(path, text, cut);
        error.text[0] = 0;
        assert_int_equal(cf_cluster_read(&c, path, &error), -1);
        assert_non_null(strstr(error.text, path));
        unlink(path);
    }
    cf_cluster_free(&c);
}

static void wrong_files(void **state) {
    (void)state;
    static char large[(1 << 20) + 2];
    char path[32], word[64];
    struct cf_cluster c = {0};
    memset(large, ' ', sizeof large);
    static const char *const bad[][2] = {{"<?xml version=\"1.0\"?><topology", "no export of lstopo"},
        {"<svg/>", "finds no machine in it"}, {"{\"hosts\"", ":1: "}, {"hello", ":1: "}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(path, bad[i][0], strlen(bad[i][0]));
        assert_int_equal(cf_cluster_read(&c, path, &error), -1);
        if (!strstr(error.text, path) || !strstr(error.text, bad[i][1])) fail_msg("%s: %s", bad[i][0], error.text);
        unlink(path);
    }
    write_text(path, large, sizeof large);
    assert_int_equal(cf_cluster_read(&c, path, &error), -1);
    assert_non_null(strstr(error.text, "is larger than 1048576 bytes"));
    unlink(path);
    write_text(path, "{\"hosts\": [{\"cores\": 1, \"memory_gib\": 1}]}", 42);
    snprintf(word, sizeof word, "%s:4", path);
    assert_int_equal(cf_cluster_read(&c, word, &error), -1);
    assert_non_null(strstr(error.text, "\"count\""));
    unlink(path);
    static const char *const missing[][2] = {{"/nowhere/c.json", "No such file"}, {"/nowhere/c.xml:2", "No such file"},
        {"/tmp", "/tmp is no file"}, {COFFER_TEST_DATA "/hwloc/two-nodes.xml:0", "1 to 1024 hosts"},
        {COFFER_TEST_DATA "/hwloc/two-nodes.xml:1025", "1 to 1024 hosts"}};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        error.text[0] = 0;
        assert_int_equal(cf_cluster_read(&c, missing[i][0], &error), -1);
        if (!strstr(error.text, missing[i][1])) fail_msg("%s: %s", missing[i][0], error.text);
    }
    cf_cluster_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_hosts),
        cmocka_unit_test(unequal_nodes_and_racks),
        cmocka_unit_test(what_was_assumed_is_said),
        cmocka_unit_test(wrong_descriptions),
        cmocka_unit_test(fewer_threads),
        cmocka_unit_test(exports_of_hwloc),
        cmocka_unit_test(topology_in_a_description),
        cmocka_unit_test(exports_that_hwloc_dies_of),
        cmocka_unit_test(wrong_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
