/* The quantised products with AVX-512 and VNNI: the 16 rows of a tile are the 16 lanes.
 *
 * vpdpbusd multiplies unsigned weights with signed activations, so a type whose weights are stored with an offset
 * starts its dot at -offset times the sum of the activations. Up to 16 activation rows go together: the dot of the
 * block in hand lies in a register of each, the sums lie in the first cache, and every vector of weights is loaded (and
 * unpacked) once for all of them. What a row adds to a block beside its dot is computed for a panel of 16 blocks at a
 * time and then taken from memory by broadcast, which costs no arithmetic port. The functions below are written once
 * for all types and numbers of rows and specialised by inlining.
 *
 * Included by product_avx512.c and product_more_avx512.c, which share the types between them.
 */
#ifndef COFFER_NODE_KERNELS_PRODUCT_512_H
#define COFFER_NODE_KERNELS_PRODUCT_512_H

#include <immintrin.h>

#include "node/kernels/products/product.h"
#include "node/kernels/products/unpack_avx512.h"

enum { ROWS = 16, PANEL = 16 };

INLINE __m512i broadcast32(const void *at) {
    int32_t v;
    memcpy(&v, at, 4);
    return _mm512_set1_epi32(v);
}

/* One activation row over a panel of blocks. */
struct panel {
    int32_t start[2 * PANEL]; /* of the dot of each part: a block, or half of one */
    float d[PANEL];
    float sum_x[2 * PANEL]; /* of each part, d * sum(q), for types with a minimum */
};

INLINE void prepare(enum kind kind, struct panel *to, const float *d, const int16_t *sum, uint32_t n_blocks) {
    const __mmask16 blocks = (__mmask16)((1u << n_blocks) - 1);
    const __m512 scale = _mm512_maskz_loadu_ps(blocks, d);
    const __m512i halves = _mm512_maskz_loadu_epi16((__mmask32)((1ull << 2 * n_blocks) - 1), sum);
    _mm512_store_ps(to->d, scale);
    const int offset = layout_of(kind)->offset;
    if (has_halves(kind)) {
        for (int h = 0; h < 2; h++) { /* halves of blocks [8h, 8h + 8) */
            __m256i half = h ? _mm512_extracti64x4_epi64(halves, 1) : _mm512_castsi512_si256(halves);
            __m512i sums = _mm512_cvtepi16_epi32(half);
            if (has_min(kind)) {
                const __m512i of = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
                __m512 d2 = _mm512_permutexvar_ps(_mm512_add_epi32(of, _mm512_set1_epi32(8 * h)), scale);
                _mm512_store_ps(to->sum_x + PANEL * h, _mm512_mul_ps(d2, _mm512_cvtepi32_ps(sums)));
            } else {
                _mm512_store_si512(to->start + PANEL * h, _mm512_mullo_epi32(sums, _mm512_set1_epi32(-offset)));
            }
        }
    } else if (has_min(kind)) {
        __m512i whole = _mm512_madd_epi16(halves, _mm512_set1_epi16(1));
        _mm512_store_ps(to->sum_x, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(whole)));
    } else {
        _mm512_store_si512(to->start, _mm512_madd_epi16(halves, _mm512_set1_epi16((short)-offset)));
    }
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

/* sum[i] += scale * d * dot[i] and, for types with a minimum, -min * sum_x; d is that of block b, dot and sum_x of part
 * `at`. */
INLINE void scale_dots(enum kind kind, const uint32_t n, __m512 scale, __m512 min, const struct panel *panel,
    uint32_t b, uint32_t at, const __m512i dot[ROWS], float sum[ROWS][CF_TILE]) {
#pragma GCC unroll 16
    for (uint32_t i = 0; i < n; i++) {
        const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(panel[i].d[b]));
        __m512 acc = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(dot[i]), _mm512_load_ps(sum[i]));
        if (has_min(kind)) acc = _mm512_fnmadd_ps(min, _mm512_set1_ps(panel[i].sum_x[at]), acc);
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
    const uint32_t parts = has_halves(kind) ? 2 : 1;
    __m512i dot[ROWS];
#pragma GCC unroll 2
    for (uint32_t h = 0; h < parts; h++) {
        const uint32_t at = parts * b + h;
        start_dots(kind, n, panel, at, dot);
        add_groups(kind, n, k->block, (int)(8 / parts * h), (int)(8 / parts * (h + 1)), q, dot);
        scale_dots(kind, n, s.scale[h], s.min[h], panel, b, at, dot, sum);
    }
}

INLINE void quantised_rows(const struct cf_product *p, uint32_t i0, const uint32_t n, const enum kind kind) {
    struct cf__cursor k = first_block(kind, p);
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
            if (i0 == 0) fetch_ahead(kind, &k);
            add_block(kind, n, &k, &q, panel, b, y);
#pragma GCC unroll 6
            for (uint32_t i = 0; i < n; i += 4)
                q.at[i / 4] += CF_BLOCK;
            next_block(kind, &k);
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

#endif
