/* Q6_K: 256 columns are 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales (one per 16 columns) and
 * an f16 d. In each half of 128 columns, of the four runs t of 32 columns, run t has its nibbles in bytes
 * 32 * (t % 2) ..., low for t < 2 and high else, and its pairs in bits 2t of 32 bytes. value = d * scale * (w - 32).
 */
#include "node/kernels/types/pack.h"

enum { COLUMNS = 256, BYTES = 210, HIGH = 128, SCALES = 192, D = 208 };

/* Where sub-block s (32 columns) lies in a block of the file. */
struct place {
    const uint8_t *low, *high;
    uint32_t low_shift, high_shift;
};

static inline struct place place_of(const uint8_t *block, uint32_t s) {
    uint32_t half = s / 4, t = s % 4;
    return (struct place){block + half * 64 + t % 2 * 32, block + HIGH + half * 32, t / 2 * 4, t * 2};
}

static void decode(const void *src, float *dst, size_t n) {
    const uint8_t *block = src;
    for (size_t i = 0; i < n; i += COLUMNS, block += BYTES) {
        float d = cf_f16_to_f32(cf__u16(block + D));
        for (uint32_t s = 0; s < 8; s++) {
            struct place p = place_of(block, s);
            for (uint32_t j = 0; j < 32; j++) {
                int w = (p.low[j] >> p.low_shift & 15) | (p.high[j] >> p.high_shift & 3) << 4;
                float scale = d * (float)(int8_t)block[SCALES + s * 2 + j / 16];
                dst[i + s * 32 + j] = scale * (float)(w - 32);
            }
        }
    }
}

static void pack_head(struct cf__head_by_16 *head, const uint8_t *const from[CF_TILE]) {
    cf__rows rows;
    cf__lanes words;
    uint8_t scale[16][CF_TILE];
    for (uint32_t r = 0; r < CF_TILE; r++)
        head->d[r] = cf_f16_to_f32(cf__u16(from[r] + D));
    cf__take(rows, from, SCALES);
    cf__transpose(words, rows);
    for (uint32_t i = 0; i < 4; i++)
        cf__put_bytes(scale + 4 * i, words[i]);
    memcpy(head->scale, scale, sizeof scale);
}

/* Sub-blocks [first, last), of which blocks[0] is the first. */
static void pack_nibbles(
    struct cf__block_6 *blocks, const uint8_t *const from[CF_TILE], uint32_t first, uint32_t last) {
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t s = i / 2 * 4 + i % 2; /* its nibbles lie below those of s + 2 */
        if (s + 2 < first || s >= last) continue;
        cf__rows low, high;
        cf__take_nibbles(low, high, from, i * 32);
        if (s >= first) cf__put_groups(blocks[s - first].low, low);
        if (s + 2 < last) cf__put_groups(blocks[s + 2 - first].low, high);
    }
}

/* From pair t of word g to pair g of word t: within each byte lane, a matrix of 4 x 4 pairs transposed. */
static void pack_high(struct cf__block_6 *blocks, const uint8_t *const from[CF_TILE], uint32_t first, uint32_t last) {
    for (uint32_t i = 0; i < 4; i++) {
        cf__rows words;
        cf__lanes pairs;
        cf__take(words, from, HIGH + 16 * i);
        cf__transpose(pairs, words);
        cf__exchange_bits(pairs[0], pairs[2], 4, 0x0f0f0f0f);
        cf__exchange_bits(pairs[1], pairs[3], 4, 0x0f0f0f0f);
        cf__exchange_bits(pairs[0], pairs[1], 2, 0x33333333);
        cf__exchange_bits(pairs[2], pairs[3], 2, 0x33333333);
        for (uint32_t t = 0, s = i / 2 * 4; t < 4; t++, s++)
            if (s >= first && s < last) memcpy(blocks[s - first].high[i % 2], pairs[t], sizeof pairs[t]);
    }
}

static void pack_super(void *head, void *blocks, const uint8_t *const from[CF_TILE], uint32_t first, uint32_t last) {
    pack_head(head, from);
    pack_nibbles(blocks, from, first, last);
    pack_high(blocks, from, first, last);
}

static void pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    cf__pack_supers(tile, rows, c0, c1, BYTES, sizeof(struct cf__head_by_16), sizeof(struct cf__block_6), pack_super);
}

CF__TYPE(q6_k, Q6_K, COLUMNS, BYTES, decode, pack)
