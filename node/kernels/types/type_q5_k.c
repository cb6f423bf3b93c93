/* Q5_K: as Q4_K, with 32 bytes more: bit s of byte j is bit 4 of column j of sub-block s (32 columns).
 * value = d * scale * w - dmin * min, w from 0 to 31.
 */
#include "node/kernels/types/pack.h"

enum { COLUMNS = 256, BYTES = 176, SCALES = 4, HIGH = 16, NIBBLES = 48 };

static void decode(const void *src, float *dst, size_t n) {
    const uint8_t *block = src;
    for (size_t i = 0; i < n; i += COLUMNS, block += BYTES) {
        float d = cf_f16_to_f32(cf__u16(block)), dmin = cf_f16_to_f32(cf__u16(block + 2));
        for (uint32_t s = 0; s < 8; s++) {
            const uint8_t *nibbles = block + NIBBLES + s / 2 * 32;
            uint8_t sc, m;
            cf__scale_min_k(block + SCALES, s, &sc, &m);
            float scale = d * (float)sc, min = dmin * (float)m;
            for (uint32_t j = 0; j < 32; j++) {
                int w = (nibbles[j] >> s % 2 * 4 & 15) | (block[HIGH + j] >> s & 1) << 4;
                dst[i + s * 32 + j] = scale * (float)w - min;
            }
        }
    }
}

/* Bit 4 of sub-blocks [first, last), of which blocks[0] is the first.
 * From bit s of word g to bit g of word s: within each byte lane, a matrix of 8 x 8 bits transposed. */
static void pack_high(struct cf__block_5 *blocks, const uint8_t *const from[CF_TILE], uint32_t first, uint32_t last) {
    uint32_t bits[8][CF_TILE];
    for (uint32_t half = 0; half < 2; half++) {
        cf__rows words;
        cf__take(words, from, HIGH + 16 * half);
        cf__transpose(bits + 4 * half, words);
    }
    for (uint32_t g = 0; g < 4; g++)
        cf__exchange_bits(bits[g], bits[g + 4], 4, 0x0f0f0f0f);
    for (uint32_t g = 0; g < 8; g += g % 2 ? 3 : 1)
        cf__exchange_bits(bits[g], bits[g + 2], 2, 0x33333333);
    for (uint32_t g = 0; g < 8; g += 2)
        cf__exchange_bits(bits[g], bits[g + 1], 1, 0x55555555);
    for (uint32_t s = first; s < last; s++)
        memcpy(blocks[s - first].high, bits[s], sizeof bits[s]);
}

static void pack_super(void *head, void *blocks, const uint8_t *const from[CF_TILE], uint32_t first, uint32_t last) {
    cf__pack_head_k(head, from);
    cf__pack_nibbles_k(blocks, sizeof(struct cf__block_5), from, NIBBLES, first, last);
    pack_high(blocks, from, first, last);
}

static void pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    cf__pack_supers(tile, rows, c0, c1, BYTES, sizeof(struct cf__head_k), sizeof(struct cf__block_5), pack_super);
}

CF__TYPE(q5_k, Q5_K, COLUMNS, BYTES, decode, pack)
