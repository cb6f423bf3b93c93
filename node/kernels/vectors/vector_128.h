/* The vector functions that are worth it over four lanes: norm, activation, attention over a page. Same operations in
 * the same order as vector_scalar.c; a lane is an element, a key (scores) or a value column (P x V).
 *
 * One source for all instruction sets of 128 bits; vector_sse41.c, vector_neon.c and the like include the lanes of
 * theirs (lanes.h) and then this file, once. What a token needs little of is the scalar table's (dispatch.c).
 */
#ifndef COFFER_NODE_KERNELS_VECTOR_128_H
#define COFFER_NODE_KERNELS_VECTOR_128_H

#include <math.h>

#include "node/kernels/vectors/lanes.h"
#include "node/kernels/vectors/vector.h"

/* Elements 0 .. n - 1, zeros beyond (all from 4 on). */
INLINE f32x4 load_first(const float *p, size_t n) {
    f32x4 v = {0};
    memcpy(&v, p, n >= 4 ? sizeof v : n * sizeof *p);
    return v;
}
INLINE void store_first(float *p, f32x4 v, size_t n) {
    memcpy(p, &v, n >= 4 ? sizeof v : n * sizeof *p);
}

typedef f32x4 floats;

INLINE floats fnma_f32(floats a, floats b, floats c) {
    return fma_f32(-a, b, c);
}

/* v * 2^n in two factors, shifted: CF__EXPF_RINT + n. The first product is exact, so that a denormal result is rounded
 * once. */
INLINE floats times_power(floats v, floats shifted) {
    i32x4 k = (i32x4)shifted - (i32x4)all_f32(CF__EXPF_RINT), half = k >> 1;
    return v * (f32x4)((half + 127) << 23) * (f32x4)((k - half + 127) << 23);
}

#include "node/kernels/vectors/gate_lanes.h"

/* Sixteen lanes in four vectors: l and l+8, +4, +2, +1. */
INLINE float lane_sum(const f32x4 lane[4]) {
    f32x4 four = (lane[0] + lane[2]) + (lane[1] + lane[3]);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

void NAME(rms_norm)(float *y, const float *x, const float *w, size_t n, float eps) {
    f32x4 lane[4] = {{0}, {0}, {0}, {0}};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (size_t v = 0; v < 4; v++) {
            f32x4 a = load_f32(x + i + 4 * v);
            lane[v] += a * a;
        }
    }
    for (size_t v = 0; i < n; i += 4, v++) {
        f32x4 a = load_first(x + i, n - i);
        lane[v] += a * a;
    }
    float mean = lane_sum(lane) / (float)n;
    f32x4 scale = all_f32(1.0f / sqrtf(mean + eps));
    for (i = 0; i < n; i += 4) {
        f32x4 a = load_first(x + i, n - i) * scale;
        if (w) a *= load_first(w + i, n - i);
        store_first(y + i, a, n - i);
    }
}

INLINE void gate(const enum cf_act act, float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += 4)
        store_first(y + i, gated(act, load_first(g + i, n - i), load_first(u + i, n - i)), n - i);
}

#define GATE_LOOP(act) gate(act, y, g, u, n)
void NAME(gate_mul)(enum cf_act act, float *y, const float *g, const float *u, size_t n) {
    GATE_MUL(act)
}

void NAME(add_scaled)(float *y, const float *x, float a, size_t n) {
    for (size_t i = 0; i < n; i += 4)
        store_first(y + i, fma_f32(all_f32(a), load_first(x + i, n - i), load_first(y + i, n - i)), n - i);
}

enum { QUERIES = 4 }; /* that share what is read and converted */

/* Queries with at least one key in the page, and what becomes of their scores. */
struct attending {
    struct cf_attention_state *s[QUERIES];
    uint32_t low, high;   /* the first key of a query: of all, the lowest and the highest */
    uint32_t least, most; /* and behind its last */
    float correction[QUERIES];
    float score[QUERIES][CF__PAGE]; /* then exp(score - max); garbage from a query's n on */
};

INLINE void page_scores(struct attending *a, const struct cf_attention_page *p, const int queries) {
    for (uint32_t j = 0; j < a->most; j += 8) {
        const uint16_t *k = p->k + j;
        f32x4 dot[QUERIES][2], key[2];
        for (int i = 0; i < queries; i++)
            dot[i][0] = dot[i][1] = all_f32(0);
        for (uint32_t d = 0; d < p->d_k; d++, k += CF__PAGE) {
            from_f16(k, key);
#pragma GCC unroll 4
            for (int i = 0; i < queries; i++) {
                f32x4 of_q = all_f32(a->s[i]->q[d]);
                dot[i][0] = fma_f32(of_q, key[0], dot[i][0]);
                dot[i][1] = fma_f32(of_q, key[1], dot[i][1]);
            }
        }
        const float scale = p->cap > 0 ? 1.0f : p->scale;
        for (int i = 0; i < queries; i++) {
            store_f32(a->score[i] + j, dot[i][0] * scale);
            store_f32(a->score[i] + j + 4, dot[i][1] * scale);
        }
    }
    for (int i = 0; i < queries && p->cap > 0; i++)
        cf__cap_scores(a->score[i], a->s[i]->first, a->s[i]->n, p->scale, p->cap);
}

