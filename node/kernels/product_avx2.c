/* The products and the rounding of activations with AVX2 and FMA: the 16 rows of a tile are two halves of 8 lanes.
 *
 * vpmaddubsw adds pairs in 16 bits and saturates, which must never happen: weights below 64 are taken as they are
 * stored (4 or more products of Q4, Q5 fit; 2 of Q6), the dot then begins at -offset times the sum of the activations;
 * Q8_0 takes |w| times q with the sign of w (128 * 127 * 2 fits). Activations lie in -127..127. Weights of a block are
 * loaded once for up to 4 activation rows: there are 16 registers.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "node/kernels/product.h"
#include "node/kernels/tile.h"

#define INLINE static inline __attribute__((always_inline))

enum { ROWS = 4 };
/* Bytes from a load to its prefetch into the second and the first cache: see unpack_avx512.h. */
enum { FAR = 8192, NEAR = 1024 };
enum kind { Q8_0, Q4_0, Q4_K, Q5_K, Q6_K };

struct shape {
    uint32_t super, head_bytes, block_bytes;
};

INLINE struct shape shape_of(enum kind kind) {
    switch (kind) {
    case Q8_0: return (struct shape){64, sizeof(struct cf__head_pair), sizeof(struct cf__block_q8_0)};
    case Q4_0: return (struct shape){64, sizeof(struct cf__head_pair), sizeof(struct cf__block_q4)};
    case Q4_K: return (struct shape){256, sizeof(struct cf__head_k), sizeof(struct cf__block_q4)};
    case Q5_K: return (struct shape){256, sizeof(struct cf__head_k), sizeof(struct cf__block_q5_k)};
    default: return (struct shape){256, sizeof(struct cf__head_q6_k), sizeof(struct cf__block_q6_k)};
    }
}

INLINE void fetch_line(const void *at) {
    _mm_prefetch((const char *)at + FAR, _MM_HINT_T1);
    _mm_prefetch((const char *)at + NEAR, _MM_HINT_T0);
}

/* As many bytes as the walk passes here: the block's, and the head's where the walk enters a super-block. */
INLINE void fetch_ahead(const struct cf__cursor *k, struct shape shape) {
    if (k->block == k->head + shape.head_bytes)
        for (uint32_t at = 0; at < shape.head_bytes; at += 64)
            fetch_line(k->head + at);
    for (uint32_t at = 0; at < shape.block_bytes; at += 64)
        fetch_line(k->block + at);
}

INLINE __m256i load(const void *at) {
    return _mm256_loadu_si256(at);
}

/* Rows 8 * half .. of vector v. */
INLINE __m256i load_vector(const void *vectors, int v, int half) {
    return load((const uint8_t *)vectors + 64 * v + 32 * half);
}

INLINE void load_nibbles(const uint8_t *low, int half, __m256i w[8]) {
    const __m256i mask = _mm256_set1_epi8(15);
    for (int g = 0; g < 4; g++) {
        __m256i v = load_vector(low, g, half);
        w[g] = _mm256_and_si256(v, mask);
        w[g + 4] = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);
    }
}

/* w | (v shifted left by `left` bits & mask) */
INLINE __m256i merge(__m256i w, __m256i v, int left, __m256i mask) {
    __m256i moved = left >= 0 ? _mm256_slli_epi16(v, left) : _mm256_srli_epi16(v, -left);
    return _mm256_or_si256(w, _mm256_and_si256(moved, mask));
}

/* The 32 columns of a block as 8 vectors of 4 columns of 8 rows: signed for Q8_0, else unsigned. */
INLINE void load_weights(enum kind kind, const uint8_t *block, int half, __m256i w[8]) {
    if (kind == Q8_0) {
        for (int g = 0; g < 8; g++)
            w[g] = _mm256_xor_si256(load_vector(block, g, half), _mm256_set1_epi8(-128));
        return;
    }
    load_nibbles(block, half, w);
    if (kind == Q5_K) {
        __m256i high = load_vector(((const struct cf__block_q5_k *)block)->high, 0, half);
        const __m256i mask = _mm256_set1_epi8(0x10);
        for (int g = 0; g < 8; g++)
            w[g] = merge(w[g], high, 4 - g, mask);
    }
    if (kind == Q6_K) {
        const struct cf__block_q6_k *b = (const void *)block;
        __m256i high[2] = {load_vector(b->high, 0, half), load_vector(b->high, 1, half)};
        const __m256i mask = _mm256_set1_epi8(0x30);
        for (int g = 0; g < 8; g++)
            w[g] = merge(w[g], high[g / 4], 4 - g % 4 * 2, mask);
    }
}

INLINE __m256 load_f16(const uint16_t *h, int half) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(h + 8 * half)));
}
INLINE __m256 load_u8(const uint8_t *b, int half) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(b + 8 * half))));
}
INLINE __m256 load_i8(const int8_t *b, int half) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(b + 8 * half))));
}

/* Scales of a block by lane: two for Q6_K, else scale[0] only. */
struct scales {
    __m256 scale[2], min;
};

INLINE struct scales load_scales(enum kind kind, const uint8_t *head, uint32_t column, int half) {
    struct scales s;
    if (kind == Q8_0 || kind == Q4_0) {
        s.scale[0] = load_f16(((const struct cf__head_pair *)(const void *)head)->d[column / 32 % 2], half);
        s.scale[1] = s.min = s.scale[0];
    } else if (kind == Q6_K) {
        const struct cf__head_q6_k *h = (const void *)head;
        __m256 d = load_f16(h->d, half);
        s.scale[0] = _mm256_mul_ps(d, load_i8(h->scale[column % 256 / 16], half));
        s.scale[1] = _mm256_mul_ps(d, load_i8(h->scale[column % 256 / 16 + 1], half));
        s.min = d;
    } else {
        const struct cf__head_k *h = (const void *)head;
        s.scale[0] = _mm256_mul_ps(load_f16(h->d, half), load_u8(h->scale[column % 256 / 32], half));
        s.scale[1] = s.scale[0];
        s.min = _mm256_mul_ps(load_f16(h->dmin, half), load_u8(h->min[column % 256 / 32], half));
    }
    return s;
}

