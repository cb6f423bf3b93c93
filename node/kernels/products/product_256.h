/* The quantised products with AVX2 and FMA, with or without AVX-VNNI: the 16 rows of a tile are two halves of 8 lanes.
 *
 * AVX-VNNI has vpdpbusd, which multiplies unsigned weights with signed activations into 32 bits: whatever the type, a
 * weight is taken as it is stored. Without it vpmaddubsw adds pairs in 16 bits and saturates, which must never happen:
 * weights below 128 are taken as they are stored, and as many of its results are added in 16 bits as fit (8 for Q4, 4
 * for Q5, 2 for Q6, one for IQ2). Wide weights (Q8_0, IQ4) would need a sign moved from weight to activation and fit
 * one result only: there both are widened to 16 bits beforehand, for vpmaddwd. Where weights are stored with an offset,
 * the dot starts at -offset times the sum of the activations.
 *
 * Up to 16 activation rows go together. A block is unpacked once for all of them into the first cache, from where 4
 * rows at a time share each vector; what the rows contribute is made ready for a panel of 8 blocks at a time, since it
 * is then taken by broadcast load, which costs no arithmetic port. The functions below are written once for all types
 * and specialised by inlining.
 *
 * Included by product_avx2.c and product_avx2_vnni.c.
 */
#ifndef COFFER_NODE_KERNELS_PRODUCT_256_H
#define COFFER_NODE_KERNELS_PRODUCT_256_H

#include <immintrin.h>

#include "node/kernels/products/fetch.h"
#include "node/kernels/products/product.h"

enum { ROWS = 16, PANEL = 8, GROUP = 4 };

#ifdef __AVXVNNI__
enum { VNNI = 1 };
INLINE __m256i add_products(__m256i sum, __m256i w, __m256i x) {
    return _mm256_dpbusd_avx_epi32(sum, w, x);
}
#else
enum { VNNI = 0 };
INLINE __m256i add_products(__m256i sum, __m256i w, __m256i x) { /* never called */
    (void)w, (void)x;
    return sum;
}
#endif

/* Weights that vpmaddubsw cannot take as they are stored. */
INLINE bool widens(enum kind kind) {
    return is_wide(kind) && !VNNI;
}

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
    __m256i w[16][2];              /* [vector][half]: 4 columns each as unsigned bytes (8 vectors), or 2 in 16 bits */
    __m256 scale[2][2], min[2][2]; /* [part: the block, or half of its columns][half] */
};

/* A vector of 4 columns as two of 2 columns in 16 bits: vector g holds columns 0 and 2, vector g + 8 columns 1 and 3.
 */
INLINE __m256i even_bytes(__m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi16(255));
}

/* Columns 4g .. 4g + 3 of a block, unsigned bytes: the stored weights. */
INLINE __m256i weights(enum kind kind, const uint8_t *block, int g, int half) {
    const uint32_t bits = layout_of(kind)->bits;
    const __m256i zero = _mm256_setzero_si256();
    if (bits == 8) return load_vector(block, g, half);
    __m256i v;
    if (bits < 4) {
        v = merge(zero, load_vector(block, g / 4, half), -(g % 4 * 2), _mm256_set1_epi8(3));
        if (bits == 3) v = merge(v, load_vector(block, 2, half), 2 - g, _mm256_set1_epi8(4));
    } else {
        v = merge(zero, load_vector(block, g % 4, half), g < 4 ? 0 : -4, _mm256_set1_epi8(15));
        if (bits == 5) v = merge(v, load_vector(block, 4, half), 4 - g, _mm256_set1_epi8(0x10));
        if (bits == 6) v = merge(v, load_vector(block, 4 + g / 4, half), 4 - g % 4 * 2, _mm256_set1_epi8(0x30));
    }
    const uint8_t *table = layout_of(kind)->table;
    if (!table) return v;
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table)), v);
}

INLINE void unpack_weights(enum kind kind, const uint8_t *block, int half, __m256i w[16][2]) {
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256i v = weights(kind, block, g, half);
        w[g][half] = widens(kind) ? even_bytes(v) : v;
        if (widens(kind)) w[g + 8][half] = _mm256_srli_epi16(v, 8);
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

/* 2^(e - 128) */
INLINE __m256 load_e8m0(const uint8_t *e, int half) {
    const __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(e + 8 * half)));
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(x, _mm256_set1_epi32(1)), 23);
    const __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), x);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), x)));
}

