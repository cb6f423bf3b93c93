/* Q5_0: 32 columns are an f16 scale d, 4 bytes of fifth bits (bit c of the word is column c's) and 16 bytes of nibbles
 * as in Q4_0; value = d * (w - 16).
 */
#include "node/kernels/types/format.h"

static void scales_q5_0(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_pair *h = head;
    h->d[column / 32 % 2][lane] = cf__u16(block);
}

static void weights_q5_0(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    (void)s;
    cf__split_nibbles(block + 6, stored);
    cf__add_bits(cf__u32(block + 2), 16, stored);
}

CF__FORMAT_TYPE(q5_0, Q5_0, 32, 22)
