/* The vector functions with AVX-512 (F, BW, VL, DQ). Same operations in the same order as vector_scalar.c, sixteen
 * lanes at a time: a lane is an element, a key (scores) or a value column (P x V), never a part of somebody's sum. */
#include "node/kernels/vector.h"

#ifdef __AVX512F__
#include <math.h>

#include "node/kernels/lanes_avx512.h"
#include "node/kernels/tree.h"

void cf__rms_norm_avx512(float *y, const float *x, const float *w, size_t n, float eps) {
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __m512 a = _mm512_maskz_loadu_ps(first_lanes(n - i), x + i);
        lanes = _mm512_add_ps(lanes, _mm512_mul_ps(a, a));
    }
    float mean = lane_sum(lanes) / (float)n;
    __m512 scale = _mm512_set1_ps(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 a = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), scale);
        if (w) a = _mm512_mul_ps(a, _mm512_maskz_loadu_ps(m, w + i));
        _mm512_mask_storeu_ps(y + i, m, a);
    }
}

void cf__silu_mul_avx512(float *y, const float *g, const float *u, size_t n) {
    __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 a = _mm512_maskz_loadu_ps(m, g + i);
        __m512 e = exp_lanes(_mm512_xor_ps(a, sign));
        a = _mm512_div_ps(a, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(a, _mm512_maskz_loadu_ps(m, u + i)));
    }
}

void cf__tree_sum_avx512(float *v, size_t n, size_t stride, size_t width) {
    cf__tree_sum(v, n, stride, width);
}

void cf__add_avx512(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 a = _mm512_add_ps(_mm512_maskz_loadu_ps(m, y + i), _mm512_maskz_loadu_ps(m, x + i));
        _mm512_mask_storeu_ps(y + i, m, a);
    }
}

/* Pairs (2i, 2i+1): eight to a vector. */
static void rope_norm(float *x, const float *cs, size_t n_dims) {
    for (size_t i = 0; i < n_dims; i += 16) {
        __mmask16 m = first_lanes(n_dims - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i);
        __m512 angles = _mm512_maskz_loadu_ps(m, cs + i);
        __m512 by_cos = _mm512_mul_ps(a, _mm512_moveldup_ps(angles));
        __m512 by_sin = _mm512_mul_ps(_mm512_permute_ps(a, 0xb1), _mm512_movehdup_ps(angles));
        a = _mm512_mask_sub_ps(_mm512_add_ps(by_cos, by_sin), 0x5555, by_cos, by_sin);
        _mm512_mask_storeu_ps(x + i, m, a);
    }
}

/* Pairs (i, i + n_dims/2): sixteen to a vector. */
static void rope_neox(float *x, const float *cs, size_t n_dims) {
    size_t pairs = n_dims / 2;
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (size_t i = 0; i < pairs; i += 16) {
        size_t left = pairs - i;
        __mmask16 m = first_lanes(left);
        __m512 low = _mm512_maskz_loadu_ps(first_lanes(2 * left), cs + 2 * i);
        __m512 high = _mm512_maskz_loadu_ps(first_lanes(left > 8 ? 2 * left - 16 : 0), cs + 2 * i + 16);
        __m512 c = _mm512_permutex2var_ps(low, even, high), s = _mm512_permutex2var_ps(low, odd, high);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + pairs + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + pairs + i, m, _mm512_add_ps(_mm512_mul_ps(a, s), _mm512_mul_ps(b, c)));
    }
}

void cf__rope_avx512(float *x, const float *cs, size_t n_dims, bool neox) {
    if (neox) {
        rope_neox(x, cs, n_dims);
    } else {
        rope_norm(x, cs, n_dims);
    }
}

void cf__to_f16_avx512(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i);
        _mm256_mask_storeu_epi16(y + i, m, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}
#endif
