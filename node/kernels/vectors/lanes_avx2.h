/* Eight lanes with AVX2, FMA and F16C (lanes_wide.h says what is defined here). */
#ifndef COFFER_NODE_KERNELS_LANES_AVX2_H
#define COFFER_NODE_KERNELS_LANES_AVX2_H

#include "node/kernels/vectors/lanes_wide.h"

typedef __m256 floats;
typedef __m256i mask; /* all bits of a lane, or none */
enum { LANES = 8, HALVES_IN_PART = 0 };

INLINE mask first_lanes(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n >= 8 ? 8 : (int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE mask lanes_between(size_t from, size_t to) {
    return _mm256_andnot_si256(first_lanes(from), first_lanes(to));
}
INLINE floats all_f32(float x) {
    return _mm256_set1_ps(x);
}

INLINE floats load(const float *p) {
    return _mm256_loadu_ps(p);
}
INLINE void store(float *p, floats v) {
    _mm256_storeu_ps(p, v);
}
INLINE floats load_first(const float *p, mask m) {
    return _mm256_maskload_ps(p, m);
}
INLINE void store_first(float *p, mask m, floats v) {
    _mm256_maskstore_ps(p, m, v);
}
INLINE floats load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE floats load_first_f16(const uint16_t *p, mask m) {
    (void)m;
    return load_f16(p);
}

INLINE floats fma_f32(floats a, floats b, floats c) {
    return _mm256_fmadd_ps(a, b, c);
}
INLINE floats fnma_f32(floats a, floats b, floats c) {
    return _mm256_fnmadd_ps(a, b, c);
}
INLINE floats larger(floats a, floats b) {
    return _mm256_max_ps(b, a);
}
INLINE floats smaller(floats a, floats b) {
    return _mm256_min_ps(b, a);
}
INLINE floats larger_where(mask m, floats a, floats b) {
    return _mm256_blendv_ps(a, larger(a, b), _mm256_castsi256_ps(m));
}
INLINE floats add_where(mask m, floats a, floats b) {
    return a + _mm256_and_ps(b, _mm256_castsi256_ps(m));
}
INLINE floats unless_equal(floats a, floats b, floats v) {
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ), v);
}

/* In two factors: the first product is exact, so that a denormal result is rounded once. */
INLINE floats times_power(floats v, floats shifted) {
    __m256i k = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(all_f32(CF__EXPF_RINT)));
    __m256i half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
    return v * _mm256_castsi256_ps(first) * _mm256_castsi256_ps(second);
}

INLINE float largest_lane(floats v) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
INLINE float lane_sum(const floats v[2]) {
    return sum_of_eight(v[0] + v[1]);
}

#endif
