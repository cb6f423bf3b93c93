/* The products and the rounding of activations with AVX-512 and VNNI: the 16 rows of a tile are the 16 lanes.
 *
 * vpdpbusd multiplies unsigned weights with signed activations, so a type whose weights are stored with an offset
 * starts its dot at -offset times the sum of the activations. Weights of a block are loaded (and unpacked) once for up
 * to 8 activation rows. The functions below are written once for all types and numbers of rows and specialised by
 * inlining.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "node/kernels/product.h"
#include "node/kernels/unpack_avx512.h"

enum { ROWS = 8, AHEAD = 4096 /* bytes from a load to its prefetch */ };

INLINE __m512i broadcast32(const void *at) {
    int32_t v;
    memcpy(&v, at, 4);
    return _mm512_set1_epi32(v);
}

/* One block of one activation row: its dot products, in start order scaled into acc. */
INLINE __m512 add_block(
    enum kind kind, const __m512i w[8], struct scales s, const int8_t *q, float d, const int16_t *sum, __m512 acc) {
    const __m512i zero = _mm512_setzero_si512();
    __m512i sums = kind == Q6_K ? zero : broadcast32(sum); /* sums of columns 0..15 and 16..31 in each lane's halves */
    __m512i dot[2] = {zero, zero};
    if (kind == Q8_0) dot[0] = _mm512_dpwssd_epi32(zero, sums, _mm512_set1_epi16(-128));
    if (kind == Q4_0) dot[0] = _mm512_dpwssd_epi32(zero, sums, _mm512_set1_epi16(-8));
    if (kind == Q6_K) {
        dot[0] = _mm512_set1_epi32(-32 * sum[0]);
        dot[1] = _mm512_set1_epi32(-32 * sum[1]);
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        dot[0] = _mm512_dpbusd_epi32(dot[0], w[g], broadcast32(q + 4 * g));
        dot[1] = _mm512_dpbusd_epi32(dot[1], w[g + 4], broadcast32(q + 16 + 4 * g));
    }
    __m512 scale_x = _mm512_set1_ps(d);
    if (kind == Q6_K) {
        acc = _mm512_fmadd_ps(_mm512_mul_ps(s.scale[0], scale_x), _mm512_cvtepi32_ps(dot[0]), acc);
        return _mm512_fmadd_ps(_mm512_mul_ps(s.scale[1], scale_x), _mm512_cvtepi32_ps(dot[1]), acc);
    }
    __m512 total = _mm512_cvtepi32_ps(_mm512_add_epi32(dot[0], dot[1]));
    acc = _mm512_fmadd_ps(_mm512_mul_ps(s.scale[0], scale_x), total, acc);
    if (kind == Q4_K || kind == Q5_K) {
        __m512 sum_x = _mm512_mul_ps(scale_x, _mm512_set1_ps((float)(sum[0] + sum[1])));
        acc = _mm512_fnmadd_ps(s.min, sum_x, acc);
    }
    return acc;
}

INLINE void quantised_rows(const struct cf_product *p, uint32_t i0, const uint32_t n, const enum kind kind) {
    const struct shape shape = shape_of(kind);
    struct cf__cursor k = cf__cursor_at(p->tile, p->tile_c0, p->c0, shape.super, shape.head_bytes, shape.block_bytes);
    const int8_t *q = cf__row_q(p, i0);
    const float *d = cf__row_d(p, i0);
    const int16_t *sum = cf__row_sum(p, i0);
    const size_t stride = p->x->q_stride;
    __m512 acc[ROWS], zero = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n; i++)
        acc[i] = zero;
    while (k.column < p->c1) {
        __m512i w[8];
        for (uint32_t b = 0; i0 == 0 && b < shape.block_bytes; b += 64)
            _mm_prefetch((const char *)k.block + AHEAD + b, _MM_HINT_T0);
        load_weights(kind, k.block, w);
        struct scales s = load_scales(kind, k.head, k.column);
#pragma GCC unroll 8
        for (uint32_t i = 0; i < n; i++)
            acc[i] = add_block(kind, w, s, q + i * stride, d[i * (stride / 32)], sum + i * (stride / 16), acc[i]);
        q += 32;
        d += 1;
        sum += 2;
        cf__cursor_next(&k, shape.super, shape.head_bytes, shape.block_bytes);
    }
    for (uint32_t i = 0; i < n; i++)
        _mm512_storeu_ps(p->y + (size_t)(i0 + i) * CF_TILE, acc[i]);
}

/* Calls `rows(p, i0, count, kind)` with a constant count for up to 8 rows at a time. */
#define BY_ROWS(rows, p, kind)                                                                                         \
    for (uint32_t i0 = 0; i0 < (p)->n; i0 += ROWS)                                                                     \
        switch ((p)->n - i0) {                                                                                         \
        case 1: rows(p, i0, 1, kind); break;                                                                           \
        case 2: rows(p, i0, 2, kind); break;                                                                           \
        case 3: rows(p, i0, 3, kind); break;                                                                           \
        case 4: rows(p, i0, 4, kind); break;                                                                           \
        case 5: rows(p, i0, 5, kind); break;                                                                           \
        case 6: rows(p, i0, 6, kind); break;                                                                           \
        case 7: rows(p, i0, 7, kind); break;                                                                           \
        default: rows(p, i0, 8, kind); break;                                                                          \
        }

void cf__product_q8_0_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q8_0)
}
void cf__product_q4_0_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q4_0)
}
void cf__product_q4_k_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q4_K)
}
void cf__product_q5_k_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q5_K)
}
void cf__product_q6_k_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q6_K)
}

enum float_kind { F32, F16, BF16 };

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
    __m512 acc[ROWS], zero = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n; i++)
        acc[i] = zero;
    for (uint32_t c = 0; c < columns; c++, tile += bytes, x++) {
        if (i0 == 0) _mm_prefetch(tile + AHEAD, _MM_HINT_T0);
        __m512 w = load_floats(kind, tile);
#pragma GCC unroll 8
        for (uint32_t i = 0; i < n; i++)
            acc[i] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[i * stride]), acc[i]);
    }
    for (uint32_t i = 0; i < n; i++)
        _mm512_storeu_ps(p->y + (size_t)(i0 + i) * CF_TILE, acc[i]);
}

void cf__product_f32_avx512(const struct cf_product *p) {
    BY_ROWS(float_rows, p, F32)
}
void cf__product_f16_avx512(const struct cf_product *p) {
    BY_ROWS(float_rows, p, F16)
}
void cf__product_bf16_avx512(const struct cf_product *p) {
    BY_ROWS(float_rows, p, BF16)
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
