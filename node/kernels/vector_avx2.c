/* The vector functions with AVX2, FMA and F16C. Same operations in the same order as vector_scalar.c, eight lanes at a
 * time: a lane is an element, a key (scores) or a value column (P x V), never a part of somebody's sum. */
#include "node/kernels/vector.h"

#ifdef __AVX2__
#include <immintrin.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))

/* All bits of the first n lanes (all from 8 on). */
INLINE __m256i first_lanes(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n >= 8 ? 8 : (int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* cf_expf in every lane. The operand order of min and max keeps NaN. */
INLINE __m256 exp_lanes(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(CF__EXPF_LEAST), x);
    x = _mm256_min_ps(_mm256_set1_ps(CF__EXPF_MOST), x);
    __m256 rint = _mm256_set1_ps(CF__EXPF_RINT);
    __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(CF__EXPF_LOG2E), rint);
    __m256 n = _mm256_sub_ps(shifted, rint);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(CF__EXPF_LN2_HI), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(CF__EXPF_LN2_LO), r);
    __m256 p = _mm256_set1_ps(CF__EXPF_C6);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CF__EXPF_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CF__EXPF_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CF__EXPF_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CF__EXPF_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    __m256i k = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(rint));
    __m256i half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

INLINE float exp_one(float x) {
    return _mm256_cvtss_f32(exp_lanes(_mm256_set1_ps(x)));
}

/* Sixteen lanes in two vectors: l and l+8, +4, +2, +1. */
INLINE float lane_sum(__m256 low, __m256 high) {
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

void cf__rms_norm_avx2(float *y, const float *x, const float *w, size_t n, float eps) {
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        size_t left = n - i;
        __m256 a = _mm256_maskload_ps(x + i, first_lanes(left));
        __m256 b = _mm256_maskload_ps(x + i + 8, first_lanes(left > 8 ? left - 8 : 0));
        low = _mm256_add_ps(low, _mm256_mul_ps(a, a));
        high = _mm256_add_ps(high, _mm256_mul_ps(b, b));
    }
    float mean = lane_sum(low, high) / (float)n;
    __m256 scale = _mm256_set1_ps(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 a = _mm256_mul_ps(_mm256_maskload_ps(x + i, m), scale);
        if (w) a = _mm256_mul_ps(a, _mm256_maskload_ps(w + i, m));
        _mm256_maskstore_ps(y + i, m, a);
    }
}

void cf__silu_mul_avx2(float *y, const float *g, const float *u, size_t n) {
    __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 a = _mm256_maskload_ps(g + i, m);
        __m256 e = exp_lanes(_mm256_xor_ps(a, sign));
        a = _mm256_div_ps(a, _mm256_add_ps(one, e));
        _mm256_maskstore_ps(y + i, m, _mm256_mul_ps(a, _mm256_maskload_ps(u + i, m)));
    }
}

void cf__add_avx2(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 a = _mm256_add_ps(_mm256_maskload_ps(y + i, m), _mm256_maskload_ps(x + i, m));
        _mm256_maskstore_ps(y + i, m, a);
    }
}

/* Pairs (2i, 2i+1): four to a vector. */
static void rope_norm(float *x, const float *cs, size_t n_dims) {
    for (size_t i = 0; i < n_dims; i += 8) {
        __m256i m = first_lanes(n_dims - i);
        __m256 a = _mm256_maskload_ps(x + i, m);
        __m256 angles = _mm256_maskload_ps(cs + i, m);
        __m256 by_cos = _mm256_mul_ps(a, _mm256_moveldup_ps(angles));
        __m256 by_sin = _mm256_mul_ps(_mm256_permute_ps(a, 0xb1), _mm256_movehdup_ps(angles));
        _mm256_maskstore_ps(x + i, m, _mm256_addsub_ps(by_cos, by_sin));
    }
}

/* Pairs (i, i + n_dims/2): eight to a vector. */
static void rope_neox(float *x, const float *cs, size_t n_dims) {
    size_t pairs = n_dims / 2;
    for (size_t i = 0; i < pairs; i += 8) {
        size_t left = pairs - i;
        __m256i m = first_lanes(left);
        __m256 low = _mm256_maskload_ps(cs + 2 * i, first_lanes(2 * left));
        __m256 high = _mm256_maskload_ps(cs + 2 * i + 8, first_lanes(left > 4 ? 2 * left - 8 : 0));
        __m256 front = _mm256_permute2f128_ps(low, high, 0x20), back = _mm256_permute2f128_ps(low, high, 0x31);
        __m256 c = _mm256_shuffle_ps(front, back, 0x88), s = _mm256_shuffle_ps(front, back, 0xdd);
        __m256 a = _mm256_maskload_ps(x + i, m), b = _mm256_maskload_ps(x + pairs + i, m);
        _mm256_maskstore_ps(x + i, m, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)));
        _mm256_maskstore_ps(x + pairs + i, m, _mm256_add_ps(_mm256_mul_ps(a, s), _mm256_mul_ps(b, c)));
    }
}

