/* The vector functions with AVX-512 (F, BW, VL, DQ). Same operations in the same order as vector_scalar.c, sixteen
 * lanes at a time: a lane is an element, a key (scores) or a value column (P x V), never a part of somebody's sum. */
#include "node/kernels/vector.h"

#ifdef __AVX512F__
#include <immintrin.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))

/* The first n lanes (all from 16 on). */
INLINE __mmask16 first_lanes(size_t n) {
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1);
}

/* cf_expf in every lane. The operand order of min and max keeps NaN. */
INLINE __m512 exp_lanes(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(CF__EXPF_LEAST), x);
    x = _mm512_min_ps(_mm512_set1_ps(CF__EXPF_MOST), x);
    __m512 rint = _mm512_set1_ps(CF__EXPF_RINT);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(CF__EXPF_LOG2E), rint), rint);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(CF__EXPF_LN2_HI), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(CF__EXPF_LN2_LO), r);
    __m512 p = _mm512_set1_ps(CF__EXPF_C6);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CF__EXPF_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CF__EXPF_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CF__EXPF_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CF__EXPF_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

INLINE float exp_one(float x) {
    return _mm512_cvtss_f32(exp_lanes(_mm512_set1_ps(x)));
}

/* Lanes l and l+8, +4, +2, +1. */
INLINE float lane_sum(__m512 lanes) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

void cf__rms_norm_avx512(float *y, const float *x, const float *w, size_t n, float eps) {
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __m512 a = _mm512_maskz_loadu_ps(first_lanes(n - i), x + i);
        lanes = _mm512_add_ps(lanes, _mm512_mul_ps(a, a));
    }
    float mean = lane_sum(lanes) / (float)n;
    __m512 scale = _mm512_set1_ps(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 a = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), scale);
        if (w) a = _mm512_mul_ps(a, _mm512_maskz_loadu_ps(m, w + i));
        _mm512_mask_storeu_ps(y + i, m, a);
    }
}

void cf__silu_mul_avx512(float *y, const float *g, const float *u, size_t n) {
    __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 a = _mm512_maskz_loadu_ps(m, g + i);
        __m512 e = exp_lanes(_mm512_xor_ps(a, sign));
        a = _mm512_div_ps(a, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(a, _mm512_maskz_loadu_ps(m, u + i)));
    }
}

void cf__add_avx512(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 a = _mm512_add_ps(_mm512_maskz_loadu_ps(m, y + i), _mm512_maskz_loadu_ps(m, x + i));
        _mm512_mask_storeu_ps(y + i, m, a);
    }
}

/* Pairs (2i, 2i+1): eight to a vector. */
static void rope_norm(float *x, const float *cs, size_t n_dims) {
    for (size_t i = 0; i < n_dims; i += 16) {
        __mmask16 m = first_lanes(n_dims - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i);
        __m512 angles = _mm512_maskz_loadu_ps(m, cs + i);
        __m512 by_cos = _mm512_mul_ps(a, _mm512_moveldup_ps(angles));
        __m512 by_sin = _mm512_mul_ps(_mm512_permute_ps(a, 0xb1), _mm512_movehdup_ps(angles));
        a = _mm512_mask_sub_ps(_mm512_add_ps(by_cos, by_sin), 0x5555, by_cos, by_sin);
        _mm512_mask_storeu_ps(x + i, m, a);
    }
}

/* Pairs (i, i + n_dims/2): sixteen to a vector. */
static void rope_neox(float *x, const float *cs, size_t n_dims) {
    size_t pairs = n_dims / 2;
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (size_t i = 0; i < pairs; i += 16) {
        size_t left = pairs - i;
        __mmask16 m = first_lanes(left);
        __m512 low = _mm512_maskz_loadu_ps(first_lanes(2 * left), cs + 2 * i);
        __m512 high = _mm512_maskz_loadu_ps(first_lanes(left > 8 ? 2 * left - 16 : 0), cs + 2 * i + 16);
        __m512 c = _mm512_permutex2var_ps(low, even, high), s = _mm512_permutex2var_ps(low, odd, high);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + pairs + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + pairs + i, m, _mm512_add_ps(_mm512_mul_ps(a, s), _mm512_mul_ps(b, c)));
    }
}

void cf__rope_avx512(float *x, const float *cs, size_t n_dims, bool neox) {
    if (neox) {
        rope_neox(x, cs, n_dims);
    } else {
        rope_norm(x, cs, n_dims);
    }
}

