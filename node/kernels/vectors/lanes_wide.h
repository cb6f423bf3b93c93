/* Eight or sixteen lanes: what attend_wide.h and vector_wide.h are written over.
 *
 * Additions, products and the like are the compiler's vectors (GCC and Clang). The rest comes from the header of an
 * instruction set, which includes this one: lanes_avx2.h, lanes_avx512.h. Each defines
 *
 *     floats, mask, LANES         the types of a vector and of a choice of its lanes, and their number
 *     first_lanes(n)              the first n lanes, all from LANES on
 *     lanes_between(from, to)     the first `to` lanes without the first `from`
 *     all_f32(x)
 *     load(p), store(p, v)
 *     load_first(p, m)            +0 in lanes that m does not choose
 *     store_first(p, m, v)        those that m chooses
 *     load_f16(p)                 halves to f32, exactly
 *     HALVES_IN_PART              whether load_first_f16(p, m) can leave out lanes; else m must choose all
 *     fma_f32(a, b, c)            a * b + c rounded once, as fmaf
 *     fnma_f32(a, b, c)           -a * b + c
 *     larger(a, b), smaller(a, b) a NaN in a stays, one in b is passed over
 *     larger_where(m, a, b)       larger(a, b) in lanes of m, else a
 *     add_where(m, a, b)          a + b in lanes of m, else a, which is not -0
 *     unless_equal(a, b, v)       v where a differs from b, else +0
 *     times_power(v, shifted)     v * 2^n, rounded once; shifted: CF__EXPF_RINT + n
 *     largest_lane(v)
 *     lane_sum(v)                 of 16 lanes in 16 / LANES vectors: l and l+8, +4, +2, +1
 *
 * Included by these files only, so the names are short.
 */
#ifndef COFFER_NODE_KERNELS_LANES_WIDE_H
#define COFFER_NODE_KERNELS_LANES_WIDE_H

#include <immintrin.h>

#include "node/kernels/isa.h"
#include "node/kernels/vectors/vector.h"

/* Lanes l and l+4, +2, +1. */
INLINE float sum_of_eight(__m256 eight) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#endif
