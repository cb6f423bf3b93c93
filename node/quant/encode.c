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

static void (*const encoders[CF_TYPE_LIMIT])(const float *src, uint8_t *dst, size_t n) = {
    [CF_TYPE_F32] = encode_f32,
    [CF_TYPE_F16] = encode_f16,
    [CF_TYPE_BF16] = encode_bf16,
    [CF_TYPE_Q8_0] = cf__encode_q8_0,
    [CF_TYPE_Q4_0] = cf__encode_q4_0,
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
