/* Q4_0: 32 columns are an f16 scale d and 16 bytes; byte j holds column j in its low and column j + 16 in its high
 * nibble; value = d * (nibble - 8).
 */
#include "node/kernels/types/pack.h"

enum { COLUMNS = 32, BYTES = 18, PAIR = 64 };

static void decode(const void *src, float *dst, size_t n) {
    const uint8_t *block = src;
    for (size_t i = 0; i < n; i += COLUMNS, block += BYTES) {
        float d = cf_f16_to_f32(cf__u16(block));
        for (uint32_t j = 0; j < 16; j++) {
            dst[i + j] = d * (float)((block[2 + j] & 15) - 8);
            dst[i + j + 16] = d * (float)((block[2 + j] >> 4) - 8);
        }
    }
}

/* The nibbles of a file lie as a block wants them: groups g and g + 4 share their bytes. */
static void pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    uint8_t *at = tile;
    struct cf__head_pair *head = NULL;
    for (uint32_t c = c0; c < c1; c += COLUMNS) {
        if (!head || c % PAIR == 0) {
            head = memset(at, 0, sizeof *head);
            at += sizeof *head;
        }
        struct cf__block_4 *block = (void *)at;
        const uint8_t *from[CF_TILE];
        cf__file_blocks(from, rows, c0, c, COLUMNS, BYTES);
        for (uint32_t r = 0; r < CF_TILE; r++)
            head->d[c / COLUMNS % 2][r] = cf__u16(from[r]);
        cf__rows words;
        cf__take(words, from, 2);
        cf__put_groups(block->low, words);
        at += sizeof *block;
    }
}

CF__TYPE(q4_0, Q4_0, COLUMNS, BYTES, decode, pack)
