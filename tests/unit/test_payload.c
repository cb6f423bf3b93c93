/* Numbers on their way between hosts: sizes, and conversions against values worked out by hand and against the scalar
 * conversions, with every instruction set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "node/engine/payload.h"
#include "node/kernels/type.h"
#include "tests/random.h"

static const struct cf_kernels *tables[8];
static size_t n_tables;

static void names_and_sizes(void **state) {
    (void)state;
    assert_int_equal(cf_dtype_by_name("f32"), CF_DTYPE_F32);
    assert_int_equal(cf_dtype_by_name("f16"), CF_DTYPE_F16);
    assert_int_equal(cf_dtype_by_name("q8"), CF_DTYPE_Q8);
    assert_int_equal(cf_dtype_by_name("q8_0"), -1);
    assert_int_equal(cf_dtype_by_name(""), -1);
    assert_string_equal(cf_dtype_name(CF_DTYPE_Q8), "q8");
    assert_string_equal(cf_dtype_name(3), "?");
    assert_int_equal(cf_payload_bytes(CF_DTYPE_F32, 3, 5), 60);
    assert_int_equal(cf_payload_bytes(CF_DTYPE_F16, 3, 5), 36); /* 10, filled up to 12 */
    assert_int_equal(cf_payload_bytes(CF_DTYPE_Q8, 3, 5), 36);  /* 4 + 5, filled up to 12 */
    assert_int_equal(cf_payload_bytes(CF_DTYPE_Q8, 1, 33), 44); /* 8 + 33, filled up to 44 */
    assert_int_equal(cf_payload_bytes(CF_DTYPE_Q8, 2, 2048), 2 * (64 * 4 + 2048));
    assert_int_equal(cf_payload_bytes(CF_DTYPE_F16, 0, 2048), 0);
}

/* As floats exactly: what the hand says. */
static void same(const float *got, const float *want, uint32_t n, const char *isa) {
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got))
            fail_msg("%s: [%u] is %.9g, not %.9g", isa, i, (double)got[i], (double)want[i]);
}

/* Between halves 1 and 1 + 2^-10 the middle goes to the even one; beyond 65504 it stays there, and is counted. */
static void halves_by_hand(void **state) {
    (void)state;
    static const float x[] = {0.0f, -1.5f, 1.0f + 0x1p-11f, 1.0f + 0x1.8p-10f, 65504.0f, 65505.0f, -1e30f, 0x1p-24f,
        0x1p-26f, 0x1.8p-25f, 3.14159274f};
    static const float y[] = {
        0.0f, -1.5f, 1.0f, 1.0f + 0x1p-9f, 65504.0f, 65504.0f, -65504.0f, 0x1p-24f, 0.0f, 0x1p-24f, 3.140625f};
    enum { N = sizeof x / sizeof *x };
    for (size_t t = 0; t < n_tables; t++) {
        uint32_t packed[(N + 1) / 2];
        float back[N];
        assert_int_equal(cf_payload_pack(tables[t], CF_DTYPE_F16, x, N, packed), 2);
        cf_payload_unpack(CF_DTYPE_F16, packed, N, 0, N, back);
        same(back, y, N, tables[t]->isa);
    }
}

/* The largest of a block is 127 steps: one of 0.5 here. The second block is a line's end of three. */
static void blocks_by_hand(void **state) {
    (void)state;
    float x[35] = {63.5f, 0.24f, 0.26f, -0.25f, 0.75f, -63.5f, 10.0f},
          y[35] = {63.5f, 0.0f, 0.5f, 0.0f, 1.0f, -63.5f, 10.0f};
    x[32] = 1.0f, x[33] = -127.0f, x[34] = 0.4f;
    y[32] = 1.0f, y[33] = -127.0f;
    for (size_t t = 0; t < n_tables; t++) {
        int32_t packed[11]; /* two scales, 35 numbers, a byte to fill up */
        float back[35], scale;
        packed[10] = -1;
        assert_int_equal(cf_payload_pack(tables[t], CF_DTYPE_Q8, x, 35, packed), 0);
        memcpy(&scale, &packed[1], sizeof scale);
        same(&scale, &(float){1.0f}, 1, tables[t]->isa);
        const int8_t *q = (const int8_t *)(packed + 2);
        assert_true(q[0] == 127 && q[1] == 0 && q[2] == 1 && q[4] == 2 && q[5] == -127 && q[6] == 20 && q[33] == -127);
        assert_int_equal(q[35], 0);
        cf_payload_unpack(CF_DTYPE_Q8, packed, 35, 0, 35, back);
        same(back, y, 35, tables[t]->isa);
        cf_payload_unpack(CF_DTYPE_Q8, packed, 35, 32, 3, back);
        same(back, y + 32, 3, tables[t]->isa);
    }
}

