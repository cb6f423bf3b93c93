/* The products and the rounding of activations with AVX-512 and VNNI: the 16 rows of a tile are the 16 lanes.
 *
 * vpdpbusd multiplies unsigned weights with signed activations, so a type whose weights are stored with an offset
 * starts its dot at -offset times the sum of the activations. Up to 16 activation rows go together: the dot of the
 * block in hand lies in a register of each, the sums lie in the first cache, and every vector of weights is loaded (and
 * unpacked) once for all of them. What a row adds to a block beside its dot is computed for a panel of 16 blocks at a
 * time and then taken from memory by broadcast, which costs no arithmetic port. The functions below are written once
 * for all types and numbers of rows and specialised by inlining.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "node/kernels/product.h"
#include "node/kernels/unpack_avx512.h"

enum { ROWS = 16, FLOAT_ROWS = 12, PANEL = 16 }; /* F32 and BF16 run faster in groups of 12: README.md */

INLINE __m512i broadcast32(const void *at) {
    int32_t v;
    memcpy(&v, at, 4);
    return _mm512_set1_epi32(v);
}

/* One activation row over a panel of blocks. */
struct panel {
    int32_t start[2 * PANEL]; /* of the dot of each block (Q6_K: of each half of one) */
    float d[PANEL];
    float sum_x[PANEL]; /* d * sum(q), for types with a minimum */
};

INLINE void prepare(enum kind kind, struct panel *to, const float *d, const int16_t *sum, uint32_t n_blocks) {
    const __mmask16 blocks = (__mmask16)((1u << n_blocks) - 1);
    const __m512 scale = _mm512_maskz_loadu_ps(blocks, d);
    const __m512i halves = _mm512_maskz_loadu_epi16((__mmask32)((1ull << 2 * n_blocks) - 1), sum);
    _mm512_store_ps(to->d, scale);
    if (kind == Q8_0) _mm512_store_si512(to->start, _mm512_madd_epi16(halves, _mm512_set1_epi16(-128)));
    if (kind == Q4_0) _mm512_store_si512(to->start, _mm512_madd_epi16(halves, _mm512_set1_epi16(-8)));
    if (kind == Q6_K)
        for (int h = 0; h < 2; h++) {
            __m256i half = h ? _mm512_extracti64x4_epi64(halves, 1) : _mm512_castsi512_si256(halves);
            __m512i times32 = _mm512_slli_epi32(_mm512_cvtepi16_epi32(half), 5);
            _mm512_store_si512(to->start + PANEL * h, _mm512_sub_epi32(_mm512_setzero_si512(), times32));
        }
    if (has_min(kind)) {
        __m512i whole = _mm512_madd_epi16(halves, _mm512_set1_epi16(1));
        _mm512_store_ps(to->sum_x, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(whole)));
    }
}

/* Vector v of the weights of a block: the low nibbles or bytes of group v, or the high nibbles of group v + 4. */
INLINE __m512i weights(enum kind kind, const uint8_t *block, int g) {
    const __m512i mask = _mm512_set1_epi8(15);
    if (kind == Q8_0) return _mm512_loadu_si512(block + 64 * g);
    __m512i v = _mm512_loadu_si512(block + 64 * (g % 4));
    v = _mm512_and_si512(g < 4 ? v : _mm512_srli_epi16(v, 4), mask);
    if (kind == Q5_K) {
        __m512i high = _mm512_loadu_si512(((const struct cf__block_q5_k *)block)->high);
        v = merge(v, g < 4 ? _mm512_slli_epi16(high, g < 4 ? 4 - g : 0) : _mm512_srli_epi16(high, g > 4 ? g - 4 : 0),
            _mm512_set1_epi8(0x10));
    }
    if (kind == Q6_K) {
        __m512i high = _mm512_loadu_si512(((const struct cf__block_q6_k *)block)->high[g / 4]);
        int at = g % 4 * 2;
        v = merge(v,
            at < 4 ? _mm512_slli_epi16(high, at < 4 ? 4 - at : 0) : _mm512_srli_epi16(high, at > 4 ? at - 4 : 0),
            _mm512_set1_epi8(0x30));
    }
    return v;
}

/* Where the activations of up to 16 rows lie: a pointer for every fourth, so that all fit the general registers. */
struct lines {
    const int8_t *at[ROWS / 4];
    size_t one, three; /* rows, in bytes */
};

INLINE const int8_t *line(const struct lines *l, uint32_t i) {
    const int8_t *at = l->at[i / 4];
    return i % 4 == 0 ? at : i % 4 == 1 ? at + l->one : i % 4 == 2 ? at + 2 * l->one : at + l->three;
}

/* dot[i] += groups [g0, g1) of a block times row i, group by group in turn for all rows: so the additions of as many
 * rows as there are hide each other's latency, with few instructions waiting. */
INLINE void add_groups(
    enum kind kind, const uint32_t n, const uint8_t *block, int g0, int g1, const struct lines *q, __m512i dot[ROWS]) {
#pragma GCC unroll 8
    for (int g = g0; g < g1; g++) {
        const __m512i w = weights(kind, block, g);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < n; i++)
            dot[i] = _mm512_dpbusd_epi32(dot[i], w, broadcast32(line(q, i) + 4 * g));
    }
}