INLINE void unpack_scales(enum kind kind, const uint8_t *head, uint32_t column, int half, struct unpacked *to) {
    const struct cf__head_pair *pair = (const void *)head;
    const struct cf__head_pair_min *pair_min = (const void *)head;
    const struct cf__head_e8m0 *e8m0 = (const void *)head;
    const struct cf__head_k *k = (const void *)head;
    const struct cf__head_k16 *k16 = (const void *)head;
    const struct cf__head_by_32 *by_32 = (const void *)head;
    const struct cf__head_by_16 *by_16 = (const void *)head;
    const uint32_t b = column / 32, in = b % 8;
    switch (layout_of(kind)->head) {
    case CF__PAIR: to->scale[0][half] = load_f16(pair->d[b % 2], half); break;
    case CF__PAIR_MIN:
        to->scale[0][half] = load_f16(pair_min->d[b % 2], half);
        to->min[0][half] = load_f16(pair_min->min[b % 2], half);
        break;
    case CF__E8M0: to->scale[0][half] = load_e8m0(e8m0->e[b % 4], half); break;
    case CF__K:
        to->scale[0][half] = _mm256_mul_ps(load_f16(k->d, half), load_u8(k->scale[in], half));
        to->min[0][half] = _mm256_mul_ps(load_f16(k->dmin, half), load_u8(k->min[in], half));
        break;
    case CF__K16:
        for (uint32_t c = 0; c < 2; c++) {
            const uint8_t *at = k16->both[2 * in + c] + 8 * half;
            const __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)at));
            const __m256i scale = _mm256_and_si256(both, _mm256_set1_epi32(15)), min = _mm256_srli_epi32(both, 4);
            to->scale[c][half] = _mm256_mul_ps(load_f16(k16->d, half), _mm256_cvtepi32_ps(scale));
            to->min[c][half] = _mm256_mul_ps(load_f16(k16->dmin, half), _mm256_cvtepi32_ps(min));
        }
        break;
    case CF__BY_32:
        to->scale[0][half] = _mm256_mul_ps(_mm256_loadu_ps(by_32->d + 8 * half), load_i8(by_32->scale[in], half));
        break;
    case CF__BY_16:
        for (uint32_t c = 0; c < 2; c++)
            to->scale[c][half] =
                _mm256_mul_ps(_mm256_loadu_ps(by_16->d + 8 * half), load_i8(by_16->scale[2 * in + c], half));
        break;
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
    int32_t x[ROWS][PANEL][16];    /* what vector v of the weights is multiplied with: q, 4 or (wide) 2 columns */
    int32_t start[2][ROWS][PANEL]; /* of the dot of each part of a block: all of it, or half of its columns */
    float d[ROWS][PANEL];
    float sum_x[2][ROWS][PANEL]; /* of each part, d * sum(q), for types with a minimum */
};

/* n_blocks of row i from q, d, sum on. */
INLINE void prepare(enum kind kind, struct panel *to, uint32_t i, const int8_t *q, const float *d, const int16_t *sum,
    uint32_t n_blocks) {
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m256i v = load_vector(q + 32 * b, 0, 0), *x = (void *)to->x[i][b];
        if (widens(kind)) {
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
    const int by = has_min(kind) ? 1 : -layout_of(kind)->offset; /* times the sum of q */
    const int both = (int)((unsigned)by << 16 | (by & 0xffff)), first = by & 0xffff, second = (int)((unsigned)by << 16);
    _mm256_store_ps(to->d[i], scale);
    for (int part = 0; part < 1 + has_halves(kind); part++) {
        const int factors = !has_halves(kind) ? both : part == 0 ? first : second;
        const __m256i product = _mm256_madd_epi16(sums, _mm256_set1_epi32(factors));
        if (has_min(kind))
            _mm256_store_ps(to->sum_x[part][i], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(product)));
        else
            _mm256_store_si256((void *)to->start[part][i], product);
    }
}

INLINE __m256i broadcast32(const int32_t *at) {
    return _mm256_set1_epi32(*at);
}

/* Else GCC reorders what follows, and spills what waits. */
INLINE __m256i keep(__m256i v) {
    __asm__("" : "+x"(v));
    return v;
}

/* *sum += v, as 8 numbers of 32 bits, or 16 of 16. With keep() and the intrinsic GCC 12 copies every sum to another
 * register: a seventh of the time of Q8_0, a tenth of that of Q4_0 on a Zen 5. */
