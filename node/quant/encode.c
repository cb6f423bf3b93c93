/* Encoders of the plain types and of those with one scale per 32 columns, and the table of all. See encode.h. */
#include "node/quant/encode.h"

#include "node/kernels/type.h"
#include "node/quant/fit.h"

static void encode_f32(const float *src, uint8_t *dst, size_t n) {
    memcpy(dst, src, n * sizeof *src);
}

static void encode_f16(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++)
        cf__put_u16(dst + 2 * i, cf_f32_to_f16(src[i]));
}

static void encode_bf16(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++)
        cf__put_u16(dst + 2 * i, cf_f32_to_bf16(src[i]));
}

/* Q8_0: f16 d, 32 signed bytes. value = d * q. */
void cf__encode_q8_0(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += 32, dst += 34) {
        float most = 0, d;
        for (size_t j = 0; j < 32; j++) {
            float a = src[i + j] < 0 ? -src[i + j] : src[i + j];
            most = a > most ? a : most;
        }
        cf__put_u16(dst, cf__half(most / 127.0f, &d));
        float inverse = d > 0 ? 1.0f / d : 0;
        for (size_t j = 0; j < 32; j++)
            dst[2 + j] = (uint8_t)cf__nearest_in(src[i + j] * inverse, -127, 127);
    }
}

/* Q4_0: f16 d, 16 bytes with element j in the low and j + 16 in the high nibble. value = d * (q - 8). */
void cf__encode_q4_0(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += 32, dst += 18) {
        float d;
        cf__put_u16(dst, cf__half(cf__fit_scale(src + i, 32, -8, 7), &d));
        float inverse = d != 0 ? 1.0f / d : 0;
        for (size_t j = 0; j < 16; j++) {
            int32_t low = cf__nearest_in(src[i + j] * inverse, -8, 7) + 8;
            int32_t high = cf__nearest_in(src[i + j + 16] * inverse, -8, 7) + 8;
            dst[2 + j] = (uint8_t)(low | high << 4);
        }
    }
}

/* 16 bytes with element j in the low and j + 16 in the high nibble; the fifth bits of q, where it has any, as a word.
 */
static uint32_t put_nibbles(const uint8_t q[32], uint8_t *dst) {
    uint32_t fifth = 0;
    for (uint32_t j = 0; j < 16; j++)
        dst[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
    for (uint32_t j = 0; j < 32; j++)
        fifth |= (uint32_t)(q[j] >> 4) << j;
    return fifth;
}

/* Q5_0: f16 d, 4 bytes of fifth bits, 16 of nibbles as in Q4_0. value = d * (q - 16). */
void cf__encode_q5_0(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += 32, dst += 22) {
        float d;
        uint8_t q[32];
        cf__put_u16(dst, cf__half(cf__fit_scale(src + i, 32, -16, 15), &d));
        float inverse = d != 0 ? 1.0f / d : 0;
        for (size_t j = 0; j < 32; j++)
            q[j] = (uint8_t)(cf__nearest_in(src[i + j] * inverse, -16, 15) + 16);
        uint32_t fifth = put_nibbles(q, dst + 6);
        memcpy(dst + 2, &fifth, 4);
    }
}

/* q[32] of 0 to high, and f16 d and m in dst: value = d * q + m. */
static void fit_d_and_m(const float *x, int32_t high, uint8_t q[32], uint8_t *dst) {
    float y[32], base = x[0], min, d, m;
    for (size_t j = 1; j < 32; j++)
        base = x[j] < base ? x[j] : base;
    if (!(base > 0)) base = 0; /* the fit wants a minimum of 0 or below */
    for (size_t j = 0; j < 32; j++)
        y[j] = x[j] - base;
    float scale = cf__fit_scale_and_min(y, 32, high, &min);
    cf__put_u16(dst, cf__half(scale, &d));
    cf__put_u16(dst + 2, cf__half(base - min, &m));
    float inverse = d > 0 ? 1.0f / d : 0;
    for (size_t j = 0; j < 32; j++)
        q[j] = (uint8_t)cf__nearest_in((x[j] - m) * inverse, 0, high);
}

/* Q4_1: f16 d, f16 m, 16 bytes of nibbles. */
void cf__encode_q4_1(const float *src, uint8_t *dst, size_t n) {
    uint8_t q[32];
    for (size_t i = 0; i < n; i += 32, dst += 20) {
        fit_d_and_m(src + i, 15, q, dst);
        put_nibbles(q, dst + 4);
    }
}

/* Q5_1: f16 d, f16 m, 4 bytes of fifth bits, 16 of nibbles. */
void cf__encode_q5_1(const float *src, uint8_t *dst, size_t n) {
    uint8_t q[32];
    for (size_t i = 0; i < n; i += 32, dst += 24) {
        fit_d_and_m(src + i, 31, q, dst);
        uint32_t fifth = put_nibbles(q, dst + 8);
        memcpy(dst + 4, &fifth, 4);
    }
}

static void (*const encoders[CF_TYPE_LIMIT])(const float *src, uint8_t *dst, size_t n) = {
    [CF_TYPE_F32] = encode_f32,
    [CF_TYPE_F16] = encode_f16,
    [CF_TYPE_BF16] = encode_bf16,
    [CF_TYPE_Q8_0] = cf__encode_q8_0,
    [CF_TYPE_Q4_0] = cf__encode_q4_0,
    [CF_TYPE_Q4_1] = cf__encode_q4_1,
    [CF_TYPE_Q5_0] = cf__encode_q5_0,
    [CF_TYPE_Q5_1] = cf__encode_q5_1,
    [CF_TYPE_Q2_K] = cf__encode_q2_k,
    [CF_TYPE_Q3_K] = cf__encode_q3_k,
    [CF_TYPE_IQ4_NL] = cf__encode_iq4_nl,
    [CF_TYPE_IQ4_XS] = cf__encode_iq4_xs,
    [CF_TYPE_MXFP4] = cf__encode_mxfp4,
    [CF_TYPE_IQ3_S] = cf__encode_iq3_s,
    [CF_TYPE_IQ3_XXS] = cf__encode_iq3_xxs,
    [CF_TYPE_IQ2_S] = cf__encode_iq2_s,
    [CF_TYPE_IQ2_XS] = cf__encode_iq2_xs,
    [CF_TYPE_IQ2_XXS] = cf__encode_iq2_xxs,
    [CF_TYPE_Q4_K] = cf__encode_q4_k,
    [CF_TYPE_Q5_K] = cf__encode_q5_k,
    [CF_TYPE_Q6_K] = cf__encode_q6_k,
};

int cf_encode(uint32_t type, const float *src, void *dst, size_t n) {
    const struct cf_type *t = cf_type_by_id(type);
    if (!t || !encoders[type] || n % t->block) return -1;
    encoders[type](src, dst, n);
    return 0;
}
