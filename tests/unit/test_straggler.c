/* Which rank is slower than it should be. */
#include "coordinator/decode/pace.h"
#include "coordinator/plan/forecast/straggler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void named(void **state) {
    (void)state;
    double ratio;
    const double predicted[] = {1, 1, 2, 1}, slow[] = {1.1, 1.0, 8.2, 1.2};
    assert_int_equal(cf_straggler(predicted, slow, 4, &ratio), 2);
    assert_true(ratio > 4.09 && ratio < 4.11);
    assert_int_equal(cf_straggler(predicted + 2, slow + 2, 1, &ratio), 0); /* alone it stands out, too */
}

static void nobody_stands_out(void **state) {
    (void)state;
    double ratio;
    const double predicted[] = {1, 1, 2, 1}, all[] = {3, 3.3, 6.1, 2.9}, nearly[] = {1, 1.9, 2, 1};
    assert_int_equal(cf_straggler(predicted, all, 4, &ratio), -1); /* the whole machine is slow */
    assert_int_equal(cf_straggler(predicted, nearly, 4, &ratio), -1);
    const double small[] = {0.01, 0.01}, later[] = {0.01, 0.05};
    assert_int_equal(cf_straggler(small, later, 2, &ratio), -1); /* too little to speak of */
    const double nothing[] = {0, 1}, some[] = {5, 1};
    assert_int_equal(cf_straggler(nothing, some, 2, &ratio), -1);
    assert_int_equal(cf_straggler(nothing, some, 0, &ratio), -1);
}

/* In a talk each answer has its own measure: what was done before it is not held against it. */
static void answers(void **state) {
    (void)state;
    double work[3] = {1, 1, 1}, worked[3] = {0}, ratio;
    struct cf_rank_counts counts[3] = {0};
    const struct cf_pace p = {.work = work}, unforetold = {.work = NULL};
    static const double took[5][3] = {{1, 5, 1}, {1, 1, 1}, {9, 0, 0}, {1, 1, 1}, {1, 1, 4}};
    static const int want[5] = {1, -1, -1, -1, 2};
    for (int a = 0; a < 5; a++) {
        for (int r = 0; r < 3; r++)
            counts[r].domain[r].seconds += took[a][r] / 2, counts[r].domain[0].seconds += took[a][r] / 2;
        assert_int_equal(cf_pace_straggler(a == 2 ? &unforetold : &p, counts, 3, worked, &ratio), want[a]);
    }
    assert_int_equal(cf_pace_straggler(&p, counts, 3, NULL, &ratio), 0); /* all of it as one answer */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named), cmocka_unit_test(nobody_stands_out), cmocka_unit_test(answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
