/* Q4_K: 256 columns are f16 d and dmin, 12 bytes with a 6-bit scale and min for each 32 columns, and 128 bytes of
 * nibbles: each 32 bytes hold 32 columns in their low nibbles and the next 32 in their high ones.
 * value = d * scale * nibble - dmin * min.
 */
#include "node/kernels/types/pack.h"

enum { COLUMNS = 256, BYTES = 144, SCALES = 4, NIBBLES = 16 };

static void decode(const void *src, float *dst, size_t n) {
    const uint8_t *block = src;
    for (size_t i = 0; i < n; i += COLUMNS, block += BYTES) {
        float d = cf_f16_to_f32(cf__u16(block)), dmin = cf_f16_to_f32(cf__u16(block + 2));
        for (uint32_t s = 0; s < 8; s++) {
            const uint8_t *nibbles = block + NIBBLES + s / 2 * 32;
            uint8_t sc, m;
            cf__scale_min_k(block + SCALES, s, &sc, &m);
            float scale = d * (float)sc, min = dmin * (float)m;
            for (uint32_t j = 0; j < 32; j++)
                dst[i + s * 32 + j] = scale * (float)(nibbles[j] >> s % 2 * 4 & 15) - min;
        }
    }
}

static void pack_super(void *head, void *blocks, const uint8_t *const from[CF_TILE], uint32_t first, uint32_t last) {
    cf__pack_head_k(head, from);
    cf__pack_nibbles_k(blocks, sizeof(struct cf__block_4), from, NIBBLES, first, last);
}

static void pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    cf__pack_supers(tile, rows, c0, c1, BYTES, sizeof(struct cf__head_k), sizeof(struct cf__block_4), pack_super);
}

CF__TYPE(q4_k, Q4_K, COLUMNS, BYTES, decode, pack)
