/* Four lanes with SSE4.1, and with AVX where the compiler is told of it (lanes.h says what is defined here).
 *
 * These machines have no fma. The product of two floats is exact in double; its sum with the third is rounded once to
 * double and once to float. That is wrong only if the double lies in the middle of two floats without being exact, or
 * below the normal floats. Such lanes are rare and then done again: TwoSum tells what the addition lost, and the sum is
 * rounded to odd instead, from where the second rounding is right (S. Boldo, G. Melquiond, "Emulation of a FMA and
 * correctly rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers 57, 2008).
 */
#ifndef COFFER_NODE_KERNELS_LANES_SSE41_H
#define COFFER_NODE_KERNELS_LANES_SSE41_H

#include <immintrin.h>

#include "node/kernels/vectors/lanes.h"

/* p + c to odd: an inexact sum is cut towards zero and ends in a one. The sign of lost * sum tells whether the nearest
 * double lies beyond the exact sum; neither underflows, and a NaN compares false. */
INLINE __m128d sum_to_odd(__m128d p, __m128d c) {
    __m128d sum = _mm_add_pd(p, c), part = _mm_sub_pd(sum, p);
    __m128d lost = _mm_add_pd(_mm_sub_pd(p, _mm_sub_pd(sum, part)), _mm_sub_pd(c, part));
    __m128d side = _mm_mul_pd(lost, sum), zero = _mm_setzero_pd();
    __m128i beyond = _mm_castpd_si128(_mm_cmplt_pd(side, zero)), short_of = _mm_castpd_si128(_mm_cmpgt_pd(side, zero));
    __m128i odd = _mm_and_si128(_mm_or_si128(beyond, short_of), _mm_set1_epi64x(1));
    return _mm_castsi128_pd(_mm_or_si128(_mm_add_epi64(_mm_castpd_si128(sum), beyond), odd));
}

INLINE __m128 narrow(__m128d low, __m128d high) {
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}

/* Lanes whose rounding by way of double may be wrong: float result r, low 32 bits of the double. */
INLINE __m128i doubtful(__m128 r, __m128i low_bits) {
    __m128i middle = _mm_cmpeq_epi32(_mm_slli_epi32(low_bits, 3), _mm_set1_epi32(INT32_MIN));
    __m128i magnitude = _mm_and_si128(_mm_castps_si128(r), _mm_set1_epi32(INT32_MAX));
    return _mm_or_si128(middle, _mm_cmplt_epi32(magnitude, _mm_set1_epi32(0x00800001)));
}

#ifdef __AVX__
INLINE f32x4 add_product(__m256d p, f32x4 of_c) {
    __m256d c = _mm256_cvtps_pd((__m128)of_c), sum = _mm256_add_pd(p, c);
    __m128 r = _mm256_cvtpd_ps(sum);
    __m128d low = _mm256_castpd256_pd128(sum), high = _mm256_extractf128_pd(sum, 1);
    __m128 bits = _mm_shuffle_ps(_mm_castpd_ps(low), _mm_castpd_ps(high), 0x88);
    __m128i again = doubtful(r, _mm_castps_si128(bits));
    if (__builtin_expect(!_mm_testz_si128(again, again), 0))
        r = narrow(sum_to_odd(_mm256_castpd256_pd128(p), _mm256_castpd256_pd128(c)),
            sum_to_odd(_mm256_extractf128_pd(p, 1), _mm256_extractf128_pd(c, 1)));
    return (f32x4)r;
}

INLINE f32x4 fma_f32(f32x4 a, f32x4 b, f32x4 c) {
    return add_product(_mm256_mul_pd(_mm256_cvtps_pd((__m128)a), _mm256_cvtps_pd((__m128)b)), c);
}
INLINE f32x4 fma_dot(f32x4 a, i32x4 dot, f32x4 c) {
    return add_product(_mm256_mul_pd(_mm256_cvtps_pd((__m128)a), _mm256_cvtepi32_pd((__m128i)dot)), c);
}
#else
INLINE __m128d low_half(f32x4 v) {
    return _mm_cvtps_pd((__m128)v);
}
INLINE __m128d high_half(f32x4 v) {
    return _mm_cvtps_pd(_mm_movehl_ps((__m128)v, (__m128)v));
}

