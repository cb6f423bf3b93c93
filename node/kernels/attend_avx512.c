/* Attention with AVX-512 (F, BW, VL, DQ). Same operations in the same order as vector_scalar.c.
 *
 * Scores (q x K) and output (p x V) are one product of a few f32 rows with an f16 matrix that is read row by row: a
 * lane is a key or a value column. A block of queries x columns stays in registers, so that each f16 vector is read and
 * converted once for all queries of the block: conversion costs twice what an fma does.
 */
#include "node/kernels/vector.h"

#ifdef __AVX512F__
#include <math.h>

#include "node/kernels/lanes_avx512.h"

enum { DEPTH = 64, QUERIES = 12 }; /* of one product; DEPTH >= CF__PAGE */

/* c[i][column] = fma(a[i][k], b[k][column], c[i][column]), k ascending. */
struct product {
    const float *a;    /* [QUERIES][DEPTH] */
    const uint16_t *b; /* f16 [depth][stride] */
    size_t stride;
    uint32_t depth;
    float *c[QUERIES];
    __mmask16 lanes;   /* columns, where the product has one vector */
    const char *ahead; /* prefetched while b is read, as many bytes as are read */
};

INLINE void multiply(const struct product *m, const int queries, const int vectors) {
    __m512 c[QUERIES][4], b[4];
    const __mmask16 lanes = vectors == 1 ? m->lanes : 0xffff;
#pragma GCC unroll 12
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            c[i][l] = _mm512_maskz_loadu_ps(lanes, m->c[i] + 16 * l);
    const float *a = m->a;
    const uint16_t *row = m->b;
    const char *ahead = m->ahead;
    for (uint32_t k = 0; k < m->depth; k++, a++, row += m->stride) {
#pragma GCC unroll 2
        for (int l = 0; l < vectors / 2; l++, ahead += 64)
            _mm_prefetch(ahead, _MM_HINT_T1);
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            b[l] = _mm512_cvtph_ps(vectors == 1 ? _mm256_maskz_loadu_epi16(lanes, row)
                                                : _mm256_loadu_si256((const __m256i *)(row + 16 * l)));
#pragma GCC unroll 12
        for (int i = 0; i < queries; i++) {
            __m512 of_a = _mm512_set1_ps(a[i * DEPTH]);
#pragma GCC unroll 4
            for (int l = 0; l < vectors; l++)
                c[i][l] = _mm512_fmadd_ps(of_a, b[l], c[i][l]);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            _mm512_mask_storeu_ps(m->c[i] + 16 * l, lanes, c[i][l]);
}

#define MULTIPLY(queries, vectors)                                                                                     \
    static void multiply_##queries##_##vectors(const struct product *m) {                                              \
        multiply(m, queries, vectors);                                                                                 \
    }
#define MULTIPLY_1_2(queries) MULTIPLY(queries, 1) MULTIPLY(queries, 2)
#define MULTIPLY_1_2_4(queries) MULTIPLY_1_2(queries) MULTIPLY(queries, 4)
#define ENTRY(queries, vectors) [queries][vectors / 2] = multiply_##queries##_##vectors,
#define ENTRY_1_2(queries) ENTRY(queries, 1) ENTRY(queries, 2)
#define ENTRY_1_2_4(queries) ENTRY_1_2(queries) ENTRY(queries, 4)
/* More than 24 accumulators beside their operands do not fit the 32 registers. */
#define FOR_EACH(wide, narrow)                                                                                         \
    wide(1) wide(2) wide(3) wide(4) wide(5) wide(6) narrow(7) narrow(8) narrow(9) narrow(10) narrow(11) narrow(12)

FOR_EACH(MULTIPLY_1_2_4, MULTIPLY_1_2)
/* By queries and half the vectors. */
static void (*const multiply_of[QUERIES + 1][3])(const struct product *) = {FOR_EACH(ENTRY_1_2_4, ENTRY_1_2)};

/* All columns of a product. Moves what it points at. */
static void multiply_columns(struct product *m, uint32_t queries, uint32_t columns) {
    while (columns > 0) {
        uint32_t vectors = columns >= 64 && multiply_of[queries][2] ? 4 : columns >= 32 ? 2 : 1;
        uint32_t done = columns < 16 * vectors ? columns : 16 * vectors;
        m->lanes = first_lanes(columns);
        multiply_of[queries][vectors / 2](m);
        for (uint32_t i = 0; i < queries; i++)
            m->c[i] += done;
        m->b += done;
        m->ahead += (size_t)m->depth * done * sizeof(uint16_t);
        columns -= done;
    }
}

INLINE void copy(float *y, const float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16)
        _mm512_store_ps(y + i, _mm512_maskz_loadu_ps(first_lanes(n - i), x + i));
}