static void every_half_comes_back(void **state) {
    (void)state;
    uint16_t all[65536];
    float *back = malloc(sizeof all * 2);
    for (uint32_t i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    cf_payload_unpack(CF_DTYPE_F16, all, 65536, 0, 65536, back);
    for (uint32_t i = 0; i < 65536; i++) {
        float want = cf_f16_to_f32((uint16_t)i);
        if (isnan(want) ? !isnan(back[i]) : memcmp(&want, &back[i], sizeof want))
            fail_msg("half %04x is %.9g, not %.9g", i, (double)back[i], (double)want);
    }
    free(back);
}

/* Lines of all lengths: the same bytes with every instruction set, within the bounds that payload.h promises, and
 * rounding what is rounded changes nothing. */
static void bounds_hold(void **state) {
    (void)state;
    enum { MOST = 1500 };
    static float x[MOST], y[MOST], z[MOST];
    static uint32_t first[MOST], packed[MOST];
    uint64_t random = 3;
    for (uint32_t n = 1; n <= MOST; n += 1 + n / 5) {
        for (uint32_t i = 0; i < n; i++)
            x[i] = ((float)cf_random_below(&random, 2000001) - 1e6f) * (cf_random_below(&random, 50) ? 1e-6f : 1e-3f);
        for (int d = CF_DTYPE_F16; d < CF_DTYPES; d++) {
            enum cf_dtype dtype = (enum cf_dtype)d;
            size_t bytes = cf_payload_bytes(dtype, 1, n);
            for (size_t t = 0; t < n_tables; t++) {
                memset(packed, 0xff, bytes + 4);
                assert_int_equal(cf_payload_pack(tables[t], dtype, x, n, packed), 0);
                assert_int_equal(packed[bytes / 4], 0xffffffffu);
                if (!t) memcpy(first, packed, bytes);
                assert_memory_equal(packed, first, bytes);
            }
            cf_payload_unpack(dtype, first, n, 0, n, y);
            for (uint32_t i = 0; i < n; i++) {
                float largest = 0;
                for (uint32_t k = i / 32 * 32; k < n && k < i / 32 * 32 + 32; k++)
                    largest = fmaxf(largest, fabsf(x[k]));
                float bound = dtype == CF_DTYPE_F16 ? fmaxf(fabsf(x[i]) * 0x1p-11f, 0x1p-25f) : largest / 253.9f;
                if (fabsf(y[i] - x[i]) > bound) fail_msg("type %d: %.9g became %.9g", d, (double)x[i], (double)y[i]);
            }
            if (dtype != CF_DTYPE_F16) continue;
            assert_int_equal(cf_payload_pack(tables[0], dtype, y, n, packed), 0);
            cf_payload_unpack(dtype, packed, n, 0, n, z);
            assert_memory_equal(y, z, n * sizeof *y);
        }
    }
}

static void what_is_not_finite_does_not_travel(void **state) {
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    uint32_t packed[600];
    for (size_t t = 0; t < n_tables; t++)
        for (int i = 0; i < 3; i++)
            for (uint32_t at = 0; at < 520; at += 37) {
                float x[520] = {0};
                x[at] = bad[i];
                assert_int_equal(cf_payload_pack(tables[t], CF_DTYPE_F16, x, 520, packed), -1);
                assert_int_equal(cf_payload_pack(tables[t], CF_DTYPE_Q8, x, 520, packed), -1);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_and_sizes), cmocka_unit_test(halves_by_hand),
        cmocka_unit_test(blocks_by_hand), cmocka_unit_test(every_half_comes_back), cmocka_unit_test(bounds_hold),
        cmocka_unit_test(what_is_not_finite_does_not_travel)};
    n_tables = cf_kernels_all(tables);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
