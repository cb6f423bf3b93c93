/* Tensor types: decoding against blocks computed by hand, conversions of 16 bit floats against the compiler's, and
 * packed tiles, which must give back exactly what decoding the file gives.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "node/kernels/bits.h"
#include "node/kernels/type.h"
#include "tests/blocks.h"
#include "tests/random.h"

static uint64_t seed = 1;

static uint32_t random32(void) {
    return cf_random32(&seed);
}

static void put16(uint8_t *p, uint16_t v) {
    memcpy(p, &v, 2);
}

/* Of f16 1.0, 0.5, 2.0 and -1.0: what the hand-computed blocks use as scales. */
enum { ONE = 0x3c00, HALF = 0x3800, TWO = 0x4000, MINUS_ONE = 0xbc00 };

static void test_names(void **state) {
    (void)state;
    assert_string_equal(cf_type_by_id(CF_TYPE_Q4_K)->name, "Q4_K");
    assert_ptr_equal(cf_type_by_name("q4-k"), cf_type_by_id(12));
    assert_ptr_equal(cf_type_by_name("Q8_0"), cf_type_by_id(8));
    assert_ptr_equal(cf_type_by_name("bf16"), cf_type_by_id(30));
    assert_null(cf_type_by_name("Q4_"));
    assert_null(cf_type_by_name("Q4_K_M"));
    assert_null(cf_type_by_name(""));
    assert_null(cf_type_by_name(NULL));
    assert_ptr_equal(cf_type_by_name("iq2_xxs"), cf_type_by_id(16));
    assert_null(cf_type_by_id(19));
    assert_null(cf_type_by_id(CF_TYPE_LIMIT));
    assert_null(cf_type_by_id(UINT32_MAX));
    assert_string_equal(cf_type_name(21), "IQ3_S");
    assert_string_equal(cf_type_name(39), "MXFP4");
    assert_null(cf_type_name(40));
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        const struct cf_type *t = cf_type_by_id(id);
        if (!t) continue;
        assert_int_equal(t->id, id);
        assert_string_equal(t->name, cf_type_name(id));
        assert_int_equal(t->cut, t->quantised ? 32 : 1);
    }
}

#ifdef __FLT16_MAX__ /* GCC has _Float16 on every x86-64, older Clangs have not */
static void test_f16_to_f32(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint16_t bits = (uint16_t)h;
        _Float16 half;
        memcpy(&half, &bits, 2);
        assert_int_equal(cf__bits_of_float(cf_f16_to_f32(bits)), cf__bits_of_float((float)half));
    }
}

static uint16_t f16_by_compiler(float f) {
    _Float16 half = (_Float16)f;
    uint16_t bits;
    memcpy(&bits, &half, 2);
    return bits;
}

static void test_f32_to_f16_by_compiler(void **state) {
    (void)state;
    /* Each half, the middle to its neighbour, and the floats beside both. */
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint32_t at = cf__bits_of_float(cf_f16_to_f32((uint16_t)h)),
                 next = cf__bits_of_float(cf_f16_to_f32((uint16_t)(h ^ 1)));
        uint32_t places[2] = {at, at / 2 + next / 2};
        for (int i = 0; i < 2; i++)
            for (uint32_t step = 0; step < 3; step++) {
                float f = cf__float_of_bits(places[i] + step - 1);
                if (!isnan(f)) assert_int_equal(cf_f32_to_f16(f), f16_by_compiler(f));
            }
    }
    for (int i = 0; i < 2000000; i++) {
        float f = cf__float_of_bits(random32());
        if (!isnan(f)) assert_int_equal(cf_f32_to_f16(f), f16_by_compiler(f));
    }
}
#else
static void test_f16_to_f32(void **state) {
    (void)state;
    skip();
}
static void test_f32_to_f16_by_compiler(void **state) {
    (void)state;
    skip();
}
#endif

