/* Sixteen lanes with AVX-512 (F, BW, VL, DQ; lanes_wide.h says what is defined here). */
#ifndef COFFER_NODE_KERNELS_LANES_AVX512_H
#define COFFER_NODE_KERNELS_LANES_AVX512_H

#include "node/kernels/vectors/lanes_wide.h"

typedef __m512 floats;
typedef __mmask16 mask;
enum { LANES = 16, HALVES_IN_PART = 1 };

INLINE mask first_lanes(size_t n) {
    return (mask)(n >= 16 ? 0xffffu : (1u << n) - 1);
}
INLINE mask lanes_between(size_t from, size_t to) {
    return first_lanes(to) & (mask)~first_lanes(from);
}
INLINE floats all_f32(float x) {
    return _mm512_set1_ps(x);
}

INLINE floats load(const float *p) {
    return _mm512_loadu_ps(p);
}
INLINE void store(float *p, floats v) {
    _mm512_storeu_ps(p, v);
}
INLINE floats load_first(const float *p, mask m) {
    return _mm512_maskz_loadu_ps(m, p);
}
INLINE void store_first(float *p, mask m, floats v) {
    _mm512_mask_storeu_ps(p, m, v);
}
INLINE floats load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE floats load_first_f16(const uint16_t *p, mask m) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
}

INLINE floats fma_f32(floats a, floats b, floats c) {
    return _mm512_fmadd_ps(a, b, c);
}
INLINE floats fnma_f32(floats a, floats b, floats c) {
    return _mm512_fnmadd_ps(a, b, c);
}
INLINE floats larger(floats a, floats b) {
    return _mm512_max_ps(b, a);
}
INLINE floats smaller(floats a, floats b) {
    return _mm512_min_ps(b, a);
}
INLINE floats larger_where(mask m, floats a, floats b) {
    return _mm512_mask_max_ps(a, m, b, a);
}
INLINE floats add_where(mask m, floats a, floats b) {
    return _mm512_mask_add_ps(a, m, a, b);
}
INLINE floats unless_equal(floats a, floats b, floats v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ), v);
}

INLINE floats times_power(floats v, floats shifted) {
    return _mm512_scalef_ps(v, shifted - all_f32(CF__EXPF_RINT));
}

INLINE float largest_lane(floats v) {
    return _mm512_reduce_max_ps(v);
}
INLINE float lane_sum(const floats v[1]) {
    return sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(v[0]), _mm512_extractf32x8_ps(v[0], 1)));
}

#endif
