/* Attention with AVX2, FMA and F16C. Same operations in the same order as vector_scalar.c.
 *
 * As in attend_avx512.c, scores (q x K) and output (p x V) are one product of a few f32 rows with an f16 matrix that is
 * read row by row, of which a block of queries x columns stays in registers.
 */
#include "node/kernels/vector.h"

#ifdef __AVX2__
#include <math.h>

#include "node/kernels/lanes_avx2.h"

enum { DEPTH = 64, QUERIES = 6 }; /* of one product; DEPTH >= CF__PAGE */

/* c[i][column] = fma(a[i][k], b[k][column], c[i][column]), k ascending. */
struct product {
    const float *a;    /* [QUERIES][DEPTH] */
    const uint16_t *b; /* f16 [depth][stride] */
    size_t stride;
    uint32_t depth;
    float *c[QUERIES];
    const char *ahead; /* prefetched while b is read, as many bytes as are read */
};

INLINE void multiply(const struct product *m, const int queries, const int vectors) {
    __m256 c[QUERIES][4], b[4];
#pragma GCC unroll 6
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            c[i][l] = _mm256_loadu_ps(m->c[i] + 8 * l);
    const float *a = m->a;
    const uint16_t *row = m->b;
    const char *ahead = m->ahead;
    for (uint32_t k = 0; k < m->depth; k++, a++, row += m->stride) {
        /* A line is 32 halves: with less than four vectors, some lines are asked for twice. */
        if (vectors > 1) _mm_prefetch(ahead, _MM_HINT_T1);
        ahead += 16 * vectors;
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            b[l] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 8 * l)));
#pragma GCC unroll 6
        for (int i = 0; i < queries; i++) {
            __m256 of_a = _mm256_set1_ps(a[i * DEPTH]);
#pragma GCC unroll 4
            for (int l = 0; l < vectors; l++)
                c[i][l] = _mm256_fmadd_ps(of_a, b[l], c[i][l]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            _mm256_storeu_ps(m->c[i] + 8 * l, c[i][l]);
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
/* More than 12 accumulators beside their operands do not fit the 16 registers. */
#define FOR_EACH(wide, narrow) wide(1) wide(2) narrow(3) narrow(4) narrow(5) narrow(6)

FOR_EACH(MULTIPLY_1_2_4, MULTIPLY_1_2)
/* By queries and half the vectors. */
static void (*const multiply_of[QUERIES + 1][3])(const struct product *) = {FOR_EACH(ENTRY_1_2_4, ENTRY_1_2)};

/* One column of one query: for those that fill no vector. */
static void multiply_column(const struct product *m, uint32_t i) {
    float c = *m->c[i];
    for (uint32_t k = 0; k < m->depth; k++)
        c = fmaf(m->a[i * DEPTH + k], _cvtsh_ss(m->b[k * m->stride]), c);
    *m->c[i] = c;
}

/* All columns of a product. Moves what it points at. */
static void multiply_columns(struct product *m, uint32_t queries, uint32_t columns) {
    while (columns > 0) {
        uint32_t vectors = columns >= 32 && multiply_of[queries][2] ? 4 : columns >= 16 ? 2 : columns >= 8 ? 1 : 0;
        uint32_t done = vectors > 0 ? 8 * vectors : 1;
        if (vectors > 0) multiply_of[queries][vectors / 2](m);
        for (uint32_t i = 0; i < queries; i++) {
            if (vectors == 0) multiply_column(m, i);
            m->c[i] += done;
        }
        m->b += done;
        m->ahead += (size_t)m->depth * done * sizeof(uint16_t);
        columns -= done;
    }
}

INLINE void copy(float *y, const float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 8)
        _mm256_store_ps(y + i, _mm256_maskload_ps(x + i, first_lanes(n - i)));
}

/* Scores of keys 0..columns-1, not yet scaled. */
static void score_keys(float score[][CF__PAGE], const struct cf_attention_state *s, uint32_t queries,
    const struct cf_attention_page *p, uint32_t columns, const char *ahead) {
    _Alignas(64) float q[QUERIES][DEPTH];
    for (uint32_t i = 0; i < queries * CF__PAGE; i += 8)
        _mm256_store_ps(score[0] + i, _mm256_setzero_ps());
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

/* All bits of the keys of vector l that take part. */
INLINE __m256i keys_of(const struct cf_attention_state *s, uint32_t l) {
    return first_lanes(s->n > 8 * l ? s->n - 8 * l : 0);
}

/* Scales the scores of one query and returns the new maximum of its state. */
INLINE float scale_scores(const struct cf_attention_state *s, float *score, __m256 scale) {
    __m256 most = _mm256_set1_ps(s->max);
    for (uint32_t l = 0; l < CF__PAGE / 8; l++) {
        __m256 x = _mm256_mul_ps(_mm256_load_ps(score + 8 * l), scale);
        _mm256_store_ps(score + 8 * l, x);
        /* Lanes beyond n come from garbage. */
        most = _mm256_blendv_ps(most, _mm256_max_ps(x, most), _mm256_castsi256_ps(keys_of(s, l)));
    }
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two))) + 0.0f; /* -0 becomes +0, as in the scalar file */
}

