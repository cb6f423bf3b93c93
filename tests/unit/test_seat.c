/* The dealing of ranks to nodes and cores, on machines that exist only as a line of text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/memory/topology.h"

/* cores: number of cores of each node, ended by -1. PUs count on by `smt`, os indices by one from `first_os`. */
static struct cf_machine machine(const int *cores, uint32_t smt, uint32_t first_os) {
    struct cf_machine m = {.limit_free = UINT64_MAX};
    while (cores[m.n_nodes] >= 0)
        m.n_nodes++;
    m.nodes = calloc(m.n_nodes, sizeof *m.nodes);
    uint32_t pu = 0;
    for (uint32_t i = 0; i < m.n_nodes; i++) {
        struct cf_numa_node *n = &m.nodes[i];
        n->os_index = first_os + i;
        n->memory = n->memory_free = (uint64_t)1 << 30;
        n->n_cores = (uint32_t)cores[i];
        n->near = i;
        n->cores = calloc(n->n_cores + 1, sizeof *n->cores);
        for (uint32_t c = 0; c < n->n_cores; c++, pu += smt)
            n->cores[c] = pu;
    }
    return m;
}

static void print_seats(const struct cf_machine *m, int ranks, const int *wanted, char *out, size_t size) {
    size_t n = 0;
    out[0] = 0;
    for (int r = 0; r < ranks; r++) {
        struct cf_seat s;
        struct cf_error e = {0};
        assert_int_equal(cf_seat_assign(&s, m, r, ranks, wanted, &e), 0);
        n += (size_t)snprintf(out + n, size - n, "%s%u:", r ? " " : "", m->nodes[s.node].os_index);
        for (uint32_t c = 0; c < s.n_cores; c++)
            n += (size_t)snprintf(out + n, size - n, "%s%u", c ? "," : "", s.cores[c]);
        n += (size_t)snprintf(out + n, size - n, "/%u%s", s.sharers, s.crowded ? "!" : "");
    }
}

/* Seats are written node:cores/sharers, "!" where ranks outnumber cores. */
static const struct {
    const char *what;
    int cores[9];
    uint32_t smt, first_os;
    int ranks;
    int wanted[8];
    const char *seats;
} cases[] = {
    {"one rank, one node", {2, -1}, 1, 0, 1, {-1}, "0:0,1/1"},
    {"two ranks share a node", {4, -1}, 1, 0, 2, {-1, -1}, "0:0,1/2 0:2,3/2"},
    {"SMT: one PU per core", {4, -1}, 2, 0, 2, {-1, -1}, "0:0,2/2 0:4,6/2"},
    {"three ranks, four cores", {4, -1}, 1, 0, 3, {-1, -1, -1}, "0:0/3 0:1/3 0:2,3/3"},
    {"more ranks than cores", {2, -1}, 1, 0, 5, {-1, -1, -1, -1, -1}, "0:0/5! 0:1/5! 0:0/5! 0:1/5! 0:0/5!"},
    {"rank per node", {2, 2, 2, 2, -1}, 1, 0, 4, {-1, -1, -1, -1}, "0:0,1/1 1:2,3/1 2:4,5/1 3:6,7/1"},
    {"fewer ranks than nodes", {2, 2, 2, 2, -1}, 1, 0, 2, {-1, -1}, "0:0,1/1 1:2,3/1"},
    {"contiguous runs", {2, 2, -1}, 1, 0, 4, {-1, -1, -1, -1}, "0:0/2 0:1/2 1:2/2 1:3/2"},
    {"odd rank to the first of equals", {2, 2, -1}, 1, 0, 3, {-1, -1, -1}, "0:0/2 0:1/2 1:2,3/1"},
    {"odd rank to the larger node", {2, 4, -1}, 1, 0, 3, {-1, -1, -1}, "0:0,1/1 1:2,3/2 1:4,5/2"},
    {"every node before a second rank", {8, 1, -1}, 1, 0, 2, {-1, -1}, "0:0,1,2,3,4,5,6,7/1 1:8/1"},
    {"one rank takes the larger node", {1, 3, -1}, 1, 0, 1, {-1}, "1:1,2,3/1"},
    {"memory-only node gets none", {2, 2, 0, -1}, 1, 0, 3, {-1, -1, -1}, "0:0/2 0:1/2 1:2,3/1"},
    {"memory-only node by name borrows", {2, 2, 0, -1}, 1, 0, 2, {-1, 2}, "0:0,1/1 2:2,3/1"},
    {"the borrower and the native share", {2, 2, 0, -1}, 1, 0, 3, {-1, -1, 2}, "0:0/2 0:1/2 2:2,3/1"},
    {"os indices need not begin at 0", {2, 2, -1}, 1, 6, 2, {7, 6}, "7:2,3/1 6:0,1/1"},
    {"all wish the same", {2, 4, -1}, 1, 0, 2, {1, 1}, "1:2,3/2 1:4,5/2"},
    {"who does not wish avoids who does", {2, 2, -1}, 1, 0, 2, {0, -1}, "0:0,1/1 1:2,3/1"},
    {"wishes and others", {2, 2, 2, -1}, 1, 0, 4, {-1, 0, -1, -1}, "0:0/2 0:1/2 1:2,3/1 2:4,5/1"},
    {"S824 map", {2, 2, 2, 2, -1}, 1, 0, 4, {3, 1, 0, 2}, "3:6,7/1 1:2,3/1 0:0,1/1 2:4,5/1"},
};