void cf__rope_avx2(float *x, const float *cs, size_t n_dims, bool neox) {
    if (neox) {
        rope_neox(x, cs, n_dims);
    } else {
        rope_norm(x, cs, n_dims);
    }
}

INLINE __m256 load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* score[0 .. 8 * vectors): a lane per key, all d in order. */
INLINE void page_scores(float *score, const float *q, const uint16_t *k, uint32_t d_k, float scale, const int vectors) {
    __m256 dot[8];
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++)
        dot[i] = _mm256_setzero_ps();
    for (uint32_t d = 0; d < d_k; d++, k += CF__PAGE) {
        __m256 of_q = _mm256_set1_ps(q[d]);
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i++)
            dot[i] = _mm256_fmadd_ps(of_q, load_f16(k + 8 * i), dot[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++)
        _mm256_store_ps(score + 8 * i, _mm256_mul_ps(dot[i], _mm256_set1_ps(scale)));
}

struct page {
    const float *p;    /* [n]: exp(score - max) */
    const uint16_t *v; /* [n][d_v], from the column at hand */
    uint32_t d_v, n;
    float correction;
};

/* acc[0 .. 8 * vectors): a lane per column, all keys in order. */
INLINE void page_columns(float *acc, const struct page *page, const int vectors) {
    __m256 a[8];
    __m256 correction = _mm256_set1_ps(page->correction);
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++)
        a[i] = _mm256_mul_ps(_mm256_loadu_ps(acc + 8 * i), correction);
    const uint16_t *v = page->v;
    for (uint32_t j = 0; j < page->n; j++, v += page->d_v) {
        __m256 p = _mm256_set1_ps(page->p[j]);
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i++)
            a[i] = _mm256_fmadd_ps(p, load_f16(v + 8 * i), a[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++)
        _mm256_storeu_ps(acc + 8 * i, a[i]);
}

/* The columns that fill no vector. */
static void page_column(float *acc, const struct page *page) {
    float a = *acc * page->correction;
    for (uint32_t j = 0; j < page->n; j++)
        a = fmaf(page->p[j], _cvtsh_ss(page->v[(size_t)j * page->d_v]), a);
    *acc = a;
}

static void page_values(float *acc, struct page *page) {
    const uint16_t *v = page->v;
    uint32_t c = 0;
    while (page->d_v - c >= 8) {
        uint32_t vectors = (page->d_v - c) / 8;
        page->v = v + c;
        switch (vectors) {
        case 1: page_columns(acc + c, page, 1); break;
        case 2: page_columns(acc + c, page, 2); break;
        case 3: page_columns(acc + c, page, 3); break;
        case 4: page_columns(acc + c, page, 4); break;
        case 5: page_columns(acc + c, page, 5); break;
        case 6: page_columns(acc + c, page, 6); break;
        case 7: page_columns(acc + c, page, 7); break;
        default: page_columns(acc + c, page, 8); break;
        }
        c += 8 * (vectors < 8 ? vectors : 8);
    }
    for (; c < page->d_v; c++) {
        page->v = v + c;
        page_column(acc + c, page);
    }
}

static void attend_query(struct cf_attention_state *s, const struct cf_attention_page *p) {
    const float *q = s->q, scale = p->scale;
    const uint16_t *k = p->k;
    uint32_t d_k = p->d_k, n = s->n;
    if (n == 0) return;
    _Alignas(32) float score[CF__PAGE];
    switch ((n + 15) / 16) {
    case 1: page_scores(score, q, k, d_k, scale, 2); break;
    case 2: page_scores(score, q, k, d_k, scale, 4); break;
    case 3: page_scores(score, q, k, d_k, scale, 6); break;
    default: page_scores(score, q, k, d_k, scale, 8); break;
    }
    float max = s->max;
    for (uint32_t j = 0; j < n; j++)
        max = score[j] > max ? score[j] : max;
    max += 0.0f; /* -0 becomes +0, as in the scalar file */
    float correction = s->max == -INFINITY ? 0.0f : exp_one(s->max - max);
    s->max = max;
    for (uint32_t l = 0; l < 16; l += 8)
        _mm256_storeu_ps(s->sum + l, _mm256_mul_ps(_mm256_loadu_ps(s->sum + l), _mm256_set1_ps(correction)));
    for (uint32_t j = 0; j < n; j += 8) {
        float *sum = s->sum + j % 16;
        __m256 share = exp_lanes(_mm256_sub_ps(_mm256_load_ps(score + j), _mm256_set1_ps(max)));
        _mm256_store_ps(score + j, share);
        /* Lanes beyond n come from garbage: they add +0 to a sum that is never -0. */
        share = _mm256_and_ps(share, _mm256_castsi256_ps(first_lanes(n - j)));
        _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), share));
    }
    page_values(s->acc, &(struct page){.p = score, .v = p->v, .d_v = p->d_v, .n = n, .correction = correction});
}

void cf__attend_page_avx2(struct cf_attention_state *s, const struct cf_attention_page *p) {
    for (uint32_t i = 0; i < p->n_queries; i++)
        attend_query(s + i, p);
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

void cf__to_f16_avx2(uint16_t *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}
#endif
