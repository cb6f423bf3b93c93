/* Cuts of an axis are those of DESIGN.md section 6: n = min(24, units) chunks at floor(i * units / n) units. */
#include "node/model/axis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void cuts_follow_the_formula(void **state) {
    (void)state;
    static const uint32_t units_of[] = {1, 16, 32, 48, 64, 96, 128, 192};
    for (size_t k = 0; k < sizeof units_of / sizeof *units_of; k++) {
        uint32_t unit = units_of[k];
        for (uint32_t columns = 1; columns < 40 * unit; columns += columns < 200 ? 1 : 37) {
            struct cf_axis a = cf_axis_make(columns, unit, 24);
            uint32_t units = columns / unit ? columns / unit : 1, n = units < 24 ? units : 24;
            assert_int_equal(a.units, units);
            assert_int_equal(a.n_chunks, n);
            assert_int_equal(cf_axis_cut(&a, 0), 0);
            assert_int_equal(cf_axis_cut(&a, n), columns);
            for (uint32_t i = 1; i < n; i++)
                assert_int_equal(cf_axis_cut(&a, i), i * units / n * unit);
            for (uint32_t i = 0; i < n; i++)
                assert_true(cf_axis_cut(&a, i) < cf_axis_cut(&a, i + 1));
        }
    }
}

static void the_last_unit_takes_the_rest(void **state) {
    (void)state;
    struct cf_axis a = cf_axis_make(704 + 63, 64, 24);
    assert_int_equal(a.n_chunks, 11);
    assert_int_equal(cf_axis_cut(&a, 10), 640);
    assert_int_equal(cf_axis_cut(&a, 11), 767);
    a = cf_axis_make(28 * 64 + 1, 64, 24); /* uneven chunks: 1 or 2 units */
    assert_int_equal(cf_axis_cut(&a, 5), 5 * 64);
    assert_int_equal(cf_axis_cut(&a, 6), 7 * 64);
    assert_int_equal(cf_axis_cut(&a, 24), 28 * 64 + 1);
    a = cf_axis_make(31, 64, 24); /* less than a unit */
    assert_int_equal(a.n_chunks, 1);
    assert_int_equal(cf_axis_cut(&a, 1), 31);
}

static void large_axes_do_not_overflow(void **state) {
    (void)state;
    struct cf_axis a = cf_axis_make(4000000000u, 1, 24);
    assert_int_equal(cf_axis_cut(&a, 23), (uint32_t)(23ull * 4000000000u / 24));
    assert_true(cf_axis_cut(&a, 24) == 4000000000u);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cuts_follow_the_formula),
        cmocka_unit_test(the_last_unit_takes_the_rest), cmocka_unit_test(large_axes_do_not_overflow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
