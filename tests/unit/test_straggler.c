/* Which rank is slower than it should be. */
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(named), cmocka_unit_test(nobody_stands_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