static void the_table_of_seats(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cf_machine m = machine(cases[i].cores, cases[i].smt, cases[i].first_os);
        for (uint32_t k = 0; k < m.n_nodes; k++)
            if (!m.nodes[k].n_cores) m.nodes[k].near = k - 1;
        char seats[1024];
        print_seats(&m, cases[i].ranks, cases[i].wanted, seats, sizeof seats);
        if (strcmp(seats, cases[i].seats) != 0)
            fail_msg("%s: got %s, expected %s", cases[i].what, seats, cases[i].seats);
        cf_machine_free(&m);
    }
}

/* What must hold for every machine and number of ranks: runs are contiguous, loads differ by one at most, every core of
 * a node that has ranks belongs to exactly one of them (if they do not outnumber the cores), shares differ by one. */
static void check_laws(const struct cf_machine *m, int ranks) {
    uint32_t owners[512] = {0}, load[8] = {0}, with_cores = 0, least = UINT32_MAX, most = 0, before = 0;
    struct cf_seat s;
    struct cf_error e = {0};
    for (int r = 0; r < ranks; r++) {
        assert_int_equal(cf_seat_assign(&s, m, r, ranks, NULL, &e), 0);
        const struct cf_numa_node *n = &m->nodes[s.node];
        assert_true(n->n_cores > 0);
        assert_true(s.node >= before);
        before = s.node;
        load[s.node]++;
        assert_true(s.n_cores >= 1);
        assert_true(s.n_cores >= n->n_cores / s.sharers && s.n_cores <= n->n_cores / s.sharers + 1);
        assert_int_equal(s.crowded, s.sharers > n->n_cores);
        for (uint32_t c = 0; c < s.n_cores; c++)
            owners[s.cores[c]]++;
    }
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        if (!m->nodes[i].n_cores) {
            assert_int_equal(load[i], 0);
            continue;
        }
        with_cores++;
        if (load[i] < least) least = load[i];
        if (load[i] > most) most = load[i];
        for (uint32_t c = 0; c < m->nodes[i].n_cores && load[i]; c++) {
            uint32_t n = owners[m->nodes[i].cores[c]];
            if (load[i] <= m->nodes[i].n_cores)
                assert_int_equal(n, 1);
            else
                assert_true(n >= 1);
        }
    }
    assert_true(with_cores > 0);
    assert_true(most - least <= 1);
}

static void laws_on_many_machines(void **state) {
    (void)state;
    uint32_t seed = 1;
    for (int nodes = 1; nodes <= 8; nodes++) {
        for (int ranks = 1; ranks <= 8; ranks++) {
            for (int variant = 0; variant < 6; variant++) {
                int cores[9];
                for (int i = 0; i < nodes; i++) {
                    seed = seed * 1664525u + 1013904223u;
                    cores[i] = variant == 0 ? 4 : variant == 1 ? 1 : variant == 2 ? 16 : (int)(seed >> 16) % 9;
                }
                cores[(int)(seed >> 8) % nodes] |= 1; /* one node at least has cores */
                cores[nodes] = -1;
                struct cf_machine m = machine(cores, 1 + (uint32_t)variant % 2, 0);
                check_laws(&m, ranks);
                cf_machine_free(&m);
            }
        }
    }
}

