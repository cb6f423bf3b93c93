/* With AVX2 and FMA: the quantised products (product_256.h), those of the float types, and the rounding of activations.
 */
#if defined(__x86_64__)

#include "node/kernels/products/product_256.h"

#define PRODUCT(none, lower, upper)                                                                                    \
    void cf__product_##lower##_avx2(const struct cf_product *p) {                                                      \
        quantised(p, upper);                                                                                           \
    }
CF__QUANTISED(PRODUCT, )

/* Calls `rows(p, i0, count, kind)` with a constant count for up to 4 rows at a time. */
#define BY_ROWS(rows, p, kind)                                                                                         \
    for (uint32_t i0 = 0; i0 < (p)->n; i0 += GROUP)                                                                    \
        switch ((p)->n - i0) {                                                                                         \
        case 1: rows(p, i0, 1, kind); break;                                                                           \
        case 2: rows(p, i0, 2, kind); break;                                                                           \
        case 3: rows(p, i0, 3, kind); break;                                                                           \
        default: rows(p, i0, GROUP, kind); break;                                                                      \
        }

INLINE __m256 load_floats(enum float_kind kind, const char *column, int half) {
    if (kind == F32) return _mm256_loadu_ps((const float *)(const void *)(column + 32 * half));
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(column + 16 * half));
    if (kind == F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE void float_rows(const struct cf_product *p, uint32_t i0, const uint32_t n, const enum float_kind kind) {
    const uint32_t bytes = kind == F32 ? 64 : 32, columns = p->c1 - p->c0;
    const char *tile = cf__float_column(p, bytes / CF_TILE);
    const float *x = cf__row_f(p, i0);
    const size_t stride = p->x->f_stride;
    __m256 acc[2][GROUP], zero = _mm256_setzero_ps();
    for (uint32_t i = 0; i < n; i++)
        acc[0][i] = acc[1][i] = zero;
    for (uint32_t c = 0; c < columns; c++, tile += bytes, x++) {
        if (i0 == 0 && (kind == F32 || c % 2 == 0)) fetch_bytes(tile, 64);
        __m256 w[2] = {load_floats(kind, tile, 0), load_floats(kind, tile, 1)};
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++) {
            __m256 v = _mm256_set1_ps(x[i * stride]);
            acc[0][i] = _mm256_fmadd_ps(w[0], v, acc[0][i]);
            acc[1][i] = _mm256_fmadd_ps(w[1], v, acc[1][i]);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        _mm256_storeu_ps(p->y + (size_t)(i0 + i) * CF_TILE, acc[0][i]);
        _mm256_storeu_ps(p->y + (size_t)(i0 + i) * CF_TILE + 8, acc[1][i]);
    }
}

void cf__product_f32_avx2(const struct cf_product *p) {
    BY_ROWS(float_rows, p, F32)
}
void cf__product_f16_avx2(const struct cf_product *p) {
    BY_ROWS(float_rows, p, F16)
}
void cf__product_bf16_avx2(const struct cf_product *p){BY_ROWS(float_rows, p, BF16)}

INLINE __m256 maximum(__m256 a, __m256 b) {
    return _mm256_max_ps(a, b);
}

INLINE float across(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

int cf__quantise_avx2(const float *x, size_t n, int8_t *q, float *d, int16_t *sum) {
    const __m256 sign = _mm256_set1_ps(-0.0f), largest = _mm256_set1_ps(__FLT_MAX__);
    for (; n; n -= 32, x += 32, q += 32, d += 1, sum += 2) {
        __m256 v[4], a[4], bad = _mm256_setzero_ps();
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            a[i] = _mm256_andnot_ps(sign, v[i]);
            bad = _mm256_or_ps(bad, _mm256_cmp_ps(a[i], largest, _CMP_NLE_UQ));
        }
        if (_mm256_movemask_ps(bad)) return -1;
        float absmax = across(maximum(maximum(a[0], a[1]), maximum(a[2], a[3])));
        float inverse = absmax < CF__TINY ? 0 : 127.0f / absmax;
        *d = absmax < CF__TINY ? 0 : absmax / 127.0f;
        for (int h = 0; h < 2; h++) {
            __m256i r0 = _mm256_cvtps_epi32(_mm256_mul_ps(v[2 * h], _mm256_set1_ps(inverse))); /* to nearest even */
            __m256i r1 = _mm256_cvtps_epi32(_mm256_mul_ps(v[2 * h + 1], _mm256_set1_ps(inverse)));
            __m256i r16 = _mm256_permute4x64_epi64(_mm256_packs_epi32(r0, r1), 0xd8); /* packs works in halves */
            __m128i low = _mm256_castsi256_si128(r16), high = _mm256_extracti128_si256(r16, 1);
            _mm_storeu_si128((__m128i *)(void *)(q + 16 * h), _mm_packs_epi16(low, high));
            __m128i s = _mm_madd_epi16(_mm_add_epi16(low, high), _mm_set1_epi16(1));
            s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
            sum[h] = (int16_t)(_mm_cvtsi128_si32(s) + _mm_extract_epi32(s, 1));
        }
    }
    return 0;
}

#endif