/* Scores of keys 0..columns-1, not yet scaled. */
static void score_keys(float score[][CF__PAGE], const struct cf_attention_state *s, uint32_t queries,
    const struct cf_attention_page *p, uint32_t columns, const char *ahead) {
    _Alignas(64) float q[QUERIES][DEPTH];
    for (uint32_t i = 0; i < queries * CF__PAGE; i += 16)
        _mm512_store_ps(score[0] + i, _mm512_setzero_ps());
    for (uint32_t d = 0; d < p->d_k; d += DEPTH) {
        uint32_t depth = p->d_k - d < DEPTH ? p->d_k - d : DEPTH;
        struct product m = {.a = q[0],
            .b = p->k + (size_t)d * CF__PAGE,
            .stride = CF__PAGE,
            .depth = depth,
            .ahead = ahead + (size_t)d * CF__PAGE * sizeof(uint16_t)};
        for (uint32_t i = 0; i < queries; i++) {
            copy(q[i], s[i].q + d, depth);
            m.c[i] = score[i];
        }
        multiply_columns(&m, queries, columns);
    }
}

/* The first n keys of vector l. */
INLINE __mmask16 keys_of(const struct cf_attention_state *s, uint32_t l) {
    return first_lanes(s->n > 16 * l ? s->n - 16 * l : 0);
}

/* Scales the scores of one query and returns the new maximum of its state. */
INLINE float scale_scores(const struct cf_attention_state *s, float *score, __m512 scale) {
    __m512 most = _mm512_set1_ps(s->max);
#pragma GCC unroll 4
    for (uint32_t l = 0; l < CF__PAGE / 16; l++) {
        __m512 x = _mm512_mul_ps(_mm512_load_ps(score + 16 * l), scale);
        _mm512_store_ps(score + 16 * l, x);
        most = _mm512_mask_max_ps(most, keys_of(s, l), x, most); /* lanes beyond n come from garbage */
    }
    return _mm512_reduce_max_ps(most) + 0.0f; /* -0 becomes +0, as in the scalar file */
}

/* Scores to exp(score - max); corrects what the state holds. */
INLINE void soften(struct cf_attention_state *s, float *score, float correction, uint32_t d_v) {
    __m512 max = _mm512_set1_ps(s->max), by = _mm512_set1_ps(correction);
    __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(s->sum), by);
#pragma GCC unroll 4
    for (uint32_t l = 0; l < CF__PAGE / 16; l++) {
        __m512 share = exp_lanes(_mm512_sub_ps(_mm512_load_ps(score + 16 * l), max));
        sum = _mm512_mask_add_ps(sum, keys_of(s, l), sum, share);
        _mm512_store_ps(score + 16 * l, share);
    }
    _mm512_storeu_ps(s->sum, sum);
    for (uint32_t d = 0; d < d_v; d += 16) {
        __mmask16 lanes = first_lanes(d_v - d);
        _mm512_mask_storeu_ps(s->acc + d, lanes, _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, s->acc + d), by));
    }
}