/* sum[i] += scale * d * dot[i] and, for types with a minimum, -min * sum_x */
INLINE void scale_dots(enum kind kind, const uint32_t n, __m512 scale, __m512 min, const struct panel *panel,
    uint32_t b, const __m512i dot[ROWS], float sum[ROWS][CF_TILE]) {
#pragma GCC unroll 16
    for (uint32_t i = 0; i < n; i++) {
        const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(panel[i].d[b]));
        __m512 acc = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(dot[i]), _mm512_load_ps(sum[i]));
        if (has_min(kind)) acc = _mm512_fnmadd_ps(min, _mm512_set1_ps(panel[i].sum_x[b]), acc);
        _mm512_store_ps(sum[i], acc);
    }
}

INLINE void start_dots(enum kind kind, const uint32_t n, const struct panel *panel, uint32_t at, __m512i dot[ROWS]) {
#pragma GCC unroll 16
    for (uint32_t i = 0; i < n; i++)
        dot[i] = has_min(kind) ? _mm512_setzero_si512() : broadcast32(&panel[i].start[at]);
}

INLINE void add_block(enum kind kind, const uint32_t n, const struct cf__cursor *k, const struct lines *q,
    const struct panel *panel, uint32_t b, float sum[ROWS][CF_TILE]) {
    const struct scales s = load_scales(kind, k->head, k->column);
    __m512i dot[ROWS];
    if (kind == Q6_K) {
        for (uint32_t h = 0; h < 2; h++) {
            start_dots(kind, n, panel, 2 * b + h, dot);
            add_groups(kind, n, k->block, 4 * (int)h, 4 * (int)h + 4, q, dot);
            scale_dots(kind, n, s.scale[h], s.min, panel, b, dot, sum);
        }
        return;
    }
    start_dots(kind, n, panel, b, dot);
    add_groups(kind, n, k->block, 0, 8, q, dot);
    scale_dots(kind, n, s.scale[0], s.min, panel, b, dot, sum);
}

INLINE void quantised_rows(const struct cf_product *p, uint32_t i0, const uint32_t n, const enum kind kind) {
    const struct shape shape = shape_of(kind);
    struct cf__cursor k = cf__cursor_at(p->tile, p->tile_c0, p->c0, shape.super, shape.head_bytes, shape.block_bytes);
    const float *d = cf__row_d(p, i0);
    const int16_t *sum = cf__row_sum(p, i0);
    const size_t stride = p->x->q_stride;
    struct lines q = {.one = stride, .three = 3 * stride};
    for (uint32_t i = 0; i < n; i += 4)
        q.at[i / 4] = cf__row_q(p, i0 + i);
    __asm__("" : "+r"(q.one), "+r"(q.three)); /* else GCC keeps a pointer for each row, most of them in memory */
    _Alignas(64) struct panel panel[ROWS];
    _Alignas(64) float y[ROWS][CF_TILE];
    const uint32_t whole[] = {p->c0, p->c1};
    const uint32_t *end = (p->n_chunks ? p->cut : whole) + 1; /* of the chunk at hand */
    float *out = p->y + (size_t)i0 * CF_TILE;
#pragma GCC unroll 16
    for (uint32_t i = 0; i < n; i++)
        _mm512_store_ps(y[i], _mm512_setzero_ps());
    while (k.column < p->c1) {
        const uint32_t left = (p->c1 - k.column) / CF_BLOCK, n_blocks = left < PANEL ? left : PANEL;
        for (uint32_t i = 0; i < n; i++)
            prepare(kind, &panel[i], d + i * (stride / 32), sum + i * (stride / 16), n_blocks);
        for (uint32_t b = 0; b < n_blocks; b++) {
            if (i0 == 0) fetch_ahead(&k, shape);
            add_block(kind, n, &k, &q, panel, b, y);
#pragma GCC unroll 6
            for (uint32_t i = 0; i < n; i += 4)
                q.at[i / 4] += CF_BLOCK;
            cf__cursor_next(&k, shape.super, shape.head_bytes, shape.block_bytes);
            if (k.column == *end) {
#pragma GCC unroll 16
                for (uint32_t i = 0; i < n; i++) {
                    _mm512_storeu_ps(out + i * CF_TILE, _mm512_load_ps(y[i]));
                    _mm512_store_ps(y[i], _mm512_setzero_ps());
                }
                out += (size_t)p->n * CF_TILE;
                end++;
            }
        }
        d += n_blocks;
        sum += 2 * n_blocks;
    }
}

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
        if (i0 == 0 && (kind == F32 || c % 2 == 0)) fetch_line(tile);
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

void cf__product_q8_0_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q8_0, ROWS)
}
void cf__product_q4_0_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q4_0, ROWS)
}
void cf__product_q4_k_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q4_K, ROWS)
}
void cf__product_q5_k_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q5_K, ROWS)
}
void cf__product_q6_k_avx512(const struct cf_product *p) {
    BY_ROWS(quantised_rows, p, Q6_K, ROWS)
}

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
