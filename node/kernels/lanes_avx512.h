/* Lanes of AVX-512 that more than one file needs: a mask, exp, the sum of sixteen. Included only by files that are
 * compiled for it (*avx512*.c).
 */
#ifndef COFFER_NODE_KERNELS_LANES_AVX512_H
#define COFFER_NODE_KERNELS_LANES_AVX512_H

#include <immintrin.h>

#include "node/kernels/vector.h"

#define INLINE static inline __attribute__((always_inline))

/* The first n lanes (all from 16 on). */
INLINE __mmask16 first_lanes(size_t n) {
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1);
}

/* cf_expf in every lane. The operand order of min and max keeps NaN. */
INLINE __m512 exp_lanes(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(CF__EXPF_LEAST), x);
    x = _mm512_min_ps(_mm512_set1_ps(CF__EXPF_MOST), x);
    __m512 rint = _mm512_set1_ps(CF__EXPF_RINT);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(CF__EXPF_LOG2E), rint), rint);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(CF__EXPF_LN2_HI), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(CF__EXPF_LN2_LO), r);
    __m512 p = _mm512_set1_ps(CF__EXPF_C6);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CF__EXPF_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CF__EXPF_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CF__EXPF_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CF__EXPF_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

INLINE float exp_one(float x) {
    return _mm512_cvtss_f32(exp_lanes(_mm512_set1_ps(x)));
}

/* Lanes l and l+8, +4, +2, +1. */
INLINE float lane_sum(__m512 lanes) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#endif
