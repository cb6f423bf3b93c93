/* Blocks of packed tiles in AVX-512 registers: weights unpacked to bytes, scales to f32, 16 rows in 16 lanes.
 *
 * What product_avx512.c and product_amx.c have in common; included by these two only, so its names are short.
 */
#ifndef COFFER_NODE_KERNELS_UNPACK_AVX512_H
#define COFFER_NODE_KERNELS_UNPACK_AVX512_H

#include "node/kernels/products/fetch.h"

/* w | (high & mask): 0xf8 is the truth table of a | (b & c). */
INLINE __m512i merge(__m512i w, __m512i high, __m512i mask) {
    return _mm512_ternarylogic_epi32(w, high, mask, 0xf8);
}

/* Bits moved left, or right for a negative number, within 16 bits. */
INLINE __m512i moved(__m512i v, int left) {
    return left >= 0 ? _mm512_slli_epi16(v, left >= 0 ? left : 0) : _mm512_srli_epi16(v, left < 0 ? -left : 0);
}

INLINE __m512i load_vector(const uint8_t *block, int v) {
    return _mm512_loadu_si512(block + 64 * v);
}

/* Columns 4g .. 4g + 3 of a block of 16 rows, unsigned: the stored weights. */
INLINE __m512i weights(enum kind kind, const uint8_t *block, int g) {
    const uint32_t bits = layout_of(kind)->bits;
    if (bits == 8) return load_vector(block, g);
    __m512i v;
    if (bits < 4) {
        v = _mm512_and_si512(moved(load_vector(block, g / 4), -(g % 4 * 2)), _mm512_set1_epi8(3));
        if (bits == 3) v = merge(v, moved(load_vector(block, 2), 2 - g), _mm512_set1_epi8(4));
    } else {
        v = _mm512_and_si512(moved(load_vector(block, g % 4), g < 4 ? 0 : -4), _mm512_set1_epi8(15));
        if (bits == 5) v = merge(v, moved(load_vector(block, 4), 4 - g), _mm512_set1_epi8(0x10));
        if (bits == 6) v = merge(v, moved(load_vector(block, 4 + g / 4), 4 - g % 4 * 2), _mm512_set1_epi8(0x30));
    }
    const uint8_t *table = layout_of(kind)->table;
    if (!table) return v;
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), v);
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

/* 2^(e - 128) */
INLINE __m512 load_e8m0(const uint8_t *e) {
    const __m512i x = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)e));
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(x, _mm512_set1_epi32(1)), 23);
    const __mmask16 tiny = _mm512_cmplt_epi32_mask(x, _mm512_set1_epi32(2));
    return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, tiny, _mm512_set1_epi32(0x00200000), x));
}

/* Scales of a block by lane; [1] of columns 16 .. 31 where these have their own. */
struct scales {
    __m512 scale[2], min[2];
};

INLINE struct scales load_scales(enum kind kind, const uint8_t *head, uint32_t column) {
    const struct cf__head_pair *pair = (const void *)head;
    const struct cf__head_pair_min *pair_min = (const void *)head;
    const struct cf__head_e8m0 *e8m0 = (const void *)head;
    const struct cf__head_k *k = (const void *)head;
    const struct cf__head_k16 *k16 = (const void *)head;
    const struct cf__head_by_32 *by_32 = (const void *)head;
    const struct cf__head_by_16 *by_16 = (const void *)head;
    const uint32_t b = column / 32, in = b % 8;
    struct scales s;
    s.min[0] = s.min[1] = _mm512_setzero_ps();
    switch (layout_of(kind)->head) {
    case CF__PAIR: s.scale[0] = load_f16(pair->d[b % 2]); break;
    case CF__PAIR_MIN:
        s.scale[0] = load_f16(pair_min->d[b % 2]);
        s.min[0] = load_f16(pair_min->min[b % 2]);
        break;
    case CF__E8M0: s.scale[0] = load_e8m0(e8m0->e[b % 4]); break;
    case CF__K:
        s.scale[0] = _mm512_mul_ps(load_f16(k->d), load_u8(k->scale[in]));
        s.min[0] = _mm512_mul_ps(load_f16(k->dmin), load_u8(k->min[in]));
        break;
    case CF__BY_32: s.scale[0] = _mm512_mul_ps(_mm512_loadu_ps(by_32->d), load_i8(by_32->scale[in])); break;
    case CF__K16:
        for (uint32_t h = 0; h < 2; h++) {
            const __m512i both =
                _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)k16->both[2 * in + h]));
            const __m512i scale = _mm512_and_si512(both, _mm512_set1_epi32(15)), min = _mm512_srli_epi32(both, 4);
            s.scale[h] = _mm512_mul_ps(load_f16(k16->d), _mm512_cvtepi32_ps(scale));
            s.min[h] = _mm512_mul_ps(load_f16(k16->dmin), _mm512_cvtepi32_ps(min));
        }
        return s;
    case CF__BY_16:
        for (uint32_t h = 0; h < 2; h++)
            s.scale[h] = _mm512_mul_ps(_mm512_loadu_ps(by_16->d), load_i8(by_16->scale[2 * in + h]));
        return s;
    }
    s.scale[1] = s.scale[0];
    return s;
}

#endif
