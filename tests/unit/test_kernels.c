/* What stands beside the products in every table of kernels: the rounding of activations and the tree over chunk sums,
 * equal by the bits to their definitions in DESIGN.md section 6; and the choice of a table.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "node/kernels/kernels.h"
#include "tests/unit/kernel_data.h"

static void test_quantise(void **state) {
    (void)state;
    enum { N = 32 * 400 };
    const struct cf_kernels *all[8];
    size_t n_tables = cf_kernels_all(all);
    float *x = malloc(sizeof(float) * N), *d = malloc(sizeof(float) * N / 32);
    int8_t *q = malloc(N);
    int16_t *sum = malloc(sizeof(int16_t) * N / 16);
    fill_activations(x, N);
    x[5 * 32] = 3.4e38f;
    for (uint32_t j = 0; j < 32; j++)
        x[6 * 32 + j] = (float)j + 0.5f, x[7 * 32 + j] = j == 3 ? 0x1p-100f : -0.0f; /* ties; the least block kept */
    x[6 * 32 + 31] = 127;
    for (size_t k = 0; k < n_tables; k++) {
        assert_int_equal(all[k]->quantise(x, N, q, d, sum), 0);
        for (uint32_t c = 0; c < N; c += 32) {
            float absmax = 0;
            for (uint32_t j = c; j < c + 32; j++)
                absmax = fmaxf(absmax, fabsf(x[j]));
            bool tiny = absmax < 0x1p-100f;
            float want = tiny ? 0 : absmax / 127.0f;
            int sums[2] = {0, 0};
            assert_same(&d[c / 32], &want, 1, "scale", all[k]->isa);
            for (uint32_t j = c; j < c + 32; j++) {
                assert_int_equal(q[j], tiny ? 0 : (int)rintf(x[j] * (127.0f / absmax)));
                sums[j % 32 / 16] += q[j];
            }
            assert_int_equal(sum[c / 16], sums[0]);
            assert_int_equal(sum[c / 16 + 1], sums[1]);
        }
        static const float bad[] = {INFINITY, -INFINITY, NAN};
        for (uint32_t i = 0; i < 96; i++) {
            float y[64] = {0};
            y[i % 64] = bad[i % 3];
            assert_int_equal(all[k]->quantise(y, 64, q, d, sum), -1);
        }
    }
    free(x);
    free(d);
    free(q);
    free(sum);
}

static float tree(const float *v, size_t n, size_t stride) {
    return n == 1 ? v[0] : tree(v, n / 2, stride) + tree(v + n / 2 * stride, n - n / 2, stride);
}

static void test_tree_sum(void **state) {
    (void)state;
    const struct cf_kernels *all[8];
    size_t n_tables = cf_kernels_all(all);
    for (size_t n = 1; n <= 32; n++) {
        size_t width = 1 + below(700), stride = width + below(20);
        float *v = malloc(sizeof(float) * n * stride), *want = malloc(sizeof(float) * width);
        float *sums = malloc(sizeof(float) * n * stride);
        for (size_t i = 0; i < n * stride; i++)
            v[i] = uniform();
        for (size_t i = 0; i < width; i++)
            want[i] = tree(v + i, n, stride);
        for (size_t k = 0; k < n_tables; k++) {
            memcpy(sums, v, sizeof(float) * n * stride);
            all[k]->tree_sum(sums, n, stride, width);
            assert_same(sums, want, width, "tree", all[k]->isa);
        }
        free(v);
        free(want);
        free(sums);
    }
}

static void test_choose(void **state) {
    (void)state;
    const struct cf_kernels *all[8];
    size_t n = cf_kernels_all(all);
    assert_true(n >= 1);
    assert_string_equal(all[0]->isa, "scalar");
    for (size_t i = 0; i < n; i++)
        assert_ptr_equal(cf_kernels_choose(all[i]->isa), all[i]);
    assert_null(cf_kernels_choose("mmx"));
    unsetenv("COFFER_ISA");
    const struct cf_kernels *best = cf_kernels_choose(NULL);
    if (strcmp(all[n - 1]->isa, "amx") == 0) { /* of that one what a trial found quicker, type by type */
        assert_true(best == all[n - 2] || strncmp(best->isa, "amx", 3) == 0);
        for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++)
            assert_true(best->product[id] == all[n - 1]->product[id] || best->product[id] == all[n - 2]->product[id]);
    } else {
        assert_ptr_equal(best, all[n - 1]);
    }
    setenv("COFFER_ISA", "scalar", 1);
    assert_ptr_equal(cf_kernels_choose(NULL), all[0]);
    setenv("COFFER_ISA", "sse9", 1);
    assert_null(cf_kernels_choose(NULL));
    unsetenv("COFFER_ISA");
    for (size_t i = 0; i < n; i++)
        for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++)
            assert_int_equal(all[i]->product[id] != NULL, cf_type_by_id(id) != NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantise),
        cmocka_unit_test(test_tree_sum),
        cmocka_unit_test(test_choose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
