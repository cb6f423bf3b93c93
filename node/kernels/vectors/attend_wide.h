/* Attention over 8 or 16 lanes. Same operations in the same order as vector_scalar.c.
 *
 * Scores (q x K) and output (p x V) are one product of a few f32 rows with an f16 matrix that is read row by row: a
 * lane is a key or a value column. A block of queries x columns stays in registers, so that each f16 vector is read and
 * converted once for all queries of the block: conversion costs twice what an fma does.
 *
 * One source for both instruction sets. attend_avx2.c and attend_avx512.c include the lanes of theirs (lanes_wide.h),
 * say how large a block their registers hold, and include this file, once:
 *
 *     QUERIES                    the most in a block, at most LANES
 *     FOR_EACH(wide, narrow)     wide(n) for each number of queries n that goes with 4 vectors of columns, narrow(n)
 * for each that goes with 2
 */
#ifndef COFFER_NODE_KERNELS_ATTEND_WIDE_H
#define COFFER_NODE_KERNELS_ATTEND_WIDE_H

#include <math.h>

#include "node/kernels/vectors/exp_lanes.h"
#include "node/kernels/vectors/lanes_wide.h"

enum { DEPTH = 64 }; /* of one product, at least CF__PAGE */

/* c[i][column] = fma(a[i][k], b[k][column], c[i][column]), k ascending. */
struct product {
    const float *a;    /* [QUERIES][DEPTH] */
    const uint16_t *b; /* f16 [depth][stride] */
    size_t stride;
    uint32_t depth;
    uint32_t columns; /* of c, where they may fill less than a vector */
    float *c[QUERIES];
    const char *ahead; /* prefetched while b is read, as many bytes as are read */
};

