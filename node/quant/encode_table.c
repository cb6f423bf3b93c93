/* Encoders of the types whose elements are one of 16 given values times a scale: IQ4_NL, IQ4_XS, MXFP4. */
#include "node/kernels/bits.h"
#include "node/kernels/types/codebook.h"
#include "node/kernels/type.h"
#include "node/quant/fit.h"

/* Of 16 values (a table of codebook.h less its offset) the nearest to x. NaN is index 0. */
static uint8_t nearest_of(const uint8_t table[16], int offset, float x) {
    uint8_t best = 0;
    float least = 0;
    for (uint8_t i = 0; i < 16; i++) {
        float off = x - (float)(table[i] - offset);
        off = off < 0 ? -off : off;
        if (i == 0 || off < least) {
            best = i;
            least = off;
        }
    }
    return best;
}

static float largest(const float *x, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++)
        if ((x[i] < 0 ? -x[i] : x[i]) > (most < 0 ? -most : most)) most = x[i];
    return most;
}

/* q[32] under a scale, and the squared error. *scale becomes the least-squares one for these q. */
static float try_scale(const float x[32], const uint8_t table[16], int offset, float *scale) {
    float inverse = 1.0f / *scale, xv = 0, vv = 0, error = 0, v[32];
    for (size_t j = 0; j < 32; j++) {
        v[j] = (float)(table[nearest_of(table, offset, x[j] * inverse)] - offset);
        xv += x[j] * v[j];
        vv += v[j] * v[j];
    }
    *scale = vv > 0 ? xv / vv : 0;
    for (size_t j = 0; j < 32; j++)
        error += (x[j] - *scale * v[j]) * (x[j] - *scale * v[j]);
    return error;
}

/* The best scale of 32 elements for the values of IQ4. Their ends are -127 and 113, so either sign may be better. */
static float fit_iq4(const float x[32]) {
    float most = largest(x, 32), best = 0, least = 0;
    if ((most < 0 ? -most : most) < 1e-30f) return 0;
    for (int k = -4; k <= 4; k++)
        for (int end = 0; end < 2; end++) {
            float scale = most / ((end ? 113.0f : -127.0f) * (1.0f + 0.03f * (float)k));
            float error = try_scale(x, cf__values_iq4, 128, &scale);
            if ((k == -4 && end == 0) || error < least) {
                best = scale;
                least = error;
            }
        }
    return best;
}

static void put_indices(const float x[32], const uint8_t table[16], int offset, float scale, uint8_t *dst) {
    float inverse = scale != 0 ? 1.0f / scale : 0;
    for (size_t j = 0; j < 16; j++) {
        uint8_t low = nearest_of(table, offset, x[j] * inverse), high = nearest_of(table, offset, x[j + 16] * inverse);
        dst[j] = (uint8_t)(low | high << 4);
    }
}

void cf__encode_iq4_nl(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += 32, dst += 18) {
        float d;
        cf__put_u16(dst, cf__half(fit_iq4(src + i), &d));
        put_indices(src + i, cf__values_iq4, 128, d, dst + 2);
    }
}

/* f16 d, the upper 2 bits of 8 scales of 6 bits, their lower 4 bits, nibbles. The scale of 32 columns is d * (scale -
 * 32). */
void cf__encode_iq4_xs(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += 256, dst += 136) {
        float scales[8], d;
        uint16_t high = 0;
        for (size_t s = 0; s < 8; s++)
            scales[s] = fit_iq4(src + i + 32 * s);
        cf__put_u16(dst, cf__half(largest(scales, 8) / -32.0f, &d));
        memset(dst + 4, 0, 4);
        for (size_t s = 0; s < 8; s++) {
            int32_t scale = d != 0 ? cf__nearest_in(scales[s] / d, -32, 31) : 0;
            high = (uint16_t)(high | (scale + 32) >> 4 << 2 * s);
            dst[4 + s / 2] |= (uint8_t)(((scale + 32) & 15) << s % 2 * 4);
            put_indices(src + i + 32 * s, cf__values_iq4, 128, d * (float)scale, dst + 8 + 16 * s);
        }
        cf__put_u16(dst + 2, high);
    }
}

/* An exponent e, the scale being 2^(e - 128) for values up to 12. */
void cf__encode_mxfp4(const float *src, uint8_t *dst, size_t n) {
    for (size_t i = 0; i < n; i += 32, dst += 17) {
        float most = largest(src + i, 32), least = 0;
        /* 2^k <= |most|: with e = k + 125 the largest element is 8 to 16 steps; a power more may be better. */
        int k = (int)(cf__bits_of_float(most) >> 23 & 255) - 127, best = 0;
        for (int e = k + 125; e <= k + 126; e++) {
            int in = e < 2 ? 2 : e > 252 ? 252 : e; /* 12 of the largest are finite */
            float scale = cf__float_of_bits((uint32_t)(in - 1) << 23), error = 0, inverse = 1.0f / scale;
            for (size_t j = 0; j < 32; j++) {
                uint8_t q = nearest_of(cf__values_mxfp4, 12, src[i + j] * inverse);
                float off = src[i + j] - scale * (float)(cf__values_mxfp4[q] - 12);
                error += off * off;
            }
            if (best == 0 || error < least) {
                best = in;
                least = error;
            }
        }
        dst[0] = (uint8_t)best;
        put_indices(src + i, cf__values_mxfp4, 12, cf__float_of_bits((uint32_t)(best - 1) << 23), dst + 1);
    }
}