/* 16-bit sums of pairs of products of 4 columns. */
INLINE __m256i pairs(enum kind kind, __m256i w, const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    __m256i x = _mm256_set1_epi32(four);
    if (kind == Q8_0) return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_maddubs_epi16(w, x);
}

INLINE __m256i widen(__m256i pairs16) {
    return _mm256_madd_epi16(pairs16, _mm256_set1_epi16(1));
}

/* The dot product of 16 columns (4 vectors) without its offset. */
INLINE __m256i dot16(enum kind kind, const __m256i w[4], const int8_t *q) {
    __m256i a = pairs(kind, w[0], q), b = pairs(kind, w[1], q + 4);
    __m256i c = pairs(kind, w[2], q + 8), d = pairs(kind, w[3], q + 12);
    if (kind == Q8_0)
        return _mm256_add_epi32(_mm256_add_epi32(widen(a), widen(b)), _mm256_add_epi32(widen(c), widen(d)));
    __m256i ab = _mm256_add_epi16(a, b), cd = _mm256_add_epi16(c, d);
    if (kind == Q6_K) return _mm256_add_epi32(widen(ab), widen(cd));
    return widen(_mm256_add_epi16(ab, cd));
}

/* One block of one activation row, scaled into acc. */
INLINE __m256 add_block(
    enum kind kind, const __m256i w[8], struct scales s, const int8_t *q, float d, const int16_t *sum, __m256 acc) {
    __m256i dot[2] = {dot16(kind, w, q), dot16(kind, w + 4, q + 16)};
    __m256 scale_x = _mm256_set1_ps(d);
    if (kind == Q6_K) {
        dot[0] = _mm256_add_epi32(dot[0], _mm256_set1_epi32(-32 * sum[0]));
        dot[1] = _mm256_add_epi32(dot[1], _mm256_set1_epi32(-32 * sum[1]));
        acc = _mm256_fmadd_ps(_mm256_mul_ps(s.scale[0], scale_x), _mm256_cvtepi32_ps(dot[0]), acc);
        return _mm256_fmadd_ps(_mm256_mul_ps(s.scale[1], scale_x), _mm256_cvtepi32_ps(dot[1]), acc);
    }
    __m256i total = _mm256_add_epi32(dot[0], dot[1]);
    if (kind == Q4_0) total = _mm256_add_epi32(total, _mm256_set1_epi32(-8 * (sum[0] + sum[1])));
    acc = _mm256_fmadd_ps(_mm256_mul_ps(s.scale[0], scale_x), _mm256_cvtepi32_ps(total), acc);
    if (kind == Q4_K || kind == Q5_K) {
        __m256 sum_x = _mm256_mul_ps(scale_x, _mm256_set1_ps((float)(sum[0] + sum[1])));
        acc = _mm256_fnmadd_ps(s.min, sum_x, acc);
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
    __m256 acc[2][ROWS], zero = _mm256_setzero_ps();
    for (uint32_t i = 0; i < n; i++)
        acc[0][i] = acc[1][i] = zero;
    while (k.column < p->c1) {
        if (i0 == 0) fetch_ahead(&k, shape);
        for (int half = 0; half < 2; half++) {
            __m256i w[8];
            load_weights(kind, k.block, half, w);
            struct scales s = load_scales(kind, k.head, k.column, half);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < n; i++)
                acc[half][i] =
                    add_block(kind, w, s, q + i * stride, d[i * (stride / 32)], sum + i * (stride / 16), acc[half][i]);
        }
        q += 32;
        d += 1;
        sum += 2;
        cf__cursor_next(&k, shape.super, shape.head_bytes, shape.block_bytes);
    }
    for (uint32_t i = 0; i < n; i++) {
        _mm256_storeu_ps(p->y + (size_t)(i0 + i) * CF_TILE, acc[0][i]);
        _mm256_storeu_ps(p->y + (size_t)(i0 + i) * CF_TILE + 8, acc[1][i]);
    }
}

/* Calls `rows(p, i0, count, kind)` with a constant count for up to 4 rows at a time. */
#define BY_ROWS(rows, p, kind)                                                                                         \
    for (uint32_t i0 = 0; i0 < (p)->n; i0 += ROWS)                                                                     \
        switch ((p)->n - i0) {                                                                                         \
        case 1: rows(p, i0, 1, kind); break;                                                                           \
        case 2: rows(p, i0, 2, kind); break;                                                                           \
        case 3: rows(p, i0, 3, kind); break;                                                                           \
        default: rows(p, i0, 4, kind); break;                                                                          \
        }

void cf__product_q8_0_avx2(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q8_0)
}
void cf__product_q4_0_avx2(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q4_0)
}
void cf__product_q4_k_avx2(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q4_K)
}
void cf__product_q5_k_avx2(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q5_K)
}
void cf__product_q6_k_avx2(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q6_K)
}

enum float_kind { F32, F16, BF16 };

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
    __m256 acc[2][ROWS], zero = _mm256_setzero_ps();
    for (uint32_t i = 0; i < n; i++)
        acc[0][i] = acc[1][i] = zero;
    for (uint32_t c = 0; c < columns; c++, tile += bytes, x++) {
        if (i0 == 0 && (kind == F32 || c % 2 == 0)) fetch_line(tile);
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
