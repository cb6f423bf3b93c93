/* With AVX-512: the products of the types that most files are made of (product_512.h), of the float types, and the
 * rounding of activations.
 */
#if defined(__x86_64__)

#include "node/kernels/products/product_512.h"

enum { FLOAT_ROWS = 12 }; /* F32 and BF16 run faster in groups of 12: README.md */

INLINE __m512 load_floats(enum float_kind kind, const char *column) {
    if (kind == F32) return _mm512_loadu_ps(column);
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)column);
    if (kind == F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

INLINE void float_rows(const struct cf_product *p, uint32_t i0, const uint32_t n, const enum float_kind kind) {
    const uint32_t bytes = kind == F32 ? 64 : 32, columns = p->c1 - p->c0;
    const char *tile = cf__float_column(p, bytes / CF_TILE);
    const float *x = cf__row_f(p, i0);
    const size_t stride = p->x->f_stride;
    __m512 acc[ROWS];
#pragma GCC unroll 16
    for (uint32_t i = 0; i < n; i++)
        acc[i] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < columns; c++, tile += bytes, x++) {
        if (i0 == 0 && (kind == F32 || c % 2 == 0)) fetch_bytes(tile, 64);
        __m512 w = load_floats(kind, tile);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < n; i++)
            acc[i] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[i * stride]), acc[i]);
    }
#pragma GCC unroll 16
    for (uint32_t i = 0; i < n; i++)
        _mm512_storeu_ps(p->y + (size_t)(i0 + i) * CF_TILE, acc[i]);
}

/* Calls `rows(p, i0, count, kind)` with a constant count for up to at_once (at most 16) rows at a time, as even as can
 * be. */
#define BY_ROWS(rows, p, kind, at_once)                                                                                \
    const uint32_t passes = ((p)->n + (at_once)-1) / (at_once), most = passes ? ((p)->n + passes - 1) / passes : 0;    \
    for (uint32_t i0 = 0; i0 < (p)->n; i0 += most)                                                                     \
        switch ((p)->n - i0 < most ? (p)->n - i0 : most) {                                                             \
        case 1: rows(p, i0, 1, kind); break;                                                                           \
        case 2: rows(p, i0, 2, kind); break;                                                                           \
        case 3: rows(p, i0, 3, kind); break;                                                                           \
        case 4: rows(p, i0, 4, kind); break;                                                                           \
        case 5: rows(p, i0, 5, kind); break;                                                                           \
        case 6: rows(p, i0, 6, kind); break;                                                                           \
        case 7: rows(p, i0, 7, kind); break;                                                                           \
        case 8: rows(p, i0, 8, kind); break;                                                                           \
        case 9: rows(p, i0, 9, kind); break;                                                                           \
        case 10: rows(p, i0, 10, kind); break;                                                                         \
        case 11: rows(p, i0, 11, kind); break;                                                                         \
        case 12: rows(p, i0, 12, kind); break;                                                                         \
        case 13: rows(p, i0, 13, kind); break;                                                                         \
        case 14: rows(p, i0, 14, kind); break;                                                                         \
        case 15: rows(p, i0, 15, kind); break;                                                                         \
        default: rows(p, i0, 16, kind); break;                                                                         \
        }

#define PRODUCT(none, lower, upper)                                                                                    \
    void cf__product_##lower##_avx512(const struct cf_product *p) {                                                    \
        BY_ROWS(quantised_rows, p, upper, ROWS)                                                                        \
    }
CF__QUANTISED_MAIN(PRODUCT, )

void cf__product_f32_avx512(const struct cf_product *p) {
    BY_ROWS(float_rows, p, F32, FLOAT_ROWS)
}
void cf__product_f16_avx512(const struct cf_product *p) {
    BY_ROWS(float_rows, p, F16, ROWS)
}
void cf__product_bf16_avx512(const struct cf_product *p) {
    BY_ROWS(float_rows, p, BF16, FLOAT_ROWS)
}

int cf__quantise_avx512(const float *x, size_t n, int8_t *q, float *d, int16_t *sum) {
    const __m512 largest = _mm512_set1_ps(__FLT_MAX__);
    for (; n; n -= 32, x += 32, q += 32, d += 1, sum += 2) {
        __m512 v[2] = {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)};
        __m512 a[2] = {_mm512_abs_ps(v[0]), _mm512_abs_ps(v[1])};
        if (_mm512_cmp_ps_mask(a[0], largest, _CMP_NLE_UQ) | _mm512_cmp_ps_mask(a[1], largest, _CMP_NLE_UQ)) return -1;
        float absmax = _mm512_reduce_max_ps(_mm512_max_ps(a[0], a[1]));
        float inverse = absmax < CF__TINY ? 0 : 127.0f / absmax;
        *d = absmax < CF__TINY ? 0 : absmax / 127.0f;
        for (int h = 0; h < 2; h++) {
            __m512i r = _mm512_cvtps_epi32(_mm512_mul_ps(v[h], _mm512_set1_ps(inverse))); /* to nearest even */
            _mm_storeu_si128((__m128i *)(void *)(q + 16 * h), _mm512_cvtepi32_epi8(r));
            sum[h] = (int16_t)_mm512_reduce_add_epi32(r);
        }
    }
    return 0;
}

#endif
