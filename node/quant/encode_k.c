/* Encoders of the K types: super-blocks of 256 columns whose scales (and minima) are themselves quantised. First every
 * sub-block is fitted alone, then the scales are rounded, then the elements are rounded under the scales that a reader
 * will see. */
#include "node/kernels/type.h"
#include "node/quant/fit.h"

enum { SUPER = 256 };

/* A super-block of Q4_K or Q5_K before its bits are laid out: 8 sub-blocks of 32, value = d * sc * q - dmin * m. */
struct with_min {
    uint16_t d, dmin;    /* f16 */
    uint8_t sc[8], m[8]; /* 6 bits each */
    uint8_t q[SUPER];    /* 4 or 5 bits */
};

/* Rounds values[n] >= 0 to 0 .. high under one common f16 scale; *back is that scale's value. */
static uint16_t common_scale(const float *values, int n, int32_t high, uint8_t *out, float *back) {
    float most = 0;
    for (int j = 0; j < n; j++)
        most = values[j] > most ? values[j] : most;
    uint16_t h = cf__half(most / (float)high, back);
    for (int j = 0; j < n; j++)
        out[j] = *back > 0 ? (uint8_t)cf__nearest_in(values[j] / *back, 0, high) : 0;
    return h;
}

static void fit_with_min(const float *x, int32_t high, struct with_min *b) {
    float scales[8], mins[8], d, dmin;
    for (int j = 0; j < 8; j++)
        scales[j] = cf__fit_scale_and_min(x + 32 * j, 32, high, &mins[j]);
    b->d = common_scale(scales, 8, 63, b->sc, &d);
    b->dmin = common_scale(mins, 8, 63, b->m, &dmin);
    for (int j = 0; j < 8; j++) {
        float scale = d * (float)b->sc[j], min = dmin * (float)b->m[j], inverse = scale > 0 ? 1.0f / scale : 0;
        for (int i = 32 * j; i < 32 * j + 32; i++)
            b->q[i] = (uint8_t)cf__nearest_in((x[i] + min) * inverse, 0, high);
    }
}

/* d, dmin and the 12 bytes of scales that Q4_K and Q5_K begin with: 6-bit scale and minimum of sub-blocks 0 to 3 in the
 * low bits of bytes 0 to 3 and 4 to 7; of sub-blocks 4 to 7 the low 4 bits in bytes 8 to 11 and the high 2 bits above
 * the former. */
static void put_head(const struct with_min *b, uint8_t *dst) {
    cf__put_u16(dst, b->d);
    cf__put_u16(dst + 2, b->dmin);
    for (int j = 0; j < 4; j++) {
        dst[4 + j] = (uint8_t)(b->sc[j] | b->sc[j + 4] >> 4 << 6);
        dst[8 + j] = (uint8_t)(b->m[j] | b->m[j + 4] >> 4 << 6);
        dst[12 + j] = (uint8_t)((b->sc[j + 4] & 15) | (b->m[j + 4] & 15) << 4);
    }
}

/* Low nibbles: of each 64 columns the first 32 in the low, the second in the high half of 32 bytes. */
static void put_nibbles(const struct with_min *b, uint8_t *dst) {
    for (int i = 0; i < SUPER / 2; i++) {
        int at = i / 32 * 64 + i % 32;
        dst[i] = (uint8_t)((b->q[at] & 15) | (b->q[at + 32] & 15) << 4);
    }
}

void cf__encode_q4_k(const float *src, uint8_t *dst, size_t n) {
    struct with_min b;
    for (size_t i = 0; i < n; i += SUPER, dst += 144) {
        fit_with_min(src + i, 15, &b);
        put_head(&b, dst);
        put_nibbles(&b, dst + 16);
    }
}

void cf__encode_q5_k(const float *src, uint8_t *dst, size_t n) {
    struct with_min b;
    for (size_t i = 0; i < n; i += SUPER, dst += 176) {
        fit_with_min(src + i, 31, &b);
        put_head(&b, dst);
        /* Bit j of byte l is the fifth bit of element l of sub-block j. */
        memset(dst + 16, 0, 32);
        for (int k = 0; k < SUPER; k++)
            dst[16 + k % 32] |= (uint8_t)(b.q[k] >> 4 << k / 32);
        put_nibbles(&b, dst + 48);
    }
}

