/* The products and the rounding of activations with AVX2 and FMA: the 16 rows of a tile are two halves of 8 lanes.
 *
 * vpmaddubsw adds pairs in 16 bits and saturates, which must never happen: weights below 64 are taken as they are
 * stored, and as many of its results are added in 16 bits as fit (8 for Q4, 4 for Q5, 2 for Q6). Q8_0 would need a sign
 * moved from weight to activation and fits one result only: there both are widened to 16 bits beforehand, for vpmaddwd.
 * Where weights are stored with an offset, the dot starts at -offset times the sum of the activations.
 *
 * Up to 16 activation rows go together. A block is unpacked once for all of them into the first cache, from where 4
 * rows at a time share each vector; what the rows contribute is made ready for a panel of 8 blocks at a time, since it
 * is then taken by broadcast load, which costs no arithmetic port. The functions below are written once for all types
 * and specialised by inlining.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "node/kernels/fetch.h"
#include "node/kernels/product.h"

enum { ROWS = 16, PANEL = 8, GROUP = 4 };

/* Rows 8 * half .. of vector v. */
INLINE __m256i load_vector(const void *vectors, int v, int half) {
    return _mm256_loadu_si256((const void *)((const uint8_t *)vectors + 64 * v + 32 * half));
}

/* w | (v shifted left by `left` bits & mask) */
INLINE __m256i merge(__m256i w, __m256i v, int left, __m256i mask) {
    __m256i moved = left >= 0 ? _mm256_slli_epi16(v, left) : _mm256_srli_epi16(v, -left);
    return _mm256_or_si256(w, _mm256_and_si256(moved, mask));
}

/* A block of 32 columns, unpacked. */
struct unpacked {
    __m256i w[16][2];           /* [vector][half]: 4 columns each as unsigned bytes (8 vectors); Q8_0: see widened */
    __m256 scale[2][2], min[2]; /* [half of the columns, Q6_K only][half], [half] */
};

/* A vector of 4 columns as two of 2 columns in 16 bits: vector g holds columns 0 and 2, vector g + 8 columns 1 and 3.
 */
INLINE __m256i even_bytes(__m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi16(255));
}

INLINE void unpack_weights(enum kind kind, const uint8_t *block, int half, __m256i w[16][2]) {
    if (kind == Q8_0) {
        for (int g = 0; g < 8; g++) {
            __m256i v = load_vector(block, g, half);
            w[g][half] = even_bytes(v);
            w[g + 8][half] = _mm256_srli_epi16(v, 8);
        }
        return;
    }
    const __m256i low = _mm256_set1_epi8(15), bit4 = _mm256_set1_epi8(0x10), bits45 = _mm256_set1_epi8(0x30);
    __m256i high[2];
    if (kind == Q5_K) high[0] = high[1] = load_vector(((const struct cf__block_q5_k *)block)->high, 0, half);
    if (kind == Q6_K)
        for (int h = 0; h < 2; h++)
            high[h] = load_vector(((const struct cf__block_q6_k *)block)->high, h, half);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256i v = load_vector(block, g % 4, half);
        v = _mm256_and_si256(g < 4 ? v : _mm256_srli_epi16(v, 4), low);
        if (kind == Q5_K) v = merge(v, high[0], 4 - g, bit4);
        if (kind == Q6_K) v = merge(v, high[g / 4], 4 - g % 4 * 2, bits45);
        w[g][half] = v;
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

INLINE void unpack_scales(enum kind kind, const uint8_t *head, uint32_t column, int half, struct unpacked *to) {
    if (kind == Q8_0 || kind == Q4_0) {
        to->scale[0][half] = load_f16(((const struct cf__head_pair *)(const void *)head)->d[column / 32 % 2], half);
    } else if (kind == Q6_K) {
        const struct cf__head_q6_k *h = (const void *)head;
        __m256 d = load_f16(h->d, half);
        for (uint32_t c = 0; c < 2; c++)
            to->scale[c][half] = _mm256_mul_ps(d, load_i8(h->scale[column % 256 / 16 + c], half));
    } else {
        const struct cf__head_k *h = (const void *)head;
        to->scale[0][half] = _mm256_mul_ps(load_f16(h->d, half), load_u8(h->scale[column % 256 / 32], half));
        to->min[half] = _mm256_mul_ps(load_f16(h->dmin, half), load_u8(h->min[column % 256 / 32], half));
    }
}

INLINE void unpack(enum kind kind, const struct cf__cursor *k, struct unpacked *to) {
    for (int half = 0; half < 2; half++) {
        unpack_weights(kind, k->block, half, to->w);
        unpack_scales(kind, k->head, k->column, half, to);
    }
}

/* The activation rows over a panel of blocks. */
struct panel {
    int32_t x[ROWS][PANEL][16];    /* what vector v of the weights is multiplied with: q, 4 or (Q8_0) 2 columns */
    int32_t start[2][ROWS][PANEL]; /* of the dot of each block (Q6_K: of each half of one) */
    float d[ROWS][PANEL];
    float sum_x[ROWS][PANEL]; /* d * sum(q), for types with a minimum */
};

/* n_blocks of row i from q, d, sum on. */
INLINE void prepare(enum kind kind, struct panel *to, uint32_t i, const int8_t *q, const float *d, const int16_t *sum,
    uint32_t n_blocks) {
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i v = load_vector(q + 32 * b, 0, 0), *x = (void *)to->x[i][b];
        if (kind == Q8_0) {
            _mm256_store_si256(x, _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
            _mm256_store_si256(x + 1, _mm256_srai_epi16(v, 8));
        } else {
            _mm256_store_si256(x, v);
        }
    }
    const __m256i eight = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i blocks = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n_blocks), eight);
    const __m256i sums = _mm256_maskload_epi32((const void *)sum, blocks); /* two of 16 columns for each block */
    const __m256 scale = _mm256_maskload_ps(d, blocks);
    __m256i *start[2] = {(void *)to->start[0][i], (void *)to->start[1][i]};
    _mm256_store_ps(to->d[i], scale);
    if (kind == Q8_0) _mm256_store_si256(start[0], _mm256_madd_epi16(sums, _mm256_set1_epi16(-128)));
    if (kind == Q4_0) _mm256_store_si256(start[0], _mm256_madd_epi16(sums, _mm256_set1_epi16(-8)));
    if (kind == Q6_K) {
        _mm256_store_si256(start[0], _mm256_madd_epi16(sums, _mm256_set1_epi32(-32 & 0xffff)));
        _mm256_store_si256(start[1], _mm256_madd_epi16(sums, _mm256_set1_epi32((int)0xffe00000)));
    }
    if (has_min(kind)) {
        __m256 whole = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
        _mm256_store_ps(to->sum_x[i], _mm256_mul_ps(scale, whole));
    }
}

