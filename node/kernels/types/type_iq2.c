/* IQ2_XXS, IQ2_XS and IQ2_S: runs of 8 magnitudes, one of three each, from a grid (codebook.h), signs apart. Packed as
 * 3-bit indices: a magnitude, plus 4 if negative.
 *
 * IQ2_XXS: 256 columns are an f16 d and two words for each 32: four grid numbers of a byte; 7 bits of signs for each 8
 * columns (the eighth makes their number even) with a 4-bit scale on top. The scale of 32 columns is d / 8 *
 * (2 scale + 1).
 * IQ2_XS: an f16 d, a half word for each 8 columns (9 bits of grid number, 7 of signs), and 4-bit scales as above, but
 * each for 16 columns.
 * IQ2_S: an f16 d, 32 bytes of grid numbers, 32 of signs, 8 with the upper 2 bits of the numbers, the scales of IQ2_XS.
 */
#include "node/kernels/types/format.h"

static void put_eight(uint16_t entry, uint32_t signs, uint8_t *stored) {
    for (uint32_t j = 0; j < 8; j++)
        stored[j] = (uint8_t)((entry >> 2 * j & 3) | (signs >> j & 1) << 2);
}

static void scales_iq2_xxs(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    struct cf__head_by_32 *h = head;
    (void)column;
    h->d[lane] = cf_f16_to_f32(cf__u16(block)) * 0.125f;
    for (uint32_t s = 0; s < 8; s++)
        h->scale[s][lane] = (int8_t)(2 * (cf__u32(block + 6 + 8 * s) >> 28) + 1);
}

static void weights_iq2_xxs(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    const uint8_t *numbers = block + 2 + 8 * s;
    const uint32_t packed = cf__u32(numbers + 4);
    for (uint32_t i = 0; i < 4; i++)
        put_eight(cf__grid_iq2xxs[numbers[i]], cf__even_signs(packed >> 7 * i & 127), stored + 8 * i);
}

/* 16 scales of 4 bits. */
static void put_scales(void *head, uint32_t lane, const uint8_t *block, const uint8_t *nibbles) {
    struct cf__head_by_16 *h = head;
    h->d[lane] = cf_f16_to_f32(cf__u16(block)) * 0.125f;
    for (uint32_t i = 0; i < 16; i++)
        h->scale[i][lane] = (int8_t)(2 * (nibbles[i / 2] >> i % 2 * 4 & 15) + 1);
}

static void scales_iq2_xs(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    (void)column;
    put_scales(head, lane, block, block + 66);
}

static void weights_iq2_xs(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t packed = cf__u16(block + 2 + 8 * s + 2 * i);
        put_eight(cf__grid_iq2xs[packed & 511], cf__even_signs(packed >> 9), stored + 8 * i);
    }
}

static void scales_iq2_s(void *head, uint32_t lane, const uint8_t *block, uint32_t column) {
    (void)column;
    put_scales(head, lane, block, block + 74);
}

static void weights_iq2_s(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]) {
    const uint8_t *numbers = block + 2 + 4 * s, *signs = block + 34 + 4 * s;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t number = numbers[i] | (uint32_t)(block[66 + s] >> 2 * i & 3) << 8;
        put_eight(cf__grid_iq2s[number], signs[i], stored + 8 * i);
    }
}

CF__FORMAT_TYPE(iq2_xxs, IQ2_XXS, 256, 66)
CF__FORMAT_TYPE(iq2_xs, IQ2_XS, 256, 74)
CF__FORMAT_TYPE(iq2_s, IQ2_S, 256, 82)
