/* The vector functions with AVX2, FMA and F16C, eight lanes at a time. See vector_wide.h. */
#ifdef __AVX2__
#define ISA avx2
#include "node/kernels/vectors/lanes_avx2.h"

INLINE floats rotate(floats x, floats angles) {
    return _mm256_addsub_ps(x * _mm256_moveldup_ps(angles), _mm256_permute_ps(x, 0xb1) * _mm256_movehdup_ps(angles));
}

INLINE void take_apart(floats low, floats high, floats of[2]) {
    floats front = _mm256_permute2f128_ps(low, high, 0x20), back = _mm256_permute2f128_ps(low, high, 0x31);
    of[0] = _mm256_shuffle_ps(front, back, 0x88);
    of[1] = _mm256_shuffle_ps(front, back, 0xdd);
}

#include "node/kernels/vectors/vector_wide.h"

void cf__to_f16_avx2(uint16_t *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}
#endif