static void a_borrower_falls_back_to_the_closest_number(void **state) {
    (void)state;
    struct cf_machine m = machine((int[]){2, 0, 0, 2, -1}, 1, 0);
    char seats[256];
    print_seats(&m, 2, (int[]){2, 1}, seats, sizeof seats); /* near points at itself: of no use */
    assert_string_equal(seats, "2:2,3/1 1:0,1/1");
    cf_machine_free(&m);
}

static void errors(void **state) {
    (void)state;
    struct cf_machine m = machine((int[]){2, 0, -1}, 1, 0);
    struct cf_seat s;
    struct cf_error e = {0};
    assert_int_equal(cf_seat_assign(&s, &m, 0, 2, (int[]){-1, 5}, &e), -1);
    assert_int_equal(e.code, CF_ERR_USAGE);
    assert_non_null(strstr(e.text, "local rank 1"));
    assert_non_null(strstr(e.text, "NUMA node 5"));
    assert_non_null(strstr(e.text, "nodes: 0 1 (no cores)"));
    assert_int_equal(cf_seat_assign(&s, &m, 2, 2, NULL, &e), -1);
    assert_int_equal(cf_seat_assign(&s, &m, -1, 2, NULL, &e), -1);
    assert_int_equal(cf_seat_assign(&s, &m, 0, 0, NULL, &e), -1);
    cf_machine_free(&m);
    m = machine((int[]){0, -1}, 1, 0);
    assert_int_equal(cf_seat_assign(&s, &m, 0, 1, NULL, &e), -1);
    assert_int_equal(e.code, CF_ERR_SYSTEM);
    cf_machine_free(&m);
}

/* mpirun -n 4 --bind-to numa on two nodes: ranks 0 and 2 see node 0's cores, ranks 1 and 3 those of node 1. */
static void bound_ranks_share_only_with_their_like(void **state) {
    (void)state;
    const uint64_t hash[] = {10, 11, 10, 11};
    struct cf_machine views[] = {machine((int[]){4, 0, -1}, 1, 0), machine((int[]){0, 4, -1}, 1, 0)};
    const uint32_t node[] = {0, 1, 0, 1}, first[] = {0, 0, 2, 2};
    for (int r = 0; r < 4; r++) {
        struct cf_seat s;
        struct cf_error e = {0};
        assert_int_equal(cf_seat_assign_bound(&s, &views[r % 2], r, 4, NULL, hash, &e), 0);
        assert_int_equal(s.node, node[r]);
        assert_int_equal(s.n_cores, 2);
        assert_int_equal(s.cores[0], first[r]);
        assert_int_equal(s.sharers, 2);
    }
    const uint64_t alone[] = {10, 11}, same[] = {10, 10};
    struct cf_seat s;
    struct cf_error e = {0};
    assert_int_equal(cf_seat_assign_bound(&s, &views[1], 1, 2, NULL, alone, &e), 0);
    assert_int_equal(s.n_cores, 4);
    assert_int_equal(cf_seat_assign_bound(&s, &views[1], 1, 2, NULL, same, &e), 0);
    assert_int_equal(s.n_cores, 2);
    /* A wish for memory elsewhere: the cores stay. */
    assert_int_equal(cf_seat_assign_bound(&s, &views[1], 1, 2, (int[]){-1, 0}, alone, &e), 0);
    assert_int_equal(s.node, 0);
    assert_int_equal(s.n_cores, 4);
    cf_machine_free(&views[0]);
    cf_machine_free(&views[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_of_seats),
        cmocka_unit_test(laws_on_many_machines),
        cmocka_unit_test(a_borrower_falls_back_to_the_closest_number),
        cmocka_unit_test(errors),
        cmocka_unit_test(bound_ranks_share_only_with_their_like),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
