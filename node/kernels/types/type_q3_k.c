/* Q3_K: 256 columns are 32 bytes of third bits (bit s of byte j is that of column j of run s of 32 columns), 64 bytes
 * of bit pairs as in Q2_K, 12 bytes with a 6-bit scale for each 16 columns, and an f16 d. value = d * (scale - 32) * (w
 * - 4).
 */
#include "node/kernels/types/format.h"

enum { HIGH = 0, PAIRS = 32, SCALES = 96, D = 108 };

/* The low 4 bits of scales 0..7 are the low nibbles of the first 8 bytes, of 8..15 the high ones; the upper 2 bits of
 * scale i are bits 2 (i / 4) of byte 8 + i % 4. */
static void scales_q3_k(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_by_16 *h = head;
    const uint8_t *packed = block + SCALES;
    (void)column;
    h->d[lane] = cf_f16_to_f32(cf__u16(block + D));
    for (uint32_t i = 0; i < 16; i++) {
        int low = packed[i % 8] >> i / 8 * 4 & 15, high = packed[8 + i % 4] >> i / 4 * 2 & 3;
        h->scale[i][lane] = (int8_t)((low | high << 4) - 32);
    }
}

static void weights_q3_k(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    for (uint32_t j = 0; j < CF_BLOCK; j++) {
        int low = block[PAIRS + s / 4 * 32 + j] >> s % 4 * 2 & 3, high = block[HIGH + j] >> s & 1;
        stored[j] = (uint8_t)(low | high << 2);
    }
}

CF__FORMAT_TYPE(q3_k, Q3_K, 256, 110)
