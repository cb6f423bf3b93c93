/* Our exp, log, pow, sin, cos and tanh against libm in a wider type, over wide ranges, in units in the last place.
 * COFFER_TEST_THIN=N takes every Nth sample: for emulated processors.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/kernels/bits.h"
#include "node/kernels/kernels.h"
#include "tests/random.h"

static uint32_t thin(void) {
    const char *n = getenv("COFFER_TEST_THIN");
    return n && atoi(n) > 1 ? (uint32_t)atoi(n) : 1;
}

/* Uniform within [low, high]. */
static double within(uint64_t *state, double low, double high) {
    return low + (high - low) * ((double)(cf_xorshift(state) >> 11) * 0x1p-53);
}

/* Errors in units in the last place of the exact value; denormals have the unit of the least normal. */
static double ulps_float(float got, double want) {
    if (isnan(want)) return isnan(got) ? 0 : INFINITY;
    float nearest = (float)want;
    if (isinf(nearest)) return got == nearest || (fabs(want) < 0x1.000002p128 && fabsf(got) == FLT_MAX) ? 0 : INFINITY;
    if (isinf(got)) return fabs(want) > 0x1.fffffcp127 ? 1 : INFINITY;
    int e;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1, e - 24 < -149 || want == 0 ? -149 : e - 24);
}

static double ulps_double(double got, long double want) {
    if (isnan(want)) return isnan(got) ? 0 : INFINITY;
    double nearest = (double)want;
    if (isinf(nearest)) return got == nearest ? 0 : fabs(got) == DBL_MAX ? 1 : INFINITY;
    if (isinf(got)) return fabs(nearest) == DBL_MAX ? 1 : INFINITY;
    /* A pair of doubles (POWER) is no wider than one where its lower half is denormal: a neighbour is as good there. */
    bool pair = LDBL_MANT_DIG == 106, neighbour = nextafter(got, nearest) == nearest;
    if (pair && fabs(nearest) < 0x1p-968 && neighbour) return 0;
    int e;
    frexpl(want, &e);
    return (double)(fabsl((long double)got - want) / ldexpl(1, e - 53 < -1074 || want == 0 ? -1074 : e - 53));
}

static void check(const char *name, double worst, double bound) {
    print_message("%s: at most %.3f ulp\n", name, worst);
    if (!(worst < bound)) fail_msg("%s is off by %.3f ulp", name, worst);
}

static void expf_is_precise(void **state) {
    (void)state;
    double worst = 0;
    for (uint64_t u = 0; u < 0x100000000u; u += (uint64_t)997 * thin()) { /* every 997th float there is */
        float x = cf__float_of_bits((uint32_t)u);
        worst = fmax(worst, ulps_float(cf_expf(x), exp((double)x)));
    }
    for (uint32_t i = 0; i < 2000000; i += thin()) {
        float x = -104.5f + (float)i * 0x1.86p-14f;
        worst = fmax(worst, ulps_float(cf_expf(x), exp((double)x)));
    }
    check("cf_expf", worst, 1);
}

static void expf_has_its_limits(void **state) {
    (void)state;
    assert_true(cf_expf(0) == 1 && cf_expf(-0.0f) == 1);
    assert_true(cf_expf(INFINITY) == INFINITY && cf_expf(89) == INFINITY && cf_expf(FLT_MAX) == INFINITY);
    assert_true(cf__bits_of_float(cf_expf(-INFINITY)) == 0 && cf__bits_of_float(cf_expf(-104)) == 0 &&
                cf__bits_of_float(cf_expf(-FLT_MAX)) == 0);
    assert_true(cf__bits_of_float(cf_expf(-103.9f)) == 1); /* the least denormal */
    assert_true(cf_expf(88.72f) < FLT_MAX);
    assert_true(isnan(cf_expf(NAN)) && isnan(cf_expf(-NAN)));
}

static void tanhf_is_precise(void **state) {
    (void)state;
    double worst = 0;
    for (uint64_t u = 0; u < 0x100000000u; u += (uint64_t)1999 * thin()) {
        float x = cf__float_of_bits((uint32_t)u);
        worst = fmax(worst, ulps_float(cf_tanhf(x), tanh((double)x)));
    }
    check("cf_tanhf", worst, 1);
    assert_true(cf_tanhf(INFINITY) == 1 && cf_tanhf(-INFINITY) == -1);
    assert_true(cf__bits_of_float(cf_tanhf(-0.0f)) == 0x80000000 && cf__bits_of_float(cf_tanhf(0)) == 0);
}