static void soften_all(
    struct cf_attention_state *s, uint32_t queries, float score[][CF__PAGE], const struct cf_attention_page *p) {
    _Alignas(64) float old[16] = {0}, new[16] = {0};
    const __m512 scale = _mm512_set1_ps(p->scale), least = _mm512_set1_ps(-INFINITY);
    for (uint32_t i = 0; i < queries; i++) {
        old[i] = s[i].max;
        if (s[i].n > 0) s[i].max = scale_scores(&s[i], score[i], scale);
        new[i] = s[i].max;
    }
    __m512 was = _mm512_load_ps(old);
    __mmask16 some = _mm512_cmp_ps_mask(was, least, _CMP_NEQ_UQ);
    _mm512_store_ps(old, _mm512_maskz_mov_ps(some, exp_lanes(_mm512_sub_ps(was, _mm512_load_ps(new)))));
    for (uint32_t i = 0; i < queries; i++)
        if (s[i].n > 0) soften(&s[i], score[i], old[i], p->d_v);
}

/* acc += share x V. The queries go together as far as all have keys, then each alone. */
static void add_values(struct cf_attention_state *s, uint32_t queries, float share[][CF__PAGE],
    const struct cf_attention_page *p, const char *ahead) {
    uint32_t together = CF__PAGE;
    for (uint32_t i = 0; i < queries; i++)
        together = s[i].n < together ? s[i].n : together;
    struct product m = {.a = share[0], .b = p->v, .stride = p->d_v, .depth = together, .ahead = ahead};
    for (uint32_t i = 0; i < queries; i++)
        m.c[i] = s[i].acc;
    multiply_columns(&m, queries, p->d_v);
    for (uint32_t i = 0; i < queries; i++) {
        if (s[i].n == together) continue;
        const uint16_t *rest = p->v + (size_t)together * p->d_v;
        struct product one = {.a = share[i] + together,
            .b = rest,
            .stride = p->d_v,
            .depth = s[i].n - together,
            .c = {s[i].acc},
            .ahead = (const char *)rest};
        multiply_columns(&one, 1, p->d_v);
    }
}

void cf__attend_page_avx512(struct cf_attention_state *s, const struct cf_attention_page *p) {
    _Alignas(64) float score[QUERIES][CF__PAGE];
    const char *next = p->next;
    for (uint32_t first = 0, n; first < p->n_queries; first += n) {
        n = 1;
        if (s[first].n == 0) continue;
        n = p->n_queries - first < QUERIES ? p->n_queries - first : QUERIES;
        uint32_t keys = 0;
        for (uint32_t i = first; i < first + n; i++)
            keys = s[i].n > keys ? s[i].n : keys;
        score_keys(score, s + first, n, p, (keys + 15) / 16 * 16, next ? next : (const char *)p->k);
        soften_all(s + first, n, score, p);
        add_values(
            s + first, n, score, p, next ? next + (size_t)p->d_k * CF__PAGE * sizeof(uint16_t) : (const char *)p->v);
        next = NULL; /* asked for once */
    }
}

void cf__attend_merge_avx512(struct cf_attention_state *total, const struct cf_attention_state *span, uint32_t d_v) {
    if (span->max == -INFINITY) return; /* no key took part */
    float sum = lane_sum(_mm512_loadu_ps(span->sum));
    float max = total->max > span->max ? total->max : span->max;
    float of_total = exp_one(total->max - max), of_span = exp_one(span->max - max);
    total->max = max;
    total->sum[0] = total->sum[0] * of_total + sum * of_span;
    __m512 by_total = _mm512_set1_ps(of_total), by_span = _mm512_set1_ps(of_span);
    for (uint32_t d = 0; d < d_v; d += 16) {
        __mmask16 m = first_lanes(d_v - d);
        __m512 a = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, total->acc + d), by_total);
        __m512 b = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, span->acc + d), by_span);
        _mm512_mask_storeu_ps(total->acc + d, m, _mm512_add_ps(a, b));
    }
}

void cf__attend_finish_avx512(float *out, const struct cf_attention_state *total, uint32_t d_v) {
    __m512 sum = _mm512_set1_ps(total->sum[0]);
    for (uint32_t d = 0; d < d_v; d += 16) {
        __mmask16 m = first_lanes(d_v - d);
        _mm512_mask_storeu_ps(out + d, m, _mm512_div_ps(_mm512_maskz_loadu_ps(m, total->acc + d), sum));
    }
}
#endif
