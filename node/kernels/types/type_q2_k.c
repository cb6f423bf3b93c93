/* Q2_K: 256 columns are 16 bytes with a 4-bit scale and (high) a 4-bit min for each 16 columns, 64 bytes of bit pairs,
 * f16 d and dmin. In each half of 128 columns run t of 32 columns has its pairs in bits 2t of 32 bytes.
 * value = d * scale * w - dmin * min.
 */
#include "node/kernels/types/format.h"

enum { PAIRS = 16, D = 80, DMIN = 82 };

static void scales_q2_k(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_k16 *h = head;
    (void)column;
    h->d[lane] = cf__u16(block + D);
    h->dmin[lane] = cf__u16(block + DMIN);
    for (uint32_t i = 0; i < 16; i++)
        h->both[i][lane] = block[i];
}

static void weights_q2_k(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    for (uint32_t j = 0; j < CF_BLOCK; j++)
        stored[j] = block[PAIRS + s / 4 * 32 + j] >> s % 4 * 2 & 3;
}

CF__FORMAT_TYPE(q2_k, Q2_K, 256, 84)
