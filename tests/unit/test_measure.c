/* What becomes of times that were measured. */
#include "coordinator/decode/measure/measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { EACH = 12, PIECES = CF_NOISE * EACH };

/* The noise of pieces that took 1 ms each, but for those given. */
static void noise_of(const double *slow, int n, double noise[CF_NOISE]) {
    double times[PIECES];
    for (int i = 0; i < PIECES; i++)
        times[i] = i < n ? slow[i] : 1e-3;
    cf_measure_noise(times, EACH, 1e-3, noise);
}

static void once_is_no_rate(void **state) {
    (void)state;
    double noise[CF_NOISE];
    const double stall[] = {0.2}, often[] = {7e-3, 13e-3}, quick[] = {0.5e-3};
    noise_of(stall, 1, noise);
    for (int i = 0; i < CF_NOISE; i++)
        assert_float_equal(noise[i], 1, 1e-9);
    noise_of(often, 2, noise); /* two of 7 ms and ten of 1 ms */
    assert_float_equal(noise[CF_NOISE - 1], 2, 1e-9);
    assert_float_equal(noise[CF_NOISE - 2], 1, 1e-9);
    noise_of(quick, 1, noise);
    assert_float_equal(noise[0], 1, 1e-9); /* nothing is quicker than the best */
}

static void slow_ones_are_last(void **state) {
    (void)state;
    double noise[CF_NOISE], half[PIECES / 2];
    for (int i = 0; i < PIECES / 2; i++)
        half[i] = 3e-3;
    noise_of(half, PIECES / 2, noise);
    for (int i = 0; i < CF_NOISE; i++)
        assert_float_equal(noise[i], i < CF_NOISE / 2 ? 1 : 3, 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(once_is_no_rate), cmocka_unit_test(slow_ones_are_last)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