/* Scores to exp(score - max); corrects what the state holds. */
INLINE void soften(struct cf_attention_state *s, float *score, float correction, uint32_t d_v) {
    __m256 max = _mm256_set1_ps(s->max), by = _mm256_set1_ps(correction), sum[2];
    sum[0] = _mm256_mul_ps(_mm256_loadu_ps(s->sum), by);
    sum[1] = _mm256_mul_ps(_mm256_loadu_ps(s->sum + 8), by);
#pragma GCC unroll 8
    for (uint32_t l = 0; l < CF__PAGE / 8; l++) {
        __m256 share = exp_lanes(_mm256_sub_ps(_mm256_load_ps(score + 8 * l), max));
        /* Lanes beyond n add +0 to a sum that is never -0. */
        sum[l % 2] = _mm256_add_ps(sum[l % 2], _mm256_and_ps(share, _mm256_castsi256_ps(keys_of(s, l))));
        _mm256_store_ps(score + 8 * l, share);
    }
    _mm256_storeu_ps(s->sum, sum[0]);
    _mm256_storeu_ps(s->sum + 8, sum[1]);
    for (uint32_t d = 0; d < d_v; d += 8) {
        __m256i lanes = first_lanes(d_v - d);
        _mm256_maskstore_ps(s->acc + d, lanes, _mm256_mul_ps(_mm256_maskload_ps(s->acc + d, lanes), by));
    }
}

static void soften_all(
    struct cf_attention_state *s, uint32_t queries, float score[][CF__PAGE], const struct cf_attention_page *p) {
    _Alignas(32) float old[8] = {0}, new[8] = {0};
    const __m256 scale = _mm256_set1_ps(p->scale), least = _mm256_set1_ps(-INFINITY);
    for (uint32_t i = 0; i < queries; i++) {
        old[i] = s[i].max;
        if (s[i].n > 0) s[i].max = scale_scores(&s[i], score[i], scale);
        new[i] = s[i].max;
    }
    __m256 was = _mm256_load_ps(old), some = _mm256_cmp_ps(was, least, _CMP_NEQ_UQ);
    _mm256_store_ps(old, _mm256_and_ps(some, exp_lanes(_mm256_sub_ps(was, _mm256_load_ps(new)))));
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

void cf__attend_page_avx2(struct cf_attention_state *s, const struct cf_attention_page *p) {
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

void cf__attend_merge_avx2(struct cf_attention_state *total, const struct cf_attention_state *span, uint32_t d_v) {
    if (span->max == -INFINITY) return; /* no key took part */
    float sum = lane_sum(_mm256_loadu_ps(span->sum), _mm256_loadu_ps(span->sum + 8));
    float max = total->max > span->max ? total->max : span->max;
    float of_total = exp_one(total->max - max), of_span = exp_one(span->max - max);
    total->max = max;
    total->sum[0] = total->sum[0] * of_total + sum * of_span;
    __m256 by_total = _mm256_set1_ps(of_total), by_span = _mm256_set1_ps(of_span);
    for (uint32_t d = 0; d < d_v; d += 8) {
        __m256i m = first_lanes(d_v - d);
        __m256 a = _mm256_mul_ps(_mm256_maskload_ps(total->acc + d, m), by_total);
        __m256 b = _mm256_mul_ps(_mm256_maskload_ps(span->acc + d, m), by_span);
        _mm256_maskstore_ps(total->acc + d, m, _mm256_add_ps(a, b));
    }
}

void cf__attend_finish_avx2(float *out, const struct cf_attention_state *total, uint32_t d_v) {
    __m256 sum = _mm256_set1_ps(total->sum[0]);
    for (uint32_t d = 0; d < d_v; d += 8) {
        __m256i m = first_lanes(d_v - d);
        _mm256_maskstore_ps(out + d, m, _mm256_div_ps(_mm256_maskload_ps(total->acc + d, m), sum));
    }
}
#endif
