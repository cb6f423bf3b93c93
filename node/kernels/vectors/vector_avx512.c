/* The vector functions with AVX-512 (F, BW, VL, DQ), sixteen lanes at a time. See vector_wide.h. */
#ifdef __AVX512F__
#define ISA avx512
#include "node/kernels/vectors/lanes_avx512.h"

INLINE floats rotate(floats x, floats angles) {
    floats by_cos = x * _mm512_moveldup_ps(angles);
    floats by_sin = _mm512_permute_ps(x, 0xb1) * _mm512_movehdup_ps(angles);
    return _mm512_mask_sub_ps(by_cos + by_sin, 0x5555, by_cos, by_sin);
}

INLINE void take_apart(floats low, floats high, floats of[2]) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    of[0] = _mm512_permutex2var_ps(low, even, high);
    of[1] = _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high);
}

#include "node/kernels/vectors/vector_wide.h"

void cf__to_f16_avx512(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        mask m = first_lanes(n - i);
        __m256i h = _mm512_cvtps_ph(load_first(x + i, m), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16(y + i, m, h);
    }
}
#endif
