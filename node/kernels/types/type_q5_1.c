/* Q5_1: 32 columns are an f16 scale d, an f16 m, 4 bytes of fifth bits and 16 bytes of nibbles, both as in Q5_0; value
 * = d * w + m. Packed with a minimum of -m.
 */
#include "node/kernels/types/format.h"

static void scales_q5_1(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_pair_min *h = head;
    h->d[column / 32 % 2][lane] = cf__u16(block);
    h->min[column / 32 % 2][lane] = cf__u16(block + 2) ^ 0x8000;
}

static void weights_q5_1(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    (void)s;
    cf__split_nibbles(block + 8, stored);
    cf__add_bits(cf__u32(block + 4), 16, stored);
}

CF__FORMAT_TYPE(q5_1, Q5_1, 32, 24)
