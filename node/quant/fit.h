/* Private to node/quant: fits of a few numbers by whole numbers times a scale, used by all block types.
 *
 * A fit tries several first guesses of the scale, rounds to whole numbers under each, takes the least-squares scale
 * (and minimum) for those whole numbers, and keeps the guess with the least squared error. Only + - * / are used, in
 * the order in which they are written, so that a file comes out the same on every machine.
 */
#ifndef COFFER_NODE_QUANT_FIT_H
#define COFFER_NODE_QUANT_FIT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* To the nearest whole number, halves to even. |x| < 2^22. Vectorises, unlike lrintf. */
static inline int32_t cf__nearest(float x) {
    union {
        float f;
        int32_t i;
    } u = {.f = x + 12582912.0f};
    return u.i - 0x4b400000;
}

static inline int32_t cf__nearest_in(float x, int32_t low, int32_t high) {
    /* Clamped first: an element may be huge beside a scale that rounding has made small. NaN becomes low. */
    float y = x > (float)low ? x : (float)low;
    return cf__nearest(y < (float)high ? y : (float)high);
}

static inline void cf__put_u16(uint8_t *to, uint16_t v) {
    memcpy(to, &v, 2);
}

/* x[n] ~ scale * q, q in [low, high], |low| >= high. Returns the scale, of either sign. */
float cf__fit_scale(const float *x, size_t n, int32_t low, int32_t high);
/* x[n] ~ scale * q - *min, q in [0, high], *min >= 0. Returns the scale, >= 0. */
float cf__fit_scale_and_min(const float *x, size_t n, int32_t high, float *min);

/* The f16 bits of v, kept finite; *back is their value. */
uint16_t cf__half(float v, float *back);

/* The block encoders: n elements, whole blocks. */
void cf__encode_q8_0(const float *src, uint8_t *dst, size_t n);
void cf__encode_q4_0(const float *src, uint8_t *dst, size_t n);
void cf__encode_q4_1(const float *src, uint8_t *dst, size_t n);
void cf__encode_q5_0(const float *src, uint8_t *dst, size_t n);
void cf__encode_q5_1(const float *src, uint8_t *dst, size_t n);
void cf__encode_q2_k(const float *src, uint8_t *dst, size_t n);
void cf__encode_q3_k(const float *src, uint8_t *dst, size_t n);
void cf__encode_iq4_nl(const float *src, uint8_t *dst, size_t n);
void cf__encode_iq4_xs(const float *src, uint8_t *dst, size_t n);
void cf__encode_mxfp4(const float *src, uint8_t *dst, size_t n);
void cf__encode_iq3_s(const float *src, uint8_t *dst, size_t n);
void cf__encode_iq3_xxs(const float *src, uint8_t *dst, size_t n);
void cf__encode_iq2_s(const float *src, uint8_t *dst, size_t n);
void cf__encode_iq2_xs(const float *src, uint8_t *dst, size_t n);
void cf__encode_iq2_xxs(const float *src, uint8_t *dst, size_t n);
void cf__encode_q4_k(const float *src, uint8_t *dst, size_t n);
void cf__encode_q5_k(const float *src, uint8_t *dst, size_t n);
void cf__encode_q6_k(const float *src, uint8_t *dst, size_t n);

#endif
