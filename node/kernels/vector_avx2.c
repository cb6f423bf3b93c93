/* The vector functions with AVX2, FMA and F16C. Same operations in the same order as vector_scalar.c, eight lanes at a
 * time: a lane is an element, a key (scores) or a value column (P x V), never a part of somebody's sum. */
#include "node/kernels/vector.h"

#ifdef __AVX2__
#include <math.h>

#include "node/kernels/lanes_avx2.h"
#include "node/kernels/tree.h"

void cf__rms_norm_avx2(float *y, const float *x, const float *w, size_t n, float eps) {
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        size_t left = n - i;
        __m256 a = _mm256_maskload_ps(x + i, first_lanes(left));
        __m256 b = _mm256_maskload_ps(x + i + 8, first_lanes(left > 8 ? left - 8 : 0));
        low = _mm256_add_ps(low, _mm256_mul_ps(a, a));
        high = _mm256_add_ps(high, _mm256_mul_ps(b, b));
    }
    float mean = lane_sum(low, high) / (float)n;
    __m256 scale = _mm256_set1_ps(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 a = _mm256_mul_ps(_mm256_maskload_ps(x + i, m), scale);
        if (w) a = _mm256_mul_ps(a, _mm256_maskload_ps(w + i, m));
        _mm256_maskstore_ps(y + i, m, a);
    }
}

void cf__silu_mul_avx2(float *y, const float *g, const float *u, size_t n) {
    __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 a = _mm256_maskload_ps(g + i, m);
        __m256 e = exp_lanes(_mm256_xor_ps(a, sign));
        a = _mm256_div_ps(a, _mm256_add_ps(one, e));
        _mm256_maskstore_ps(y + i, m, _mm256_mul_ps(a, _mm256_maskload_ps(u + i, m)));
    }
}

void cf__tree_sum_avx2(float *v, size_t n, size_t stride, size_t width) {
    cf__tree_sum(v, n, stride, width);
}

void cf__add_avx2(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 a = _mm256_add_ps(_mm256_maskload_ps(y + i, m), _mm256_maskload_ps(x + i, m));
        _mm256_maskstore_ps(y + i, m, a);
    }
}

/* Pairs (2i, 2i+1): four to a vector. */
static void rope_norm(float *x, const float *cs, size_t n_dims) {
    for (size_t i = 0; i < n_dims; i += 8) {
        __m256i m = first_lanes(n_dims - i);
        __m256 a = _mm256_maskload_ps(x + i, m);
        __m256 angles = _mm256_maskload_ps(cs + i, m);
        __m256 by_cos = _mm256_mul_ps(a, _mm256_moveldup_ps(angles));
        __m256 by_sin = _mm256_mul_ps(_mm256_permute_ps(a, 0xb1), _mm256_movehdup_ps(angles));
        _mm256_maskstore_ps(x + i, m, _mm256_addsub_ps(by_cos, by_sin));
    }
}

/* Pairs (i, i + n_dims/2): eight to a vector. */
static void rope_neox(float *x, const float *cs, size_t n_dims) {
    size_t pairs = n_dims / 2;
    for (size_t i = 0; i < pairs; i += 8) {
        size_t left = pairs - i;
        __m256i m = first_lanes(left);
        __m256 low = _mm256_maskload_ps(cs + 2 * i, first_lanes(2 * left));
        __m256 high = _mm256_maskload_ps(cs + 2 * i + 8, first_lanes(left > 4 ? 2 * left - 8 : 0));
        __m256 front = _mm256_permute2f128_ps(low, high, 0x20), back = _mm256_permute2f128_ps(low, high, 0x31);
        __m256 c = _mm256_shuffle_ps(front, back, 0x88), s = _mm256_shuffle_ps(front, back, 0xdd);
        __m256 a = _mm256_maskload_ps(x + i, m), b = _mm256_maskload_ps(x + pairs + i, m);
        _mm256_maskstore_ps(x + i, m, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)));
        _mm256_maskstore_ps(x + pairs + i, m, _mm256_add_ps(_mm256_mul_ps(a, s), _mm256_mul_ps(b, c)));
    }
}

void cf__rope_avx2(float *x, const float *cs, size_t n_dims, bool neox) {
    if (neox) {
        rope_neox(x, cs, n_dims);
    } else {
        rope_norm(x, cs, n_dims);
    }
}

void cf__to_f16_avx2(uint16_t *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}
#endif