INLINE f32x4 add_product(__m128d p_low, __m128d p_high, f32x4 c) {
    __m128d low = _mm_add_pd(p_low, low_half(c)), high = _mm_add_pd(p_high, high_half(c));
    __m128 r = narrow(low, high);
    __m128 bits = _mm_shuffle_ps(_mm_castpd_ps(low), _mm_castpd_ps(high), 0x88);
    __m128i again = doubtful(r, _mm_castps_si128(bits));
    if (__builtin_expect(!_mm_testz_si128(again, again), 0))
        r = narrow(sum_to_odd(p_low, low_half(c)), sum_to_odd(p_high, high_half(c)));
    return (f32x4)r;
}

INLINE f32x4 fma_f32(f32x4 a, f32x4 b, f32x4 c) {
    return add_product(_mm_mul_pd(low_half(a), low_half(b)), _mm_mul_pd(high_half(a), high_half(b)), c);
}
INLINE f32x4 fma_dot(f32x4 a, i32x4 dot, f32x4 c) {
    __m128d low = _mm_cvtepi32_pd((__m128i)dot), high = _mm_cvtepi32_pd(_mm_shuffle_epi32((__m128i)dot, 0x4e));
    return add_product(_mm_mul_pd(low_half(a), low), _mm_mul_pd(high_half(a), high), c);
}
#endif

INLINE void widen_u16(const uint16_t h[8], i32x4 out[2]) {
    for (int v = 0; v < 2; v++)
        out[v] = (i32x4)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(h + 4 * v)));
}
INLINE void widen_u8(const uint8_t b[16], i32x4 out[4]) {
    for (int v = 0; v < 4; v++)
        out[v] = (i32x4)_mm_cvtepu8_epi32(_mm_cvtsi32_si128((int32_t)cf__u32(b + 4 * v)));
}

INLINE void from_f16(const uint16_t h[8], f32x4 out[2]) {
    i32x4 bits[2];
    widen_u16(h, bits);
    from_f16_bits(bits, out);
}

INLINE u8x16 look_up(u8x16 table, u8x16 index) {
    return (u8x16)_mm_shuffle_epi8((__m128i)table, (__m128i)index);
}

/* pmaddubsw adds two products in 16 bits and saturates: weights below 128 are taken as they are stored, of wide types
 * |w| times q with the sign of w (128 * 127 * 2 fits). Sums of more than two products are made where they fit. */
INLINE bool signed_weights(enum kind kind) {
    return is_wide(kind);
}

INLINE __m128i pairs(enum kind kind, u8x16 w, __m128i q) {
    if (is_wide(kind)) return _mm_maddubs_epi16(_mm_abs_epi8((__m128i)w), _mm_sign_epi8(q, (__m128i)w));
    return _mm_maddubs_epi16((__m128i)w, q);
}
INLINE __m128i widen_pairs(__m128i pairs16) {
    return _mm_madd_epi16(pairs16, _mm_set1_epi16(1));
}

INLINE i32x4 dot16(enum kind kind, const u8x16 w[4], const int8_t *q) {
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)q);
    __m128i a = pairs(kind, w[0], _mm_shuffle_epi32(x, 0x00)), b = pairs(kind, w[1], _mm_shuffle_epi32(x, 0x55));
    __m128i c = pairs(kind, w[2], _mm_shuffle_epi32(x, 0xaa)), d = pairs(kind, w[3], _mm_shuffle_epi32(x, 0xff));
    const int most = is_wide(kind) ? 128 : layout_of(kind)->most, room = 32767 / (2 * 127 * most);
    if (room < 2)
        return (i32x4)widen_pairs(a) + (i32x4)widen_pairs(b) + ((i32x4)widen_pairs(c) + (i32x4)widen_pairs(d));
    __m128i ab = _mm_add_epi16(a, b), cd = _mm_add_epi16(c, d);
    if (room < 4) return (i32x4)widen_pairs(ab) + (i32x4)widen_pairs(cd);
    return (i32x4)widen_pairs(_mm_add_epi16(ab, cd));
}

#endif
