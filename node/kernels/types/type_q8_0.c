/* Q8_0: 32 columns are an f16 scale d and 32 signed bytes; value = d * byte. */
#include "node/kernels/types/pack.h"

enum { COLUMNS = 32, BYTES = 34, PAIR = 64 };

static void decode(const void *src, float *dst, size_t n) {
    const uint8_t *block = src;
    for (size_t i = 0; i < n; i += COLUMNS, block += BYTES) {
        float d = cf_f16_to_f32(cf__u16(block));
        for (uint32_t j = 0; j < COLUMNS; j++)
            dst[i + j] = d * (float)(int8_t)block[2 + j];
    }
}

static void pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    uint8_t *at = tile;
    struct cf__head_pair *head = NULL;
    for (uint32_t c = c0; c < c1; c += COLUMNS) {
        if (!head || c % PAIR == 0) {
            head = memset(at, 0, sizeof *head);
            at += sizeof *head;
        }
        struct cf__block_8 *block = (void *)at;
        const uint8_t *from[CF_TILE];
        cf__file_blocks(from, rows, c0, c, COLUMNS, BYTES);
        for (uint32_t r = 0; r < CF_TILE; r++)
            head->d[c / COLUMNS % 2][r] = cf__u16(from[r]);
        for (uint32_t half = 0; half < 2; half++) {
            cf__rows words;
            cf__take(words, from, 2 + 16 * half);
#pragma GCC unroll 1
            for (uint32_t r = 0; r < CF_TILE; r++)
                for (uint32_t g = 0; g < 4; g++)
                    words[r][g] ^= 0x80808080;
            cf__put_groups(block->w + 4 * half, words);
        }
        at += sizeof *block;
    }
}

CF__TYPE(q8_0, Q8_0, COLUMNS, BYTES, decode, pack)