static void test_f32_to_f16(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = cf_f16_to_f32((uint16_t)h);
        if (!isnan(f)) assert_int_equal(cf_f32_to_f16(f), h);
    }
    assert_int_equal(cf_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(cf_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(cf_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(cf_f32_to_f16(NAN) & 0x7e00, 0x7e00);
    assert_int_equal(cf_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(cf_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(cf_f32_to_f16(-0.0f), 0x8000);
}

static void test_bf16(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = cf_bf16_to_f32((uint16_t)h);
        if (!isnan(f)) assert_int_equal(cf_f32_to_bf16(f), h);
    }
    assert_int_equal(cf_f32_to_bf16(cf__float_of_bits(0x3f808000)), 0x3f80); /* halfway: to even */
    assert_int_equal(cf_f32_to_bf16(cf__float_of_bits(0x3f818000)), 0x3f82);
    assert_int_equal(cf_f32_to_bf16(cf__float_of_bits(0x3f808001)), 0x3f81);
    assert_int_equal(cf_f32_to_bf16(cf__float_of_bits(0x7f7fffff)), 0x7f80);
    assert_true(isnan(cf_bf16_to_f32(cf_f32_to_bf16(cf__float_of_bits(0x7f800001)))));
}

static void test_decode_floats(void **state) {
    (void)state;
    float out[3];
    const float f32[3] = {1.5f, -0.0f, 3e38f};
    cf_type_by_id(CF_TYPE_F32)->decode(f32, out, 3);
    assert_memory_equal(out, f32, sizeof out);
    const uint16_t f16[3] = {ONE, 0x0001, 0xc500};
    cf_type_by_id(CF_TYPE_F16)->decode(f16, out, 3);
    assert_true(out[0] == 1 && out[1] == 0x1p-24f && out[2] == -5);
    const uint16_t bf16[3] = {0x3f80, 0xc0a0, 0x0001};
    cf_type_by_id(CF_TYPE_BF16)->decode(bf16, out, 3);
    assert_true(out[0] == 1 && out[1] == -5 && out[2] == cf__float_of_bits(0x10000));
}

static void test_decode_q8_0(void **state) {
    (void)state;
    uint8_t block[34] = {0};
    float out[32];
    put16(block, HALF);
    block[2] = 127, block[3] = 0x80, block[33] = 0xff;
    cf_type_by_id(CF_TYPE_Q8_0)->decode(block, out, 32);
    assert_true(out[0] == 63.5f && out[1] == -64 && out[2] == 0 && out[31] == -0.5f);
}

static void test_decode_q4_0(void **state) {
    (void)state;
    uint8_t block[18] = {0};
    float out[32];
    put16(block, MINUS_ONE);
    block[2] = 0xf0, block[17] = 0x19;
    cf_type_by_id(CF_TYPE_Q4_0)->decode(block, out, 32);
    /* byte 0: column 0 = 0 - 8, column 16 = 15 - 8; byte 15: column 15 = 9 - 8, column 31 = 1 - 8 */
    assert_true(out[0] == 8 && out[16] == -7 && out[15] == -1 && out[31] == 7 && out[1] == 8);
}

/* Scales 1..8 and mins 9..16 (plus 32 or 48, to use the upper two bits) for sub-blocks 0..7. */
static void put_scales_k(uint8_t *p) {
    for (uint32_t s = 0; s < 8; s++) {
        uint8_t scale = (uint8_t)(s + 1 + 32), min = (uint8_t)(s + 9 + (s < 7 ? 48 : 0));
        if (s < 4) {
            p[s] = (uint8_t)(p[s] | scale);
            p[s + 4] = (uint8_t)(p[s + 4] | min);
        } else {
            p[s + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
            p[s - 4] = (uint8_t)(p[s - 4] | (scale >> 4) << 6);
            p[s] = (uint8_t)(p[s] | (min >> 4) << 6);
        }
    }
}

static void test_decode_q4_k(void **state) {
    (void)state;
    uint8_t block[144] = {0};
    float out[256];
    put16(block, TWO);
    put16(block + 2, HALF);
    put_scales_k(block + 4);
    block[16] = 0x73;               /* columns 0 (3) and 32 (7) */
    block[16 + 3 * 32 + 31] = 0xf1; /* columns 223 (1) and 255 (15) */
    cf_type_by_id(CF_TYPE_Q4_K)->decode(block, out, 256);
    assert_true(out[0] == 2 * 33 * 3 - 0.5f * 57);
    assert_true(out[1] == -0.5f * 57);
    assert_true(out[32] == 2 * 34 * 7 - 0.5f * 58);
    assert_true(out[160] == -0.5f * 62);
    assert_true(out[223] == 2 * 39 * 1 - 0.5f * 63);
    assert_true(out[255] == 2 * 40 * 15 - 0.5f * 16);
}

static void test_decode_q5_k(void **state) {
    (void)state;
    uint8_t block[176] = {0};
    float out[256];
    put16(block, TWO);
    put16(block + 2, HALF);
    put_scales_k(block + 4);
    block[16] = 0x03;               /* bit 4 of columns 0 and 32 */
    block[16 + 31] = 0x80;          /* bit 4 of column 255 */
    block[48] = 0x73;               /* columns 0 (3) and 32 (7) */
    block[48 + 3 * 32 + 31] = 0xf1; /* columns 223 (1) and 255 (15) */
    cf_type_by_id(CF_TYPE_Q5_K)->decode(block, out, 256);
    assert_true(out[0] == 2 * 33 * 19 - 0.5f * 57);
    assert_true(out[32] == 2 * 34 * 23 - 0.5f * 58);
    assert_true(out[223] == 2 * 39 * 1 - 0.5f * 63);
    assert_true(out[255] == 2 * 40 * 31 - 0.5f * 16);
    assert_true(out[64] == -0.5f * 59);
}

static void test_decode_q6_k(void **state) {
    (void)state;
    uint8_t block[210] = {0};
    float out[256];
    for (int s = 0; s < 16; s++)
        block[192 + s] = (uint8_t)(s - 8);
    put16(block + 208, HALF);
    block[0] = 0x21;        /* columns 0 (1) and 64 (2) */
    block[32 + 31] = 0x43;  /* columns 63 (3) and 127 (4) */
    block[64 + 32] = 0x65;  /* columns 160 (5) and 224 (6) */
    block[128] = 0x1b;      /* bits 4, 5 of columns 0 (3), 32 (2), 64 (1), 96 (0) */
    block[128 + 32] = 0xc4; /* of columns 128 (0), 160 (1), 192 (0), 224 (3) */
    cf_type_by_id(CF_TYPE_Q6_K)->decode(block, out, 256);
    assert_true(out[0] == 0.5f * -8 * (1 + 48 - 32));
    assert_true(out[32] == 0.5f * -6 * (32 - 32));
    assert_true(out[64] == 0.5f * -4 * (2 + 16 - 32));
    assert_true(out[63] == 0.5f * -5 * (3 - 32));
    assert_true(out[127] == 0.5f * -1 * (4 - 32));
    assert_true(out[160] == 0.5f * 2 * (5 + 16 - 32));
    assert_true(out[224] == 0.5f * 6 * (6 + 48 - 32));
    assert_true(out[255] == 0.5f * 7 * -32);
}

static void test_decode_q4_1_q5_1(void **state) {
    (void)state;
    uint8_t q4[20] = {0}, q5[24] = {0};
    float out[32];
    put16(q4, HALF), put16(q4 + 2, MINUS_ONE);
    q4[4] = 0xf3, q4[19] = 0x20;
    cf_type_by_id(CF_TYPE_Q4_1)->decode(q4, out, 32);
    assert_true(out[0] == 0.5f && out[16] == 6.5f && out[15] == -1 && out[31] == 0 && out[1] == -1);
    put16(q5, HALF), put16(q5 + 2, MINUS_ONE);
    q5[4] = 0x01, q5[7] = 0x80; /* fifth bits of columns 0 and 31 */
    q5[8] = 0xf3, q5[23] = 0x20;
    cf_type_by_id(CF_TYPE_Q5_1)->decode(q5, out, 32);
    assert_true(out[0] == 8.5f && out[16] == 6.5f && out[15] == -1 && out[31] == 8);
}

static void test_decode_q5_0(void **state) {
    (void)state;
    uint8_t block[22] = {0};
    float out[32];
    put16(block, TWO);
    block[2] = 0x02, block[4] = 0x01; /* fifth bits of columns 1 and 16 */
    block[6] = 0xf1, block[7] = 0x0f;
    cf_type_by_id(CF_TYPE_Q5_0)->decode(block, out, 32);
    assert_true(out[0] == 2 * -15 && out[16] == 2 * 15 && out[1] == 2 * 15 && out[17] == -32);
}

static void test_decode_q2_k(void **state) {
    (void)state;
    uint8_t block[84] = {0};
    float out[256];
    put16(block + 80, TWO), put16(block + 82, HALF);
    block[0] = 0x53;            /* columns 0..15: scale 3, min 5 */
    block[3] = 0xf1;            /* columns 48..63 */
    block[15] = 0x2f;           /* columns 240..255 */
    block[16] = 0x03;           /* column 0 (3), 32, 64, 96 (0) */
    block[16 + 31] = 0x08;      /* column 63 (2) */
    block[16 + 32 + 31] = 0x40; /* column 255 (1) */
    cf_type_by_id(CF_TYPE_Q2_K)->decode(block, out, 256);
    assert_true(out[0] == 2 * 3 * 3 - 0.5f * 5 && out[1] == -2.5f && out[16] == 0);
    assert_true(out[63] == 2 * 1 * 2 - 0.5f * 15 && out[255] == 2 * 15 * 1 - 0.5f * 2);
}

static void test_decode_q3_k(void **state) {
    (void)state;
    uint8_t block[110] = {0};
    float out[256];
    put16(block + 108, HALF);
    block[0] = 0x81;       /* third bits of columns 0 and 224 */
    block[32] = 0x02;      /* column 0 (2) */
    block[32 + 32] = 0xc0; /* column 224 (3) */
    block[96] = 0x05;      /* scale 0: 5 + 16 * 3; scale 8: 0 */
    block[104] = 0x03;     /* upper bits of scales 0 (3), 4, 8, 12 (0) */
    block[96 + 6] = 0xa0;  /* scale 14: 10 + 16 * 2 */
    block[104 + 2] = 0x80; /* upper bits of scale 14 (2) */
    cf_type_by_id(CF_TYPE_Q3_K)->decode(block, out, 256);
    assert_true(out[0] == 0.5f * (5 + 48 - 32) * (2 + 4 - 4));
    assert_true(out[1] == 0.5f * (5 + 48 - 32) * -4);
    assert_true(out[224] == 0.5f * (10 + 32 - 32) * (3 + 4 - 4));
    assert_true(out[225] == 0.5f * (10 + 32 - 32) * -4);
    assert_true(out[128] == 0.5f * -32 * -4);
}

static void test_decode_iq4(void **state) {
    (void)state;
    uint8_t nl[18] = {0}, xs[136] = {0};
    float out[256];
    put16(nl, TWO);
    nl[2] = 0x80, nl[17] = 0xf7;
    cf_type_by_id(CF_TYPE_IQ4_NL)->decode(nl, out, 32);
    assert_true(out[0] == -254 && out[16] == 2 && out[15] == -20 && out[31] == 226);
    put16(xs, HALF);
    put16(xs + 2, 0xc001); /* upper bits of scales 0 (1) and 7 (3) */
    xs[4] = 0x02;          /* lower bits of scale 0 (2) */
    xs[7] = 0xf0;          /* of scale 7 (15) */
    xs[8] = 0x9e;          /* columns 0 (89) and 16 (13) */
    xs[135] = 0x01;        /* columns 239 (-104) and 255 (-127) */
    cf_type_by_id(CF_TYPE_IQ4_XS)->decode(xs, out, 256);
    assert_true(out[0] == 0.5f * (18 - 32) * 89 && out[16] == 0.5f * (18 - 32) * 13);
    assert_true(out[239] == 0.5f * (63 - 32) * -104 && out[255] == 0.5f * (63 - 32) * -127);
    assert_true(out[32] == 0.5f * -32 * -127);
}

static void test_decode_mxfp4(void **state) {
    (void)state;
    uint8_t block[17] = {0};
    float out[32];
    block[0] = 129; /* 2^2, and the values are halves: 0 0.5 1 1.5 2 3 4 6 */
    block[1] = 0xf1, block[2] = 0x87, block[16] = 0x65;
    cf_type_by_id(CF_TYPE_MXFP4)->decode(block, out, 32);
    assert_true(out[0] == 2 && out[16] == -24 && out[1] == 24 && out[17] == 0 && out[15] == 12 && out[31] == 16);
    static const float least[3] = {0x1p-128f, 0x1p-127f, 0x1p-126f};
    block[1] = 0x01;
    for (uint8_t e = 0; e < 3; e++) { /* the scale is a denormal float below 2 */
        block[0] = e;
        cf_type_by_id(CF_TYPE_MXFP4)->decode(block, out, 32);
        assert_true(out[0] == least[e]);
    }
    block[0] = 255;
    cf_type_by_id(CF_TYPE_MXFP4)->decode(block, out, 32);
    assert_true(out[0] == 0x1p127f);
}

/* Grid entries below are the first and others as ggml's tables give them, lowest byte first. */
static void test_decode_iq3(void **state) {
    (void)state;
    uint8_t xxs[98] = {0}, s[110] = {0};
    float out[256];
    put16(xxs, TWO);
    xxs[2] = 1;                     /* columns 0..3: 0x04040414 */
    xxs[3] = 255;                   /* columns 4..7: 0x3e341c04 */
    xxs[66] = 0x81, xxs[69] = 0x50; /* signs of columns 0..7: 1 and the parity bit 7; of 8..15: 1; scale 5 */
    cf_type_by_id(CF_TYPE_IQ3_XXS)->decode(xxs, out, 256);
    float db = 2 * 5.5f * 0.5f;
    assert_true(out[0] == db * -0x14 && out[1] == db * 4 && out[3] == db * 4);
    assert_true(
        out[4] == db * 4 && out[6] == db * 0x34 && out[7] == db * -0x3e && out[8] == db * -4 && out[15] == db * -4);
    assert_true(out[9] == db * 4 && out[32] == 2 * 0.5f * 0.5f * 4);
    put16(s, HALF);
    s[2 + 8] = 2;     /* columns 32..35 of sub-block 1: number 258 with the ninth bit: 0x0509070b */
    s[66 + 1] = 0x01; /* that bit */
    s[74 + 4] = 0x08; /* sign of column 35 */
    s[106] = 0x70;    /* scale 7 of sub-block 1 */
    cf_type_by_id(CF_TYPE_IQ3_S)->decode(s, out, 256);
    assert_true(out[32] == 0.5f * 15 * 11 && out[33] == 0.5f * 15 * 7);
    assert_true(out[34] == 0.5f * 15 * 9 && out[35] == -0.5f * 15 * 5);
    assert_true(out[0] == 0.5f * 1 && out[255] == 0.5f * 1);
}

static void test_decode_iq2(void **state) {
    (void)state;
    uint8_t xxs[66] = {0}, xs[74] = {0}, s[82] = {0};
    float out[256];
    put16(xxs, TWO);
    xxs[2] = 255;                 /* columns 0..7 */
    xxs[6] = 0x02, xxs[9] = 0x30; /* signs: column 1 and, for parity, column 7; scale 3 */
    cf_type_by_id(CF_TYPE_IQ2_XXS)->decode(xxs, out, 256);
    static const float xxs_255[8] = {8, 25, 8, 8, 25, 43, 43, 43};
    for (int j = 0; j < 8; j++)
        assert_true(out[j] == 2 * 3.5f * 0.25f * (j == 1 || j == 7 ? -1 : 1) * xxs_255[j]);
    assert_true(out[8] == 2 * 3.5f * 0.25f * 8 && out[32] == 2 * 0.5f * 0.25f * 8);
    put16(xs, TWO);
    put16(xs + 2 + 2 * 31, 511 | 3 << 9); /* the last columns: signs of 248 and 249 */
    xs[73] = 0xc0;                        /* scale 12 of columns 240..255 */
    cf_type_by_id(CF_TYPE_IQ2_XS)->decode(xs, out, 256);
    static const float xs_511[8] = {43, 43, 43, 43, 43, 43, 43, 43};
    for (int j = 0; j < 8; j++)
        assert_true(out[248 + j] == 2 * 12.5f * 0.25f * (j < 2 ? -1 : 1) * xs_511[j]);
    assert_true(out[239] == 2 * 0.5f * 0.25f * 8);
    put16(s, TWO);
    s[2 + 5] = 0xff;  /* columns 40..47: number 1023 with the upper bits */
    s[66 + 1] = 0x0c; /* these */
    s[34 + 5] = 0x40; /* sign of column 46 */
    s[74 + 1] = 0x09; /* scale 9 of columns 32..47 */
    cf_type_by_id(CF_TYPE_IQ2_S)->decode(s, out, 256);
    static const float s_1023[8] = {43, 43, 43, 43, 43, 43, 43, 43};
    for (int j = 0; j < 8; j++)
        assert_true(out[40 + j] == 2 * 9.5f * 0.25f * (j == 6 ? -1 : 1) * s_1023[j]);
}

/* Random bytes whose floats (values or scales) are finite: exponent bit 4 of f16, 7 of bf16, is cleared. */
static void fill_row(const struct cf_type *t, uint8_t *row, uint32_t columns) {
    size_t bytes = (size_t)columns / t->block * t->block_bytes;
    for (size_t i = 0; i < bytes; i++)
        row[i] = (uint8_t)random32();
    for (uint8_t *b = row; b < row + bytes; b += t->block_bytes) {
        if (t->quantised)
            cf_block_make_finite(t, b);
        else
            b[t->block_bytes - 1] &= 0xbf;
    }
}

/* Packs columns [c0, c1) of n rows, and expects of each lane what decode gives (zeros for the missing rows). */
static void check_pack(const struct cf_type *t, const uint8_t *file, size_t row_bytes, uint32_t width, uint32_t n,
    uint32_t c0, uint32_t c1) {
    const void *rows[CF_TILE] = {NULL};
    for (uint32_t r = 0; r < n; r++)
        rows[r] = file + r * row_bytes + (size_t)(c0 / t->block) * t->block_bytes;
    size_t bytes = t->tile_bytes(c0, c1);
    assert_int_equal(bytes % 64, 0);
    uint8_t *tile = aligned_alloc(64, bytes + 64);
    float *want = malloc(sizeof *want * width), *got = malloc(sizeof *got * width);
    memset(tile, 0xa5, bytes + 64);
    t->pack(tile, rows, c0, c1);
    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(tile[bytes + i], 0xa5); /* nothing beyond its end */
    for (uint32_t r = 0; r < CF_TILE; r++) {
        memset(want, 0, sizeof *want * width);
        if (r < n) t->decode(file + r * row_bytes, want, width);
        t->unpack_row(tile, r, c0, c1, got);
        for (uint32_t c = c0; c < c1; c++) {
            if (r < n)
                assert_int_equal(cf__bits_of_float(got[c - c0]), cf__bits_of_float(want[c]));
            else
                assert_true(got[c - c0] == 0);
        }
    }
    free(tile);
    free(want);
    free(got);
}

static void test_pack(void **state) {
    (void)state;
    enum { WIDTH = 1024 };
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        const struct cf_type *t = cf_type_by_id(id);
        if (!t) continue;
        size_t row_bytes = (size_t)WIDTH / t->block * t->block_bytes;
        uint8_t *file = malloc(row_bytes * CF_TILE);
        for (uint32_t r = 0; r < CF_TILE; r++)
            fill_row(t, file + r * row_bytes, WIDTH);
        check_pack(t, file, row_bytes, WIDTH, CF_TILE, 0, WIDTH);
        check_pack(t, file, row_bytes, WIDTH, 1, 0, WIDTH);
        check_pack(t, file, row_bytes, WIDTH, 0, 32, 96);
        for (int i = 0; i < 100; i++) {
            uint32_t units = WIDTH / t->cut, a = random32() % units, b = a + 1 + random32() % (units - a);
            check_pack(t, file, row_bytes, WIDTH, 1 + random32() % CF_TILE, a * t->cut, b * t->cut);
        }
        free(file);
    }
}

/* tile_bytes is an offset: it does not shrink, an empty run takes nothing, and a K-type cut costs one head. */
static void test_tile_bytes(void **state) {
    (void)state;
    for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
        const struct cf_type *t = cf_type_by_id(id);
        for (uint32_t c0 = 0; t && c0 < 640; c0 += 32) {
            assert_int_equal(t->tile_bytes(c0, c0), 0);
            for (uint32_t c = c0; c < 640; c += t->cut)
                assert_true(t->tile_bytes(c0, c) <= t->tile_bytes(c0, c + t->cut));
        }
    }
    assert_int_equal(cf_type_by_id(CF_TYPE_Q8_0)->tile_bytes(0, 4096), 4096 * 17);
    assert_int_equal(cf_type_by_id(CF_TYPE_Q4_0)->tile_bytes(0, 4096), 4096 * 9);
    const struct cf_type *k = cf_type_by_id(CF_TYPE_Q4_K);
    assert_int_equal(k->tile_bytes(0, 96) + k->tile_bytes(96, 512) - k->tile_bytes(0, 512), 320);
    assert_int_equal(k->tile_bytes(0, 256) + k->tile_bytes(256, 512), k->tile_bytes(0, 512));
    /* What the README of kernels says of memory: bits per weight. */
    static const struct {
        uint32_t id;
        double bits;
    } memory[] = {{CF_TYPE_Q4_1, 5}, {CF_TYPE_Q5_0, 5.5}, {CF_TYPE_Q5_1, 6}, {CF_TYPE_Q2_K, 2.625},
        {CF_TYPE_Q3_K, 3.625}, {CF_TYPE_IQ4_NL, 4.5}, {CF_TYPE_IQ4_XS, 4.375}, {CF_TYPE_MXFP4, 4.25},
        {CF_TYPE_IQ3_S, 4.375}, {CF_TYPE_IQ3_XXS, 4.375}, {CF_TYPE_IQ2_S, 3.625}, {CF_TYPE_IQ2_XS, 3.625},
        {CF_TYPE_IQ2_XXS, 3.375}};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        size_t bytes = cf_type_by_id(memory[i].id)->tile_bytes(0, 4096);
        assert_true((double)bytes * 8 / (4096 * CF_TILE) == memory[i].bits);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_f16_to_f32),
        cmocka_unit_test(test_f32_to_f16_by_compiler),
        cmocka_unit_test(test_f32_to_f16),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_decode_floats),
        cmocka_unit_test(test_decode_q8_0),
        cmocka_unit_test(test_decode_q4_0),
        cmocka_unit_test(test_decode_q4_k),
        cmocka_unit_test(test_decode_q5_k),
        cmocka_unit_test(test_decode_q6_k),
        cmocka_unit_test(test_decode_q4_1_q5_1),
        cmocka_unit_test(test_decode_q5_0),
        cmocka_unit_test(test_decode_q2_k),
        cmocka_unit_test(test_decode_q3_k),
        cmocka_unit_test(test_decode_iq4),
        cmocka_unit_test(test_decode_mxfp4),
        cmocka_unit_test(test_decode_iq3),
        cmocka_unit_test(test_decode_iq2),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_tile_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
