/* Q4_1: 32 columns are an f16 scale d, an f16 m and 16 bytes; byte j holds column j in its low and column j + 16 in its
 * high nibble; value = d * nibble + m. Packed with a minimum of -m.
 */
#include "node/kernels/types/format.h"

static void scales_q4_1(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_pair_min *h = head;
    h->d[column / 32 % 2][lane] = cf__u16(block);
    h->min[column / 32 % 2][lane] = cf__u16(block + 2) ^ 0x8000;
}

static void weights_q4_1(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    (void)s;
    cf__split_nibbles(block + 4, stored);
}

CF__FORMAT_TYPE(q4_1, Q4_1, 32, 20)