static void page_softmax(struct cf_attention_state *s, float *score, float *correction) {
    float max = s->max;
    for (uint32_t j = s->first; j < s->n; j++)
        max = score[j] > max ? score[j] : max;
    max += 0.0f; /* -0 becomes +0, as in the scalar file */
    *correction = s->max == -INFINITY ? 0.0f : exp_lanes(all_f32(s->max - max))[0];
    s->max = max;
    for (uint32_t l = 0; l < 16; l += 4)
        store_f32(s->sum + l, load_f32(s->sum + l) * *correction);
    for (uint32_t j = s->first / 4 * 4; j < s->n; j += 4) {
        float *sum = s->sum + j % 16;
        f32x4 share = exp_lanes(load_f32(score + j) - max);
        store_f32(score + j, share);
        for (uint32_t k = j; k < s->first; k++)
            score[k] = 0;
        /* Lanes that take no part come from garbage: they add +0 to a sum that is never -0. */
        store_f32(sum, load_f32(sum) + load_first(score + j, s->n - j));
    }
}

/* Keys [j, end) of the values into the acc of the queries that see them. */
INLINE void values_of_some(const struct attending *a, const struct cf_attention_page *p, uint32_t c,
    const uint32_t columns, const int queries, uint32_t j, uint32_t end, f32x4 acc[QUERIES][2]) {
    f32x4 value[2];
    uint16_t h[8] = {0};
    for (; j < end; j++) {
        const uint16_t *v = p->v + (size_t)j * p->d_v + c;
        if (columns < 8) memcpy(h, v, columns * sizeof *h);
        from_f16(columns < 8 ? h : v, value);
        for (int i = 0; i < queries; i++) {
            if (j < a->s[i]->first || j >= a->s[i]->n) continue;
            f32x4 share = all_f32(a->score[i][j]);
            acc[i][0] = fma_f32(share, value[0], acc[i][0]);
            acc[i][1] = fma_f32(share, value[1], acc[i][1]);
        }
    }
}

/* Columns c .. c + columns - 1 of the values, at most 8, into acc, keys in order. */
INLINE void page_values(
    struct attending *a, const struct cf_attention_page *p, uint32_t c, const uint32_t columns, const int queries) {
    const uint32_t second = columns > 4 ? columns - 4 : 0;
    f32x4 acc[QUERIES][2], value[2];
    for (int i = 0; i < queries; i++) {
        acc[i][0] = load_first(a->s[i]->acc + c, columns) * a->correction[i];
        acc[i][1] = second ? load_first(a->s[i]->acc + c + 4, second) * a->correction[i] : all_f32(0);
    }
    uint16_t h[8] = {0};
    const uint16_t *v = p->v + (size_t)a->high * p->d_v + c;
    if (a->low < a->high) values_of_some(a, p, c, columns, queries, a->low, a->high, acc);
    for (uint32_t j = a->high; j < a->least; j++, v += p->d_v) {
        if (columns < 8) memcpy(h, v, columns * sizeof *h);
        from_f16(columns < 8 ? h : v, value);
#pragma GCC unroll 4
        for (int i = 0; i < queries; i++) {
            f32x4 share = all_f32(a->score[i][j]);
            acc[i][0] = fma_f32(share, value[0], acc[i][0]);
            acc[i][1] = fma_f32(share, value[1], acc[i][1]);
        }
    }
    values_of_some(a, p, c, columns, queries, a->least > a->high ? a->least : a->high, a->most, acc);
    for (int i = 0; i < queries; i++) {
        store_first(a->s[i]->acc + c, acc[i][0], columns);
        if (second) store_first(a->s[i]->acc + c + 4, acc[i][1], second);
    }
}

INLINE void attend(struct attending *a, const struct cf_attention_page *p, const int queries) {
    page_scores(a, p, queries);
    for (int i = 0; i < queries; i++)
        page_softmax(a->s[i], a->score[i], &a->correction[i]);
    uint32_t c = 0;
    for (; c + 8 <= p->d_v; c += 8)
        page_values(a, p, c, 8, queries);
    if (c < p->d_v) page_values(a, p, c, p->d_v - c, queries);
}

void NAME(attend_page)(struct cf_attention_state *s, const struct cf_attention_page *p) {
    uint32_t next = 0;
    while (next < p->n_queries) {
        struct attending a;
        int queries = 0;
        a.least = a.low = CF__PAGE, a.most = a.high = 0;
        for (; next < p->n_queries && queries < QUERIES; next++) {
            uint32_t n = s[next].n, first = s[next].first;
            if (n == 0) continue;
            a.low = first < a.low ? first : a.low;
            a.high = first > a.high ? first : a.high;
            a.least = n < a.least ? n : a.least;
            a.most = n > a.most ? n : a.most;
            a.s[queries++] = &s[next];
        }
        switch (queries) {
        case 0: break;
        case 1: attend(&a, p, 1); break;
        case 2: attend(&a, p, 2); break;
        case 3: attend(&a, p, 3); break;
        default: attend(&a, p, 4); break;
        }
    }
}

#endif
