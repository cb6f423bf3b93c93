/* IQ3_S and IQ3_XXS: runs of 4 magnitudes from a grid (codebook.h), signs apart. Packed as 4-bit indices: a magnitude,
 * plus 8 if negative.
 *
 * IQ3_XXS: 256 columns are an f16 d, 64 bytes of grid numbers and 8 words of 32 columns each: 7 bits of signs for each
 * 8 columns (the eighth makes their number even) and a 4-bit scale on top. The scale of 32 columns is d / 4 * (2 scale
 * + 1). IQ3_S: an f16 d, 64 bytes of grid numbers, 8 bytes with their ninth bits, 32 bytes of signs, 4 bytes of 4-bit
 * scales. The scale is d * (2 scale + 1).
 */
#include "node/kernels/types/format.h"

/* Columns 4 i .. 4 i + 3 from an entry of a grid and the signs of those columns. */
static void put_four(uint16_t entry, uint32_t signs, uint8_t *stored) {
    for (uint32_t j = 0; j < 4; j++)
        stored[j] = (uint8_t)((entry >> 3 * j & 7) | (signs >> j & 1) << 3);
}

static void scales_iq3_xxs(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_by_32 *h = head;
    (void)column;
    h->d[lane] = cf_f16_to_f32(cf__u16(block)) * 0.25f;
    for (uint32_t s = 0; s < 8; s++)
        h->scale[s][lane] = (int8_t)(2 * (cf__u32(block + 66 + 4 * s) >> 28) + 1);
}

static void weights_iq3_xxs(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    const uint8_t *numbers = block + 2 + 8 * s;
    const uint32_t packed = cf__u32(block + 66 + 4 * s);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t signs = cf__even_signs(packed >> 7 * (i / 2) & 127);
        put_four(cf__grid_iq3xxs[numbers[i]], signs >> 4 * (i % 2), stored + 4 * i);
    }
}

static void scales_iq3_s(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_by_32 *h = head;
    (void)column;
    h->d[lane] = cf_f16_to_f32(cf__u16(block));
    for (uint32_t s = 0; s < 8; s++)
        h->scale[s][lane] = (int8_t)(2 * (block[106 + s / 2] >> s % 2 * 4 & 15) + 1);
}

static void weights_iq3_s(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    const uint8_t *numbers = block + 2 + 8 * s, *signs = block + 74 + 4 * s;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t number = numbers[i] | (uint32_t)(block[66 + s] >> i & 1) << 8;
        put_four(cf__grid_iq3s[number], (uint32_t)signs[i / 2] >> 4 * (i % 2), stored + 4 * i);
    }
}

CF__FORMAT_TYPE(iq3_xxs, IQ3_XXS, 256, 98)
CF__FORMAT_TYPE(iq3_s, IQ3_S, 256, 110)
