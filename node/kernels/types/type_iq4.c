/* IQ4_NL, IQ4_XS and MXFP4: nibbles that choose one of 16 values (codebook.h), lying in 16 bytes for 32 columns as in
 * Q4_0.
 *
 * IQ4_NL: 32 columns are an f16 d and the nibbles. IQ4_XS: 256 columns are an f16 d, a word with the upper 2 bits and 4
 * bytes with the lower 4 of eight 6-bit scales, and the nibbles; the scale of 32 columns is d * (scale - 32).
 * MXFP4: 32 columns are an exponent e8m0 and the nibbles; value = 2^(e - 127) / 2 * (twice the value of e2m1).
 */
#include "node/kernels/types/format.h"

static void scales_iq4_nl(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_pair *h = head;
    h->d[column / 32 % 2][lane] = cf__u16(block);
}

static void weights_iq4_nl(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    (void)s;
    cf__split_nibbles(block + 2, stored);
}

static void scales_iq4_xs(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_by_32 *h = head;
    (void)column;
    h->d[lane] = cf_f16_to_f32(cf__u16(block));
    for (uint32_t s = 0; s < 8; s++) {
        int low = block[4 + s / 2] >> s % 2 * 4 & 15, high = cf__u16(block + 2) >> 2 * s & 3;
        h->scale[s][lane] = (int8_t)((low | high << 4) - 32);
    }
}

static void weights_iq4_xs(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    cf__split_nibbles(block + 8 + 16 * s, stored);
}

static void scales_mxfp4(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_e8m0 *h = head;
    h->e[column / 32 % 4][lane] = block[0];
}

static void weights_mxfp4(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    (void)s;
    cf__split_nibbles(block + 1, stored);
}

CF__FORMAT_TYPE(iq4_nl, IQ4_NL, 32, 18)
CF__FORMAT_TYPE(iq4_xs, IQ4_XS, 256, 136)
CF__FORMAT_TYPE(mxfp4, MXFP4, 32, 17)
