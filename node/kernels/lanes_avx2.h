/* Lanes of AVX2 that more than one file needs: a mask, exp, the sum of sixteen. Included only by files that are
 * compiled for it (*avx2*.c).
 */
#ifndef COFFER_NODE_KERNELS_LANES_AVX2_H
#define COFFER_NODE_KERNELS_LANES_AVX2_H

#include <immintrin.h>

#include "node/kernels/vector.h"

#define INLINE static inline __attribute__((always_inline))

/* All bits of the first n lanes (all from 8 on). */
INLINE __m256i first_lanes(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n >= 8 ? 8 : (int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* cf_expf in every lane. The operand order of min and max keeps NaN. */
INLINE __m256 exp_lanes(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(CF__EXPF_LEAST), x);
    x = _mm256_min_ps(_mm256_set1_ps(CF__EXPF_MOST), x);
    __m256 rint = _mm256_set1_ps(CF__EXPF_RINT);
    __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(CF__EXPF_LOG2E), rint);
    __m256 n = _mm256_sub_ps(shifted, rint);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(CF__EXPF_LN2_HI), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(CF__EXPF_LN2_LO), r);
    __m256 p = _mm256_set1_ps(CF__EXPF_C6);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CF__EXPF_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CF__EXPF_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CF__EXPF_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CF__EXPF_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    __m256i k = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(rint));
    __m256i half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

INLINE float exp_one(float x) {
    return _mm256_cvtss_f32(exp_lanes(_mm256_set1_ps(x)));
}

/* Sixteen lanes in two vectors: l and l+8, +4, +2, +1. */
INLINE float lane_sum(__m256 low, __m256 high) {
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#endif
