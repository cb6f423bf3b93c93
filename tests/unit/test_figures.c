/* What is known of the machines: links between the sizes that were measured, and what is over of rehearsed sums. */
#include "coordinator/plan/forecast/figures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "small_machines.h"

/* The message, the slower of two uneven ranks, and a rest: with messages of a row of 1 KiB, of four, and others. */
static void a_rehearsed_sum_leaves_a_rest(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 3);
    for (int i = 0; i < CF_NOISE;
         i++) /* the slower of two takes 1.5 times an eighth of a piece longer than one of them */
        x.f.ranks[1].noise[i] = 1, x.f.ranks[0].noise[i] = i < CF_NOISE / 2 ? 1 : 2;
    for (int i = 0; i < CF_APART; i++) { /* with more rows 1 ms more, which is no message's */
        double more = 1e-3 * i;
        x.f.links[1].apart[i] = 5e-4 + more, x.f.links[3].apart[i] = 7e-4 + more; /* 0 - 1: 1 waits for rank 0 */
        x.f.links[2].apart[i] = 1e-5,
        x.f.links[6].apart[i] = 3e-5;        /* 0 - 2: less than the message alone: nothing is over */
        x.f.links[5].apart[i] = 4e-4 + more; /* 1 - 2, as one saw it */
    }
    cf_figures_settle(&x.f, 1024, 1e-3);
    for (int k = 0; k < 9; k++)
        if (k % 4) {
            double rest0 = (5e-4 - LATENCY - 0.25e-3 + 0 + 4e-4 - LATENCY) / 3;
            near(x.f.links[k].apart[0], rest0, 1e-4);
            near(x.f.links[k].apart[1], rest0 + 2e-3 / 3, 1e-4);
            near(cf_figures_apart(&x.f, &x.f.links[k], 100), rest0, 1e-4);
            near(cf_figures_apart(&x.f, &x.f.links[k], 2.5 * 1024), rest0 + 1e-3 / 3, 1e-4);
            near(cf_figures_apart(&x.f, &x.f.links[k], 1 << 20), rest0 + 2e-3 / 3, 1e-4);
        } else
            assert_true(x.f.links[k].apart[0] == 0 && x.f.links[k].apart[1] == 0);
    tear_down(&x);
}

/* Four rows that took less than one: that was noise. */
static void more_rows_never_take_less(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    x.f.links[1].apart[0] = x.f.links[2].apart[0] = 9e-4, x.f.links[1].apart[1] = x.f.links[2].apart[1] = 5e-4;
    cf_figures_settle(&x.f, 1024, 1e-3);
    near(x.f.links[1].apart[0], 9e-4 - LATENCY, 1e-4);
    near(x.f.links[1].apart[1], 9e-4 - LATENCY, 1e-4);
    tear_down(&x);
}

/* Nobody has rehearsed: nothing is over. */
static void no_rehearsal_no_rest(void **state) {
    (void)state;
    struct fixture x;
    set_up(&x, 2);
    cf_figures_settle(&x.f, 1024, 1e-3);
    for (int k = 0; k < 4; k++)
        assert_true(x.f.links[k].apart[0] == 0 && x.f.links[k].apart[1] == 0);
    assert_true(cf_figures_apart(&x.f, &x.f.links[1], 4096) == 0);
    tear_down(&x);
}

static void links_are_straight_lines(void **state) {
    (void)state;
    struct cf_link l = {.seconds = {1e-6, 9e-6, 1e-3}};
    near(cf_link_seconds(l.seconds, 0), 1e-6, 1e-12);
    near(cf_link_seconds(l.seconds, 8), 1e-6, 1e-12);
    near(cf_link_seconds(l.seconds, 8 + (16384 - 8) / 2.0), 5e-6, 1e-9);
    near(cf_link_seconds(l.seconds, 1 << 20), 1e-3, 1e-9);
    near(cf_link_seconds(l.seconds, 2 << 20), 1e-3 + (1e-3 - 9e-6) / (1048576 - 16384) * 1048576, 1e-9);
    l.seconds[1] = 5e-7; /* noise: quicker than the small one */
    near(cf_link_seconds(l.seconds, 1000), 1e-6, 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_rehearsed_sum_leaves_a_rest),
        cmocka_unit_test(more_rows_never_take_less), cmocka_unit_test(no_rehearsal_no_rest),
        cmocka_unit_test(links_are_straight_lines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
