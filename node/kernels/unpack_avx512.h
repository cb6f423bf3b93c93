/* Blocks of packed tiles in AVX-512 registers: weights unpacked to bytes, scales to f32, 16 rows in 16 lanes.
 *
 * What product_avx512.c and product_amx.c have in common; included by these two only, so its names are short.
 */
#ifndef COFFER_NODE_KERNELS_UNPACK_AVX512_H
#define COFFER_NODE_KERNELS_UNPACK_AVX512_H

#include "node/kernels/fetch.h"

INLINE void load_nibbles(const cf__vector *low, __m512i w[8]) {
    const __m512i mask = _mm512_set1_epi8(15);
    for (int g = 0; g < 4; g++) {
        __m512i v = _mm512_loadu_si512(low[g]);
        w[g] = _mm512_and_si512(v, mask);
        w[g + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    }
}

/* w | (high & mask): 0xf8 is the truth table of a | (b & c). */
INLINE __m512i merge(__m512i w, __m512i high, __m512i mask) {
    return _mm512_ternarylogic_epi32(w, high, mask, 0xf8);
}

/* Bit g of `high` becomes bit 4 of group g. */
INLINE void merge_bits(__m512i w[8], __m512i high) {
    const __m512i mask = _mm512_set1_epi8(0x10);
    w[0] = merge(w[0], _mm512_slli_epi16(high, 4), mask);
    w[1] = merge(w[1], _mm512_slli_epi16(high, 3), mask);
    w[2] = merge(w[2], _mm512_slli_epi16(high, 2), mask);
    w[3] = merge(w[3], _mm512_slli_epi16(high, 1), mask);
    w[4] = merge(w[4], high, mask);
    w[5] = merge(w[5], _mm512_srli_epi16(high, 1), mask);
    w[6] = merge(w[6], _mm512_srli_epi16(high, 2), mask);
    w[7] = merge(w[7], _mm512_srli_epi16(high, 3), mask);
}

/* Bits 2g and 2g + 1 of `high` become bits 4 and 5 of group g, for 4 groups. */
INLINE void merge_pairs(__m512i w[4], __m512i high) {
    const __m512i mask = _mm512_set1_epi8(0x30);
    w[0] = merge(w[0], _mm512_slli_epi16(high, 4), mask);
    w[1] = merge(w[1], _mm512_slli_epi16(high, 2), mask);
    w[2] = merge(w[2], high, mask);
    w[3] = merge(w[3], _mm512_srli_epi16(high, 2), mask);
}

/* The 32 columns of a block as 8 vectors of 4 columns of 16 rows, unsigned. */
INLINE void load_weights(enum kind kind, const uint8_t *block, __m512i w[8]) {
    if (kind == Q8_0) {
        for (int g = 0; g < 8; g++)
            w[g] = _mm512_loadu_si512(block + 64 * g);
        return;
    }
    load_nibbles((const cf__vector *)block, w);
    if (kind == Q5_K) {
        const struct cf__block_q5_k *b = (const void *)block;
        merge_bits(w, _mm512_loadu_si512(b->high));
    }
    if (kind == Q6_K) {
        const struct cf__block_q6_k *b = (const void *)block;
        merge_pairs(w, _mm512_loadu_si512(b->high[0]));
        merge_pairs(w + 4, _mm512_loadu_si512(b->high[1]));
    }
}

INLINE __m512 load_f16(const uint16_t *h) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)h));
}
INLINE __m512 load_u8(const uint8_t *b) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)b)));
}
INLINE __m512 load_i8(const int8_t *b) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)b)));
}

/* Scales of a block by lane: two for Q6_K, else scale[0] only. */
struct scales {
    __m512 scale[2], min;
};

INLINE struct scales load_scales(enum kind kind, const uint8_t *head, uint32_t column) {
    struct scales s;
    if (kind == Q8_0 || kind == Q4_0) {
        s.scale[0] = load_f16(((const struct cf__head_pair *)(const void *)head)->d[column / 32 % 2]);
        s.scale[1] = s.min = s.scale[0];
    } else if (kind == Q6_K) {
        const struct cf__head_q6_k *h = (const void *)head;
        __m512 d = load_f16(h->d);
        s.scale[0] = _mm512_mul_ps(d, load_i8(h->scale[column % 256 / 16]));
        s.scale[1] = _mm512_mul_ps(d, load_i8(h->scale[column % 256 / 16 + 1]));
        s.min = d;
    } else {
        const struct cf__head_k *h = (const void *)head;
        s.scale[0] = _mm512_mul_ps(load_f16(h->d), load_u8(h->scale[column % 256 / 32]));
        s.scale[1] = s.scale[0];
        s.min = _mm512_mul_ps(load_f16(h->dmin), load_u8(h->min[column % 256 / 32]));
    }
    return s;
}

#endif
