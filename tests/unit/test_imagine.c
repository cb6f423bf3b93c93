/* Ranks that are imagined share what the machine has: however many there are, they do not do more than it does. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/commands/plan/subject.h"

enum { Q8_0 = 8, CORES = 6, NODES = 2 };

static void near(double got, double want) {
    if (fabs(got - want) > 1e-9 * want) fail_msg("%.9g instead of %.9g", got, want);
}

/* Figures of so many ranks on hosts of two nodes with six cores each; a node reads 60e9 and multiplies 12e12. */
static struct cf_figures imagined(int64_t ranks, int64_t hosts, int64_t threads) {
    static struct cf_numa_node nodes[NODES];
    for (int i = 0; i < NODES; i++)
        nodes[i] = (struct cf_numa_node){.os_index = (uint32_t)i, .n_cores = CORES, .memory_free = 1 << 30};
    const struct cf_machine m = {.n_nodes = NODES, .nodes = nodes};
    struct cf_rank_info here = {
        .bandwidth = 60e9, .threads = CORES, .attention = 6e12, .between = 6e9, .step = 1e-6, .n_fewer = 2};
    here.rates[Q8_0] = 12e12, here.single[Q8_0] = 3e12;
    here.fewer[0] = (struct cf_fewer){3, 50e9, 1e-6}, here.fewer[1] = (struct cf_fewer){1, 20e9, 1e-6};
    const struct cf__machines k = {.ranks = ranks, .hosts = hosts, .threads = threads};
    struct cf_figures f;
    struct cf_error e;
    if (cf__imagine(&f, &k, &m, &here, &e)) fail_msg("%s", e.text);
    return f;
}

static void nobody_has_more_than_there_is(void **state) {
    (void)state;
    static const int64_t cases[] = {1, 2, 4, 6, 12, 13, 16, 48};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct cf_figures f = imagined(cases[c], 1, 0);
        double rates[NODES] = {0}, single[NODES] = {0}, attention[NODES] = {0}, between[NODES] = {0},
               reads[NODES] = {0}, memory[NODES] = {0};
        uint32_t n[NODES] = {0}, on[NODES][CORES] = {{0}};
        for (uint32_t r = 0; r < f.n_ranks; r++) {
            const struct cf_rank_info *i = &f.ranks[r];
            int at = i->node;
            assert_in_range(at, 0, NODES - 1);
            assert_int_equal(at, (int)r % NODES);
            rates[at] += i->rates[Q8_0], single[at] += i->single[Q8_0], attention[at] += i->attention,
                between[at] += i->between;
            reads[at] += i->bandwidth, memory[at] += (double)i->memory_free;
            n[at]++;
            if (i->seat_cores) on[at][i->seat % CF_MAX_CORES]++;
            if (cases[c] > NODES) assert_true(i->alone >= 1);
        }
        for (int at = 0; at < NODES; at++) {
            if (!n[at]) continue;
            double used = n[at] >= CORES ? 1 : n[at] * floor((double)CORES / n[at]) / CORES;
            near(rates[at], 12e12 * used), near(single[at], 3e12 * used), near(attention[at], 6e12 * used),
                near(between[at], 6e9 * used);
            near(reads[at], 60e9);
            assert_true(memory[at] <= 1 << 30);
            for (int core = 0; n[at] > CORES && core < CORES; core++) /* dealt evenly */
                assert_in_range(on[at][core], n[at] / CORES, (n[at] + CORES - 1) / CORES);
        }
        cf_figures_free(&f);
    }
}

static void hosts_have_their_own(void **state) {
    (void)state;
    struct cf_figures f = imagined(6, 3, 0);
    for (uint32_t r = 0; r < 6; r++) {
        assert_int_equal(f.ranks[r].host_index, (int)r / 2);
        near(f.ranks[r].bandwidth, 60e9);
        near(f.ranks[r].rates[Q8_0], 12e12);
        assert_int_equal(f.ranks[r].n_fewer, 2);
    }
    cf_figures_free(&f);
    f = imagined(4, 1, 2); /* so many threads, whatever is there: two of six cores */
    for (uint32_t r = 0; r < 4; r++)
        near(f.ranks[r].rates[Q8_0], 4e12);
    cf_figures_free(&f);
    const struct cf__machines k = {.ranks = 2, .hosts = 3};
    const struct cf_machine m = {0};
    const struct cf_rank_info here = {0};
    struct cf_error e;
    assert_int_equal(cf__imagine(&f, &k, &m, &here, &e), -1);
    assert_non_null(strstr(e.text, "--hosts 3 is more than --ranks 2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_has_more_than_there_is), cmocka_unit_test(hosts_have_their_own)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