static void exp_is_precise(void **state) {
    (void)state;
    uint64_t random = 1;
    double worst = 0;
    for (uint32_t i = 0; i < 400000 / thin(); i++) {
        double range = i % 4 == 0 ? 0x1p-20 : i % 4 == 1 ? 1 : i % 4 == 2 ? 30 : 747;
        double x = within(&random, -range, range);
        worst = fmax(worst, ulps_double(cf_exp(x), expl(x)));
    }
    check("cf_exp", worst, 1);
    assert_true(cf_exp(0) == 1 && cf_exp(INFINITY) == INFINITY && cf_exp(-INFINITY) == 0 && isnan(cf_exp(NAN)));
    assert_true(cf_exp(709.79) == INFINITY && cf_exp(-745.2) == 0 && cf_exp(-745.1) == 0x1p-1074);
}

static void log_is_precise(void **state) {
    (void)state;
    uint64_t random = 2;
    double worst = 0;
    for (uint32_t i = 0; i < 400000 / thin(); i++) {
        double x = cf__double_of_bits(cf_xorshift(&random) >> 1);
        if (i % 4 == 0) x = within(&random, 0.5, 2);
        if (i % 4 == 1) x = 1 + within(&random, -0x1p-20, 0x1p-20);
        if (i % 4 == 2) x = within(&random, 0, 0x1p-1022);
        worst = fmax(worst, ulps_double(cf_log(x), logl(x)));
    }
    check("cf_log", worst, 1);
    assert_true(cf_log(1) == 0 && cf_log(0) == -INFINITY && cf_log(INFINITY) == INFINITY);
    assert_true(isnan(cf_log(-1)) && isnan(cf_log(NAN)) && isnan(cf_log(-INFINITY)));
}

static void pow_is_precise(void **state) {
    (void)state;
    uint64_t random = 3;
    double worst = 0;
    for (uint32_t i = 0; i < 400000 / thin(); i++) {
        double base = i % 3 == 0 ? within(&random, 1, 1e7) : exp2(within(&random, -1074, 1024));
        double exponent = i % 3 == 0 ? within(&random, -1, 0) : within(&random, -2, 2);
        if (i % 3 == 2) base = within(&random, 0.9, 1.1), exponent = within(&random, -8000, 8000);
        worst = fmax(worst, ulps_double(cf_pow(base, exponent), powl(base, exponent)));
    }
    check("cf_pow", worst, 1);
}

static void pow_has_its_limits(void **state) {
    (void)state;
    const double values[] = {0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1.5, -1.5, INFINITY, -INFINITY, NAN, 1e300,
        -1e300, 0x1p53, 0x1p-1074, -0x1p-1074};
    size_t n = sizeof values / sizeof *values;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            double got = cf_pow(values[i], values[j]), want = pow(values[i], values[j]);
            bool close = got == want || (isfinite(want) && fabs(got - want) <= 0x1p-52 * fabs(want));
            if (isnan(want) ? !isnan(got) : !close || signbit(got) != signbit(want))
                fail_msg("cf_pow(%g, %g) = %g, not %g", values[i], values[j], got, want);
        }
    }
}

static void sin_and_cos_are_precise(void **state) {
    (void)state;
    uint64_t random = 4;
    double worst_sin = 0, worst_cos = 0;
    for (uint32_t i = 0; i < 400000 / thin(); i++) {
        const double ranges[] = {0x1p-30, 1, 10, 1e5, 1e9};
        double range = ranges[i % 5], x = within(&random, -range, range);
        worst_sin = fmax(worst_sin, ulps_double(cf_sin(x), sinl(x)));
        worst_cos = fmax(worst_cos, ulps_double(cf_cos(x), cosl(x)));
    }
    for (uint32_t i = 1; i < 200000; i += thin()) { /* the doubles nearest to multiples of pi/2 */
        double x = (double)((long double)i * 1.57079632679489661923132169163975144L);
        worst_sin = fmax(worst_sin, ulps_double(cf_sin(x), sinl(x)));
        worst_cos = fmax(worst_cos, ulps_double(cf_cos(x), cosl(x)));
    }
    check("cf_sin", worst_sin, 1);
    check("cf_cos", worst_cos, 1);
    assert_true(signbit(cf_sin(-0.0)) && cf_sin(0) == 0 && cf_cos(0) == 1);
    assert_true(isnan(cf_sin(INFINITY)) && isnan(cf_cos(-INFINITY)) && isnan(cf_sin(NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expf_is_precise),
        cmocka_unit_test(expf_has_its_limits),
        cmocka_unit_test(tanhf_is_precise),
        cmocka_unit_test(exp_is_precise),
        cmocka_unit_test(log_is_precise),
        cmocka_unit_test(pow_is_precise),
        cmocka_unit_test(pow_has_its_limits),
        cmocka_unit_test(sin_and_cos_are_precise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