INLINE void add_32(__m256i *sum, __m256i v) {
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(v));
}
INLINE void add_16(__m256i *sum, __m256i v) {
    __asm__("vpaddw %1, %0, %0" : "+x"(*sum) : "x"(v));
}

/* dot[i][half] += vectors [v0, v1) of a block times row i0 + i, with AVX-VNNI. A loop, for of eight vectors in a row
 * GCC keeps the dots in memory. */
INLINE void add_vectors_vnni(const uint32_t n, const struct unpacked *u, const int v0, const int v1,
    const struct panel *p, uint32_t i0, uint32_t b, __m256i dot[][2]) {
#pragma GCC unroll 2
    for (int v = v0; v < v1; v++) {
        const __m256i w[2] = {_mm256_load_si256(&u->w[v][0]), _mm256_load_si256(&u->w[v][1])};
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++) {
            const __m256i x = broadcast32(&p->x[i0 + i][b][v]);
            dot[i][0] = add_products(dot[i][0], w[0], x);
            dot[i][1] = add_products(dot[i][1], w[1], x);
        }
    }
}

/* The same, also without. */
INLINE void add_vectors(enum kind kind, const uint32_t n, const struct unpacked *u, const int v0, const int v1,
    const struct panel *p, uint32_t i0, uint32_t b, __m256i dot[][2]) {
    if (VNNI && n == GROUP) {
        add_vectors_vnni(n, u, v0, v1, p, i0, b, dot);
        return;
    }
    __m256i sum[GROUP][2]; /* in 16 bits; wide: not used */
#pragma GCC unroll 16
    for (int v = v0; v < v1; v++) {
        const __m256i w[2] = {keep(_mm256_load_si256(&u->w[v][0])), keep(_mm256_load_si256(&u->w[v][1]))};
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++) {
            const __m256i x = broadcast32(&p->x[i0 + i][b][v]);
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++)
                if (VNNI) {
                    dot[i][half] = add_products(dot[i][half], w[half], x);
                } else if (widens(kind)) {
                    add_32(&dot[i][half], _mm256_madd_epi16(w[half], x));
                } else if (v == v0) {
                    sum[i][half] = keep(_mm256_maddubs_epi16(w[half], x));
                } else {
                    add_16(&sum[i][half], _mm256_maddubs_epi16(w[half], x));
                }
        }
    }
    if (VNNI || widens(kind)) return;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
            add_32(&dot[i][half], _mm256_madd_epi16(sum[i][half], _mm256_set1_epi16(1)));
}

/* One block of rows i0 .. i0 + n, n <= GROUP, scaled and added to y. */
INLINE void add_block(enum kind kind, const uint32_t n, const struct unpacked *u, const struct panel *p, uint32_t i0,
    uint32_t b, float y[ROWS][CF_TILE]) {
    const int vectors = widens(kind) ? 16 : 8, parts = has_halves(kind) ? 2 : 1, each = vectors / parts;
    const int room = 32767 / (2 * 127 * layout_of(kind)->most); /* pairs of products that fit 16 bits */
    const int fit = VNNI || widens(kind) || room >= each ? each : room >= 4 ? 4 : room >= 2 ? 2 : 1;
#pragma GCC unroll 2
    for (int part = 0; part < parts; part++) {
        __m256i dot[GROUP][2];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
            dot[i][0] = dot[i][1] = has_min(kind) ? _mm256_setzero_si256() : broadcast32(&p->start[part][i0 + i][b]);
        const int v0 = part * each, v1 = v0 + each;
#pragma GCC unroll 8
        for (int v = v0; v < v1; v += fit)
            add_vectors(kind, n, u, v, v + fit, p, i0, b, dot);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                float *to = y[i0 + i] + 8 * half;
                const __m256 both = _mm256_mul_ps(u->scale[part][half], _mm256_set1_ps(p->d[i0 + i][b]));
                __m256 acc = _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(dot[i][half]), _mm256_load_ps(to));
                if (has_min(kind))
                    acc = _mm256_fnmadd_ps(u->min[part][half], _mm256_set1_ps(p->sum_x[part][i0 + i][b]), acc);
                _mm256_store_ps(to, acc);
            }
    }
}

INLINE void quantised_rows(const struct cf_product *p, uint32_t i0, uint32_t n, const enum kind kind) {
    struct cf__cursor k = first_block(kind, p);
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
            if (i0 == 0) fetch_ahead(kind, &k);
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
            next_block(kind, &k);
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

#endif