INLINE __m256i broadcast32(const int32_t *at) {
    return _mm256_set1_epi32(*at);
}

/* Else GCC reorders the additions of integers, and spills what waits to be added. */
INLINE __m256i keep(__m256i v) {
    __asm__("" : "+x"(v));
    return v;
}

/* dot[i][half] += vectors [v0, v1) of a block times row i0 + i. */
INLINE void add_vectors(enum kind kind, const uint32_t n, const struct unpacked *u, const int v0, const int v1,
    const struct panel *p, uint32_t i0, uint32_t b, __m256i dot[][2]) {
    __m256i sum[GROUP][2]; /* in 16 bits; Q8_0: not used */
#pragma GCC unroll 16
    for (int v = v0; v < v1; v++) {
        const __m256i w[2] = {keep(_mm256_load_si256(&u->w[v][0])), keep(_mm256_load_si256(&u->w[v][1]))};
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++) {
            const __m256i x = broadcast32(&p->x[i0 + i][b][v]);
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++)
                if (kind == Q8_0) {
                    dot[i][half] = keep(_mm256_add_epi32(dot[i][half], _mm256_madd_epi16(w[half], x)));
                } else {
                    __m256i pairs = _mm256_maddubs_epi16(w[half], x);
                    sum[i][half] = keep(v == v0 ? pairs : _mm256_add_epi16(sum[i][half], pairs));
                }
        }
    }
    if (kind == Q8_0) return;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
            dot[i][half] = _mm256_add_epi32(dot[i][half], _mm256_madd_epi16(sum[i][half], _mm256_set1_epi16(1)));
}