/* 16 sub-blocks of 16, value = d * scale * (q - 32), scale a signed byte. */
static void fit_q6(const float *x, uint16_t *half, int8_t scale[16], uint8_t q[SUPER]) {
    float scales[16], most = 0, d;
    for (int j = 0; j < 16; j++) {
        scales[j] = cf__fit_scale(x + 16 * j, 16, -32, 31);
        float a = scales[j] < 0 ? -scales[j] : scales[j];
        most = a > most ? a : most;
    }
    *half = cf__half(most / 127.0f, &d);
    for (int j = 0; j < 16; j++) {
        scale[j] = d > 0 ? (int8_t)cf__nearest_in(scales[j] / d, -127, 127) : 0;
        float s = d * (float)scale[j], inverse = s != 0 ? 1.0f / s : 0;
        for (int i = 16 * j; i < 16 * j + 16; i++)
            q[i] = (uint8_t)(cf__nearest_in(x[i] * inverse, -32, 31) + 32);
    }
}

void cf__encode_q6_k(const float *src, uint8_t *dst, size_t n) {
    uint8_t q[SUPER];
    int8_t scale[16];
    uint16_t d;
    for (size_t i = 0; i < n; i += SUPER, dst += 210) {
        fit_q6(src + i, &d, scale, q);
        /* In each half of 128 columns run t of 32 has its nibbles in bytes 32 * (t % 2) ..., low for t < 2 and high
         * else, and its upper bit pairs in bits 2t of 32 bytes. */
        memset(dst, 0, 192);
        for (int k = 0; k < SUPER; k++) {
            int side = k / 128, t = k % 128 / 32, l = k % 32;
            dst[side * 64 + t % 2 * 32 + l] |= (uint8_t)((q[k] & 15) << t / 2 * 4);
            dst[128 + side * 32 + l] |= (uint8_t)(q[k] >> 4 << t * 2);
        }
        memcpy(dst + 192, scale, sizeof scale);
        cf__put_u16(dst + 208, d);
    }
}

/* Bit pairs: in each half of 128 columns, run t of 32 columns in bits 2t of 32 bytes. */
static void put_pairs(const uint8_t q[SUPER], uint8_t *dst) {
    memset(dst, 0, 64);
    for (int k = 0; k < SUPER; k++)
        dst[k / 128 * 32 + k % 32] |= (uint8_t)((q[k] & 3) << k % 128 / 32 * 2);
}

/* 16 sub-blocks of 16, value = d * scale * q - dmin * min, scale and min 4 bits each. */
void cf__encode_q2_k(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += SUPER, dst += 84) {
        const float *x = src + i;
        float scales[16], mins[16], d, dmin;
        uint8_t sc[16], m[16], q[SUPER];
        for (int j = 0; j < 16; j++)
            scales[j] = cf__fit_scale_and_min(x + 16 * j, 16, 3, &mins[j]);
        cf__put_u16(dst + 80, common_scale(scales, 16, 15, sc, &d));
        cf__put_u16(dst + 82, common_scale(mins, 16, 15, m, &dmin));
        for (int j = 0; j < SUPER; j++) {
            float scale = d * (float)sc[j / 16], min = dmin * (float)m[j / 16], inverse = scale > 0 ? 1.0f / scale : 0;
            q[j] = (uint8_t)cf__nearest_in((x[j] + min) * inverse, 0, 3);
        }
        for (int j = 0; j < 16; j++)
            dst[j] = (uint8_t)(sc[j] | m[j] << 4);
        put_pairs(q, dst + 16);
    }
}

/* 16 sub-blocks of 16, value = d * (scale - 32) * (q - 4), scale 6 bits. */
void cf__encode_q3_k(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += SUPER, dst += 110) {
        const float *x = src + i;
        float scales[16], most = 0, d;
        uint8_t q[SUPER];
        for (int j = 0; j < 16; j++) {
            scales[j] = cf__fit_scale(x + 16 * j, 16, -4, 3);
            if ((scales[j] < 0 ? -scales[j] : scales[j]) > (most < 0 ? -most : most)) most = scales[j];
        }
        cf__put_u16(dst + 108, cf__half(most / -32.0f, &d)); /* the largest scale becomes -32 */
        memset(dst, 0, 32);
        memset(dst + 96, 0, 12);
        for (int j = 0; j < 16; j++) {
            int32_t scale = d != 0 ? cf__nearest_in(scales[j] / d, -32, 31) : 0;
            float s = d * (float)scale, inverse = s != 0 ? 1.0f / s : 0;
            for (int k = 16 * j; k < 16 * j + 16; k++) {
                q[k] = (uint8_t)(cf__nearest_in(x[k] * inverse, -4, 3) + 4);
                dst[k % 32] |= (uint8_t)(q[k] >> 2 << k / 32);
            }
            dst[96 + j % 8] |= (uint8_t)(((scale + 32) & 15) << j / 8 * 4);
            dst[104 + j % 4] |= (uint8_t)((scale + 32) >> 4 << j / 4 * 2);
        }
        put_pairs(q, dst + 32);
    }
}