INLINE void multiply(const struct product *m, const int queries, const int vectors) {
    floats c[QUERIES][4], b[4];
    const bool in_part = HALVES_IN_PART && vectors == 1;
    const mask lanes = first_lanes(in_part ? m->columns : LANES);
#pragma GCC unroll 12
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            c[i][l] = in_part ? load_first(m->c[i], lanes) : load(m->c[i] + LANES * l);
    const float *a = m->a;
    const uint16_t *row = m->b;
    const char *ahead = m->ahead;
    for (uint32_t k = 0; k < m->depth; k++, a++, row += m->stride) {
        /* A line is 32 halves: vectors that fill none ask for some lines twice. */
        if (vectors > 1)
#pragma GCC unroll 2
            for (int at = 0; at < 2 * LANES * vectors; at += 64)
                _mm_prefetch(ahead + at, _MM_HINT_T1);
        ahead += 2 * LANES * vectors;
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            b[l] = in_part ? load_first_f16(row, lanes) : load_f16(row + LANES * l);
#pragma GCC unroll 12
        for (int i = 0; i < queries; i++) {
            floats of_a = all_f32(a[i * DEPTH]);
#pragma GCC unroll 4
            for (int l = 0; l < vectors; l++)
                c[i][l] = fma_f32(of_a, b[l], c[i][l]);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < queries; i++)
#pragma GCC unroll 4
        for (int l = 0; l < vectors; l++)
            if (in_part) {
                store_first(m->c[i], lanes, c[i][l]);
            } else {
                store(m->c[i] + LANES * l, c[i][l]);
            }
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

FOR_EACH(MULTIPLY_1_2_4, MULTIPLY_1_2)
/* By queries and half the vectors. */
static void (*const multiply_of[QUERIES + 1][3])(const struct product *) = {FOR_EACH(ENTRY_1_2_4, ENTRY_1_2)};

/* One column of one query: for those that fill no vector where there are no vectors in part. */
static void multiply_column(const struct product *m, uint32_t i) {
    float c = *m->c[i];
    for (uint32_t k = 0; k < m->depth; k++)
        c = fmaf(m->a[i * DEPTH + k], _cvtsh_ss(m->b[k * m->stride]), c);
    *m->c[i] = c;
}

/* All columns of a product. Moves what it points at. */
static void multiply_columns(struct product *m, uint32_t queries, uint32_t columns) {
    while (columns > 0) {
        uint32_t vectors = columns >= 2 * LANES ? 2 : columns >= LANES || HALVES_IN_PART ? 1 : 0;
        if (columns >= 4 * LANES && multiply_of[queries][2]) vectors = 4;
        uint32_t done = vectors == 0 ? 1 : columns < LANES * vectors ? columns : LANES * vectors;
        m->columns = done;
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
    for (uint32_t i = 0; i < n; i += LANES)
        store(y + i, load_first(x + i, first_lanes(n - i)));
}

/* Scores of keys 0..columns-1, not yet scaled. */
static void score_keys(float score[][CF__PAGE], const struct cf_attention_state *s, uint32_t queries,
    const struct cf_attention_page *p, uint32_t columns, const char *ahead) {
    _Alignas(64) float q[QUERIES][DEPTH];
    for (uint32_t i = 0; i < queries * CF__PAGE; i += LANES)
        store(score[0] + i, all_f32(0));
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

/* The keys of vector l that take part. */
INLINE mask keys_of(const struct cf_attention_state *s, uint32_t l) {
    return lanes_between(s->first > LANES * l ? s->first - LANES * l : 0, s->n > LANES * l ? s->n - LANES * l : 0);
}

/* Scales the scores of one query and returns the new maximum of its state. */
INLINE float scale_scores(const struct cf_attention_state *s, float *score, floats scale) {
    floats most = all_f32(s->max);
#pragma GCC unroll 8
    for (uint32_t l = 0; l < CF__PAGE / LANES; l++) {
        floats x = load(score + LANES * l) * scale;
        store(score + LANES * l, x);
        most = larger_where(keys_of(s, l), most, x); /* other lanes come from garbage */
    }
    return largest_lane(most) + 0.0f; /* -0 becomes +0, as in the scalar file */
}

/* Scores to exp(score - max); corrects what the state holds. */
INLINE void soften(struct cf_attention_state *s, float *score, float correction, uint32_t d_v) {
    const floats max = all_f32(s->max), by = all_f32(correction);
    floats sum[16 / LANES];
#pragma GCC unroll 2
    for (uint32_t v = 0; v < 16 / LANES; v++)
        sum[v] = load(s->sum + LANES * v) * by;
#pragma GCC unroll 8
    for (uint32_t l = 0; l < CF__PAGE / LANES; l++) {
        floats share = exp_lanes(load(score + LANES * l) - max), *to = &sum[l % (16 / LANES)];
        *to = add_where(keys_of(s, l), *to, share); /* a sum is never -0 */
        store(score + LANES * l, share);
    }
#pragma GCC unroll 2
    for (uint32_t v = 0; v < 16 / LANES; v++)
        store(s->sum + LANES * v, sum[v]);
    for (uint32_t d = 0; d < d_v; d += LANES) {
        mask m = first_lanes(d_v - d);
        store_first(s->acc + d, m, load_first(s->acc + d, m) * by);
    }
}

static void soften_all(
    struct cf_attention_state *s, uint32_t queries, float score[][CF__PAGE], const struct cf_attention_page *p) {
    _Alignas(64) float old[LANES] = {0}, new[LANES] = {0};
    const floats scale = all_f32(p->cap > 0 ? 1.0f : p->scale), least = all_f32(-INFINITY);
    for (uint32_t i = 0; i < queries; i++) {
        old[i] = s[i].max;
        if (p->cap > 0) cf__cap_scores(score[i], s[i].first, s[i].n, p->scale, p->cap);
        if (s[i].n > 0) s[i].max = scale_scores(&s[i], score[i], scale);
        new[i] = s[i].max;
    }
    floats was = load(old);
    store(old, unless_equal(was, least, exp_lanes(was - load(new))));
    for (uint32_t i = 0; i < queries; i++)
        if (s[i].n > 0) soften(&s[i], score[i], old[i], p->d_v);
}

/* Keys [from, to) of one query. */
static void add_alone(
    struct cf_attention_state *s, const float *share, const struct cf_attention_page *p, uint32_t from, uint32_t to) {
    if (from >= to) return;
    const uint16_t *values = p->v + (size_t)from * p->d_v;
    struct product one = {.a = share + from,
        .b = values,
        .stride = p->d_v,
        .depth = to - from,
        .c = {s->acc},
        .ahead = (const char *)values};
    multiply_columns(&one, 1, p->d_v);
}

/* acc += share x V. The queries go together over the keys that all see, each alone before and behind. */
static void add_values(struct cf_attention_state *s, uint32_t queries, float share[][CF__PAGE],
    const struct cf_attention_page *p, const char *ahead) {
    uint32_t from = 0, to = CF__PAGE;
    for (uint32_t i = 0; i < queries; i++) {
        if (s[i].n == 0) from = to = 0; /* one that sees nothing is with the others: all go alone */
        from = s[i].first > from ? s[i].first : from;
        to = s[i].n < to ? s[i].n : to;
    }
    for (uint32_t i = 0; i < queries; i++)
        add_alone(&s[i], share[i], p, s[i].first, from < s[i].n ? from : s[i].n);
    if (from < to) {
        struct product m = {.a = share[0] + from,
            .b = p->v + (size_t)from * p->d_v,
            .stride = p->d_v,
            .depth = to - from,
            .ahead = ahead};
        for (uint32_t i = 0; i < queries; i++)
            m.c[i] = s[i].acc;
        multiply_columns(&m, queries, p->d_v);
    }
    to = to > from ? to : from;
    for (uint32_t i = 0; i < queries; i++)
        add_alone(&s[i], share[i], p, s[i].first > to ? s[i].first : to, s[i].n);
}

void NAME(attend_page)(struct cf_attention_state *s, const struct cf_attention_page *p) {
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

INLINE float exp_one(float x) {
    return exp_lanes(all_f32(x))[0];
}

void NAME(attend_merge)(struct cf_attention_state *total, const struct cf_attention_state *span, uint32_t d_v) {
    if (span->max == -INFINITY) return; /* no key took part */
    floats lane[16 / LANES];
    for (uint32_t v = 0; v < 16 / LANES; v++)
        lane[v] = load(span->sum + LANES * v);
    float sum = lane_sum(lane);
    float max = total->max > span->max ? total->max : span->max;
    float of_total = exp_one(total->max - max), of_span = exp_one(span->max - max);
    total->max = max;
    total->sum[0] = total->sum[0] * of_total + sum * of_span;
    for (uint32_t d = 0; d < d_v; d += LANES) {
        mask m = first_lanes(d_v - d);
        floats a = load_first(total->acc + d, m) * all_f32(of_total);
        floats b = load_first(span->acc + d, m) * all_f32(of_span);
        store_first(total->acc + d, m, a + b);
    }
}

void NAME(attend_finish)(float *out, const struct cf_attention_state *total, uint32_t d_v) {
    const floats sum = all_f32(total->sum[0]);
    for (uint32_t d = 0; d < d_v; d += LANES) {
        mask m = first_lanes(d_v - d);
        store_first(out + d, m, load_first(total->acc + d, m) / sum);
    }
}

#endif
