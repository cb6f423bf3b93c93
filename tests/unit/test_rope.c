/* Rope angles against the formulas of llama.cpp (rope_yarn in ggml-cpu) written straight in long double. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>

#include "node/kernels/rope.h"

enum { MOST = 256 };

/* Relative error of a frequency: the exponent -2i/n_dims is rounded to a double, and ln(base) magnifies that. */
#define FREQUENCY_ERROR 2e-15L

/* theta of pair i at position 1, before any cosine; *mscale as llama.cpp multiplies it. */
static long double theta_of(const struct cf_rope *r, uint32_t i, long double *mscale) {
    long double n_dims = r->n_dims, base = r->base;
    long double theta_extrap = powl(base, -2.0L * i / n_dims);
    if (r->factors) theta_extrap /= r->factors[i];
    *mscale = r->attn_factor;
    if (r->scaling == CF_ROPE_NONE) return theta_extrap;
    long double freq_scale = 1.0L / r->factor, theta_interp = freq_scale * theta_extrap;
    if (r->scaling == CF_ROPE_LINEAR || r->ext_factor == 0) return theta_interp;
    long double pi = 3.14159265358979323846264338327950288L;
    long double low = floorl(n_dims * logl(r->original_context / (r->beta_fast * 2 * pi)) / (2 * logl(base)));
    long double high = ceill(n_dims * logl(r->original_context / (r->beta_slow * 2 * pi)) / (2 * logl(base)));
    low = fmaxl(0, low);
    high = fminl(n_dims - 1, high);
    long double y = (i - low) / fmaxl(0.001L, high - low);
    long double mix = (1 - fminl(1, fmaxl(0, y))) * r->ext_factor;
    *mscale *= 1 + 0.1L * logl(1 / freq_scale);
    return theta_interp * (1 - mix) + theta_extrap * mix;
}

static void check(const struct cf_rope *r) {
    double freq[MOST / 2];
    float cs[MOST], mscale;
    long double m = 0;
    cf_rope_frequencies(r, freq, &mscale);
    for (uint32_t i = 0; i < r->n_dims / 2; i++) {
        long double theta = theta_of(r, i, &m);
        assert_true(fabsl((long double)freq[i] - theta) <= FREQUENCY_ERROR * theta);
    }
    assert_true(fabsl(mscale - m) <= 1e-7L * m);
    const uint32_t positions[] = {0, 1, 2, 63, 1000, 4095, 8192, 31415, 99999, 100000};
    for (size_t p = 0; p < sizeof positions / sizeof *positions; p++) {
        cf_rope_angles(cs, freq, r->n_dims, mscale, positions[p]);
        for (uint32_t i = 0; i < r->n_dims / 2; i++) {
            long double angle = positions[p] * theta_of(r, i, &m);
            /* half a unit of float for the last rounding, and what the frequency is off */
            long double bound = (0x1p-24L + FREQUENCY_ERROR * angle) * m;
            assert_true(fabsl((long double)cs[2 * i] - cosl(angle) * mscale) <= bound);
            assert_true(fabsl((long double)cs[2 * i + 1] - sinl(angle) * mscale) <= bound);
        }
    }
}

static const struct cf_rope plain = {.n_dims = 128,
    .base = 10000,
    .scaling = CF_ROPE_NONE,
    .factor = 1,
    .attn_factor = 1,
    .ext_factor = 1,
    .beta_fast = 32,
    .beta_slow = 1};

static void plain_rope(void **state) {
    (void)state;
    const uint32_t dims[] = {2, 8, 16, 48, 64, 80, 128, 256};
    const float bases[] = {10000, 500000, 1000000, 5e6f};
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 4; j++) {
            struct cf_rope r = plain;
            r.n_dims = dims[i];
            r.base = bases[j];
            check(&r);
            r.factor = 8; /* without a scaling the factor says nothing */
            check(&r);
        }
    }
}

static void linear_scaling(void **state) {
    (void)state;
    struct cf_rope r = plain;
    r.scaling = CF_ROPE_LINEAR;
    for (r.factor = 1; r.factor <= 16; r.factor *= 1.7f)
        check(&r);
}

static void llama3_factors(void **state) {
    (void)state;
    /* As the converter computes them: factor 8, low 1, high 4, original context 8192. */
    float factors[64];
    struct cf_rope r = plain;
    r.base = 500000;
    for (int i = 0; i < 64; i++) {
        double freq = pow(500000, -2.0 * i / 128), wave = 6.283185307179586 / freq;
        double smooth = (8192 / wave - 1) / (4 - 1);
        factors[i] = wave < 8192. / 4 ? 1 : wave > 8192 ? 8 : (float)(1 / ((1 - smooth) / 8 + smooth));
    }
    r.factors = factors;
    check(&r);
    r.scaling = CF_ROPE_LINEAR;
    r.factor = 2;
    check(&r);
}

static void yarn(void **state) {
    (void)state;
    struct cf_rope r = plain;
    r.scaling = CF_ROPE_YARN;
    const uint32_t contexts[] = {256, 4096, 8192, 32768, 131072};
    const uint32_t dims[] = {16, 48, 64, 128};
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < 4; j++) {
            for (r.factor = 1; r.factor <= 64; r.factor *= 4) {
                r.original_context = contexts[i];
                r.n_dims = dims[j];
                r.base = j % 2 ? 10000 : 1000000;
                r.ext_factor = 1;
                r.attn_factor = 1;
                check(&r);
                r.attn_factor = 0.75f;
                r.beta_fast = 16;
                r.beta_slow = 2;
                check(&r);
                r.ext_factor = 0.5f;
                check(&r);
                r.ext_factor = 0;
                check(&r);
                r.beta_fast = 32;
                r.beta_slow = 1;
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_rope),
        cmocka_unit_test(linear_scaling),
        cmocka_unit_test(llama3_factors),
        cmocka_unit_test(yarn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
