/* The fma of every table equals fmaf by the bits, also where a sum in double rounds twice: a table without the
 * instruction makes one of its own. It is reached through a product of two columns, y = fma(w1, x1, fma(w0, x0, 0)).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "node/kernels/bits.h"
#include "node/kernels/kernels.h"
#include "tests/random.h"

enum { ROWS = 4 };
#ifdef __SANITIZE_ADDRESS__
enum { ROUNDS = 20000 }; /* slow; the released program proves the bits */
#else
enum { ROUNDS = 200000 };
#endif

static uint64_t random_state = 88172645463325252u;

static uint32_t next(void) {
    return (uint32_t)(cf_xorshift(&random_state) >> 32);
}

/* Sixteen triples a * b + c; c as the product w0 * x0, which the caller makes exact or lets underflow. */
struct sums {
    float w[2][CF_TILE]; /* the packed tile: columns 0 and 1 */
    float x[ROWS][2];
};

static void check(const struct sums *s) {
    static const struct cf_kernels *all[8];
    static size_t n;
    if (!n) n = cf_kernels_all(all);
    float want[ROWS][CF_TILE], got[ROWS][CF_TILE];
    for (int i = 0; i < ROWS; i++)
        for (int l = 0; l < CF_TILE; l++)
            want[i][l] = fmaf(s->w[1][l], s->x[i][1], fmaf(s->w[0][l], s->x[i][0], 0.0f));
    struct cf_rows x = {.c1 = 2, .f = s->x[0], .f_stride = 2};
    for (size_t t = 0; t < n; t++) {
        all[t]->product[CF_TYPE_F32](&(struct cf_product){.tile = s->w, .c1 = 2, .x = &x, .n = ROWS, .y = got[0]});
        for (int i = 0; i < ROWS; i++) {
            for (int l = 0; l < CF_TILE; l++) {
                if (cf__bits_of_float(got[i][l]) == cf__bits_of_float(want[i][l]) ||
                    (isnan(got[i][l]) && isnan(want[i][l])))
                    continue;
                fail_msg("%s: %a * %a + (%a * %a) is %a, not %a", all[t]->isa, (double)s->w[1][l], (double)s->x[i][1],
                    (double)s->w[0][l], (double)s->x[i][0], (double)got[i][l], (double)want[i][l]);
            }
        }
    }
}

/* Any bits, and bits of few ones and many: short products, runs, both ends of every range. */
static float any_float(void) {
    uint32_t u = next();
    switch (next() % 8) {
    case 0: u &= next() & next(); break;
    case 1: u |= next() | next(); break;
    case 2: u &= 0xff800000u; break;                                       /* powers of two, zeros, infinities */
    case 3: u = (u & 0x80000000u) | (u & 0x7fffffu) >> next() % 23; break; /* denormals */
    case 4: u = (u & 0x807fffffu) | (126 + next() % 4) << 23; break;       /* about one */
    case 5: u = (u & 0x80000000u) | (0x7f7fffffu - next() % 4); break;
    case 6: u = (u & 0x80000000u) | (0x00800000u + next() % 8 - 4); break;
    }
    return cf__float_of_bits(u);
}

static void any_bits(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct sums s;
        for (int l = 0; l < CF_TILE; l++)
            s.w[0][l] = any_float(), s.w[1][l] = any_float();
        for (int i = 0; i < ROWS; i++)
            s.x[i][0] = round % 4 ? 1.0f : any_float(), s.x[i][1] = any_float();
        check(&s);
    }
}

/* 1 - 2^-46 in two factors, 1, and more. */
static float near_one(void) {
    static const float near[] = {1 - 0x1p-23f, 1 + 0x1p-23f, 1, 1 - 0x1p-24f};
    return near[next() % 4];
}

/* c plus half a unit of c, or that less or more a little that a double does not hold; c down to the denormals. */
static void beside_the_middle(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct sums s;
        bool least = round % 4 == 0;
        int size = least ? -126 : (int)(next() % 240) - 120;
        for (int i = 0; i < ROWS; i++)
            s.x[i][0] = 1, s.x[i][1] = near_one() * 0x1p-24f;
        for (int l = 0; l < CF_TILE; l++) {
            uint32_t sign = next() & 0x80000000u;
            s.w[0][l] = ldexpf(cf__float_of_bits((127u << 23 | (next() & 0x7fffff)) ^ sign), size);
            if (least) s.w[0][l] = cf__float_of_bits((0x00800000u + next() % 16 - 8) ^ sign);
            s.w[1][l] = ldexpf(next() % 2 ? near_one() : -near_one(), size);
        }
        check(&s);
    }
}

/* An integer of 24 bits that ends in a one and `zeros` zeros. */
static uint64_t ending(uint32_t zeros) {
    return (0x800000u | ((next() & 0x7fffff) >> zeros | 1) << zeros) & 0xffffff;
}

/* Products in the very middle of two floats, of 47 or 48 bits, so that the least c decides. */
static void a_little_decides(void **state) {
    (void)state;
    int cases = 0;
    for (uint32_t round = 0; round < ROUNDS / 2; round++) {
        uint32_t below = 22 + round % 2, zeros = next() % below;
        uint64_t a = ending(zeros), b = ending(below - zeros);
        if ((a * b >= (uint64_t)1 << 47) != (below == 23)) continue;
        cases++;
        struct sums s;
        static const int exponents[] = {0, -80, 70, -149, -140};
        int size = exponents[next() % 5];
        for (int i = 0; i < ROWS; i++)
            s.x[i][0] = next() % 2 ? 1.0f : 0x1p-60f, s.x[i][1] = ldexpf((float)b, -23);
        for (int l = 0; l < CF_TILE; l++) {
            s.w[1][l] = ldexpf((float)a, size - (size > 0 ? 23 : 0)) * (next() % 2 ? 1.0f : -1.0f);
            s.w[0][l] = ldexpf(next() % 2 ? 1.0f : -1.0f, size - (int)(next() % 100));
        }
        check(&s);
    }
    assert_true(cases >= 1000);
}

/* Results that are denormal, or would be the least normal float but for the last bit. */
static void below_the_normal_floats(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct sums s;
        for (int i = 0; i < ROWS; i++) {
            s.x[i][0] = next() % 2 ? 1.0f : 0x1p-149f;
            s.x[i][1] = cf__float_of_bits(
                (127u - 126 + next() % 130) << 23 | (next() & 0x7fffff & (next() % 2 ? ~0u : 0x700000u)));
        }
        for (int l = 0; l < CF_TILE; l++) {
            s.w[0][l] = cf__float_of_bits(
                (next() & 0x80000000u) | (next() % 2 ? next() % 0x01000000u : 0x007ffffeu + next() % 4));
            s.w[1][l] = cf__float_of_bits(
                (next() & 0x80000000u) | (next() % 60) << 23 | (next() & 0x7fffff & (next() % 2 ? ~0u : 0x700000u)));
            if (next() % 3 == 0) s.w[1][l] = ldexpf(next() % 2 ? 1.0f : -1.0f, -(int)(next() % 150));
        }
        check(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bits),
        cmocka_unit_test(beside_the_middle),
        cmocka_unit_test(a_little_decides),
        cmocka_unit_test(below_the_normal_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