INLINE __m512 load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* score[0 .. 16 * vectors): a lane per key, all d in order. */
INLINE void page_scores(float *score, const float *q, const uint16_t *k, uint32_t d_k, float scale, const int vectors) {
    __m512 dot[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (uint32_t d = 0; d < d_k; d++, k += CF__PAGE) {
        __m512 of_q = _mm512_set1_ps(q[d]);
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++)
            dot[i] = _mm512_fmadd_ps(of_q, load_f16(k + 16 * i), dot[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++)
        _mm512_store_ps(score + 16 * i, _mm512_mul_ps(dot[i], _mm512_set1_ps(scale)));
}

struct page {
    const float *p;    /* [n]: exp(score - max) */
    const uint16_t *v; /* [n][d_v], from the column at hand */
    uint32_t d_v, n;
    float correction;
};

/* acc[0 .. 16 * vectors): a lane per column, all keys in order. `last` masks the last vector. */
INLINE void page_columns(float *acc, const struct page *page, const int vectors, __mmask16 last) {
    __m512 a[8];
    __m512 correction = _mm512_set1_ps(page->correction);
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++)
        a[i] = _mm512_mul_ps(_mm512_maskz_loadu_ps(i + 1 < vectors ? 0xffff : last, acc + 16 * i), correction);
    const uint16_t *v = page->v;
    for (uint32_t j = 0; j < page->n; j++, v += page->d_v) {
        __m512 p = _mm512_set1_ps(page->p[j]);
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i++) {
            __m512 value =
                i + 1 < vectors ? load_f16(v + 16 * i) : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(last, v + 16 * i));
            a[i] = _mm512_fmadd_ps(p, value, a[i]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++)
        _mm512_mask_storeu_ps(acc + 16 * i, i + 1 < vectors ? 0xffff : last, a[i]);
}

static void page_values(float *acc, struct page *page) {
    const uint16_t *v = page->v;
    for (uint32_t c = 0; c < page->d_v; c += 128) {
        uint32_t columns = page->d_v - c < 128 ? page->d_v - c : 128;
        __mmask16 last = first_lanes((columns - 1) % 16 + 1);
        page->v = v + c;
        switch ((columns + 15) / 16) {
        case 1: page_columns(acc + c, page, 1, last); break;
        case 2: page_columns(acc + c, page, 2, last); break;
        case 3: page_columns(acc + c, page, 3, last); break;
        case 4: page_columns(acc + c, page, 4, last); break;
        case 5: page_columns(acc + c, page, 5, last); break;
        case 6: page_columns(acc + c, page, 6, last); break;
        case 7: page_columns(acc + c, page, 7, last); break;
        default: page_columns(acc + c, page, 8, last); break;
        }
    }
}

static void attend_query(struct cf_attention_state *s, const struct cf_attention_page *p) {
    const float *q = s->q, scale = p->scale;
    const uint16_t *k = p->k;
    uint32_t d_k = p->d_k, n = s->n;
    if (n == 0) return;
    _Alignas(64) float score[CF__PAGE];
    switch ((n + 15) / 16) {
    case 1: page_scores(score, q, k, d_k, scale, 1); break;
    case 2: page_scores(score, q, k, d_k, scale, 2); break;
    case 3: page_scores(score, q, k, d_k, scale, 3); break;
    default: page_scores(score, q, k, d_k, scale, 4); break;
    }
    /* Lanes beyond n come from garbage: masked here, never looked at again. */
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 most = _mm512_set1_ps(s->max);
    for (uint32_t j = 0; j < n; j += 16) {
        __m512 a = _mm512_mask_load_ps(none, first_lanes(n - j), score + j);
        most = _mm512_max_ps(a, most);
    }
    float max = _mm512_reduce_max_ps(most) + 0.0f; /* -0 becomes +0, as in the scalar file */
    float correction = s->max == -INFINITY ? 0.0f : exp_one(s->max - max);
    s->max = max;
    __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(s->sum), _mm512_set1_ps(correction));
    for (uint32_t j = 0; j < n; j += 16) {
        __m512 share = exp_lanes(_mm512_sub_ps(_mm512_load_ps(score + j), _mm512_set1_ps(max)));
        sum = _mm512_mask_add_ps(sum, first_lanes(n - j), sum, share);
        _mm512_store_ps(score + j, share);
    }
    _mm512_storeu_ps(s->sum, sum);
    page_values(s->acc, &(struct page){.p = score, .v = p->v, .d_v = p->d_v, .n = n, .correction = correction});
}

void cf__attend_page_avx512(struct cf_attention_state *s, const struct cf_attention_page *p) {
    for (uint32_t i = 0; i < p->n_queries; i++)
        attend_query(s + i, p);
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

void cf__to_f16_avx512(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i);
        _mm256_mask_storeu_epi16(y + i, m, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}
#endif