/* One block of rows i0 .. i0 + n, n <= GROUP, scaled and added to y. */
INLINE void add_block(enum kind kind, const uint32_t n, const struct unpacked *u, const struct panel *p, uint32_t i0,
    uint32_t b, float y[ROWS][CF_TILE]) {
    const int vectors = kind == Q8_0 ? 16 : 8, parts = kind == Q6_K ? 2 : 1;
    const int fit = kind == Q5_K ? 4 : kind == Q6_K ? 2 : vectors; /* in 16 bits */
#pragma GCC unroll 2
    for (int part = 0; part < parts; part++) {
        __m256i dot[GROUP][2];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
            dot[i][0] = dot[i][1] = has_min(kind) ? _mm256_setzero_si256() : broadcast32(&p->start[part][i0 + i][b]);
        const int v0 = part * vectors / parts, v1 = v0 + vectors / parts;
#pragma GCC unroll 4
        for (int v = v0; v < v1; v += fit)
            add_vectors(kind, n, u, v, v + fit, p, i0, b, dot);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                float *to = y[i0 + i] + 8 * half;
                const __m256 both = _mm256_mul_ps(u->scale[part][half], _mm256_set1_ps(p->d[i0 + i][b]));
                __m256 acc = _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(dot[i][half]), _mm256_load_ps(to));
                if (has_min(kind)) acc = _mm256_fnmadd_ps(u->min[half], _mm256_set1_ps(p->sum_x[i0 + i][b]), acc);
                _mm256_store_ps(to, acc);
            }
    }
}

INLINE void quantised_rows(const struct cf_product *p, uint32_t i0, uint32_t n, const enum kind kind) {
    const struct shape shape = shape_of(kind);
    struct cf__cursor k = cf__cursor_at(p->tile, p->tile_c0, p->c0, shape.super, shape.head_bytes, shape.block_bytes);
    struct unpacked u;
    _Alignas(64) struct panel panel;
    _Alignas(64) float y[ROWS][CF_TILE];
    memset(y, 0, n * sizeof *y);
    for (uint32_t done = 0; k.column < p->c1;) {
        const uint32_t left = (p->c1 - k.column) / CF_BLOCK, n_blocks = left < PANEL ? left : PANEL;
        for (uint32_t i = 0; i < n; i++)
            prepare(kind, &panel, i, cf__row_q(p, i0 + i) + 32 * done, cf__row_d(p, i0 + i) + done,
                cf__row_sum(p, i0 + i) + 2 * done, n_blocks);
        for (uint32_t b = 0; b < n_blocks; b++) {
            if (i0 == 0) fetch_ahead(&k, shape);
            unpack(kind, &k, &u);
            uint32_t i = 0;
            for (; i + GROUP <= n; i += GROUP)
                add_block(kind, GROUP, &u, &panel, i, b, y);
            switch (n - i) {
            case 1: add_block(kind, 1, &u, &panel, i, b, y); break;
            case 2: add_block(kind, 2, &u, &panel, i, b, y); break;
            case 3: add_block(kind, 3, &u, &panel, i, b, y); break;
            default: break;
            }
            cf__cursor_next(&k, shape.super, shape.head_bytes, shape.block_bytes);
        }
        done += n_blocks;
    }
    memcpy(p->y + (size_t)i0 * CF_TILE, y, n * sizeof *y);
}

/* Up to 16 rows at a time, as even as can be in whole groups. */
INLINE void quantised(const struct cf_product *p, const enum kind kind) {
    if (p->n == 1) { /* a constant: the block in hand stays in registers */
        quantised_rows(p, 0, 1, kind);
        return;
    }
    const uint32_t passes = (p->n + ROWS - 1) / ROWS, each = passes ? (p->n + passes - 1) / passes : 0;
    const uint32_t most = (each + GROUP - 1) / GROUP * GROUP;
    for (uint32_t i0 = 0; i0 < p->n; i0 += most)
        quantised_rows(p, i0, p->n - i0 < most ? p->n - i0 : most, kind);
}

void cf__product_q8_0_avx2(const struct cf_product *p) {
    quantised(p, Q8_0);
}
void cf__product_q4_0_avx2(const struct cf_product *p) {
    quantised(p, Q4_0);
}
void cf__product_q4_k_avx2(const struct cf_product *p) {
    quantised(p, Q4_K);
}
void cf__product_q5_k_avx2(const struct cf_product *p) {
    quantised(p, Q5_K);
}
void cf__product_q6_k_avx2(const struct cf_product *p) {
    quantised(p, Q6_K);
}

/* Calls `rows(p, i0, count, kind)` with a constant count for up to 4 rows at a time. */
#define BY_ROWS(rows, p, kind)                                                                                         \
    for (uint32_t i0 = 0; i0 < (p)->n; i0 += GROUP)                                                                    \
        switch ((p)->n - i0) {                                                                                         \
        case 1: rows(p, i0, 1, kind); break;                                                                           \
        case 2: rows(p, i0, 2, kind); break;                                                                           \
        case 3: rows(p, i0, 3, kind); break;                                                                           \
        default: rows(p, i0, GROUP, kind); break;                                                                      \
        }

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
    __m256 acc[2][GROUP], zero = _mm256_setzero_ps();
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
