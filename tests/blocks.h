/* Where the scales lie in a block of a file of each quantised type, so that tests and benches can draw random blocks
 * whose values are finite.
 */
#ifndef COFFER_TESTS_BLOCKS_H
#define COFFER_TESTS_BLOCKS_H

#include <string.h>

#include "node/kernels/type.h"

/* Byte offsets of the f16 scales (d, and m or dmin). Returns how many: MXFP4 has none, but an exponent in byte 0. */
static inline int cf_block_scales(uint32_t type, uint32_t at[2]) {
    at[0] = 0, at[1] = 2;
    switch (type) {
    case CF_TYPE_MXFP4: return 0;
    case CF_TYPE_Q6_K: at[0] = 208; return 1;
    case CF_TYPE_Q3_K: at[0] = 108; return 1;
    case CF_TYPE_Q2_K: at[0] = 80, at[1] = 82; return 2;
    case CF_TYPE_Q4_1:
    case CF_TYPE_Q5_1:
    case CF_TYPE_Q4_K:
    case CF_TYPE_Q5_K: return 2;
    default: return 1;
    }
}

/* Makes the scales of a random block of a quantised type finite: bit 4 of the exponent of each half is cleared, the
 * exponent of MXFP4 is put near that of one. */
static inline void cf_block_make_finite(const struct cf_type *t, uint8_t *block) {
    uint32_t at[2];
    for (int i = cf_block_scales(t->id, at) - 1; i >= 0; i--)
        block[at[i] + 1] &= 0xbf;
    if (t->id == CF_TYPE_MXFP4) block[0] = (uint8_t)(112 + block[0] % 16);
}

/* Sets them all. */
static inline void cf_block_set_scales(const struct cf_type *t, uint8_t *block, uint16_t f16) {
    uint32_t at[2];
    for (int i = cf_block_scales(t->id, at) - 1; i >= 0; i--)
        memcpy(block + at[i], &f16, sizeof f16);
    if (t->id == CF_TYPE_MXFP4) block[0] = 120;
}

#endif
