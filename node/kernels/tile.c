/* One row of a packed tile as plain numbers, whatever the type: what the scalar products multiply. See tile.h. */
#include "node/kernels/tile.h"

const uint8_t cf__zero_block[256];

/* Columns 4g .. 4g + 3 as stored, one in each byte. */
static uint32_t group(uint32_t bits, const cf__vector *v, uint32_t lane, uint32_t g) {
    if (bits == 8) return cf__u32(v[g][lane]);
    if (bits < 4) {
        uint32_t low = cf__u32(v[g / 4][lane]) >> g % 4 * 2 & 0x03030303;
        return bits == 2 ? low : low | (cf__u32(v[2][lane]) >> g & 0x01010101) << 2;
    }
    uint32_t low = cf__u32(v[g % 4][lane]) >> g / 4 * 4 & 0x0f0f0f0f;
    if (bits == 5) low |= (cf__u32(v[4][lane]) >> g & 0x01010101) << 4;
    if (bits == 6) low |= (cf__u32(v[4 + g / 4][lane]) >> g % 4 * 2 & 0x03030303) << 4;
    return low;
}

static float half_of(const uint16_t h[CF_TILE], uint32_t lane) {
    return cf_f16_to_f32(h[lane]);
}

void cf__open_scales(
    const struct cf__layout *l, const void *head, uint32_t column, uint32_t lane, struct cf__run *run) {
    const struct cf__head_pair *pair = head;
    const struct cf__head_pair_min *pair_min = head;
    const struct cf__head_e8m0 *e8m0 = head;
    const struct cf__head_k *k = head;
    const struct cf__head_k16 *k16 = head;
    const struct cf__head_by_32 *by_32 = head;
    const struct cf__head_by_16 *by_16 = head;
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t b = column / 32, s = b % 8, h = 2 * s + half;
        float scale = 0, min = 0;
        switch (l->head) {
        case CF__PAIR: scale = half_of(pair->d[b % 2], lane); break;
        case CF__PAIR_MIN:
            scale = half_of(pair_min->d[b % 2], lane);
            min = half_of(pair_min->min[b % 2], lane);
            break;
        case CF__E8M0: scale = cf__e8m0_half(e8m0->e[b % 4][lane]); break;
        case CF__K:
            scale = half_of(k->d, lane) * (float)k->scale[s][lane];
            min = half_of(k->dmin, lane) * (float)k->min[s][lane];
            break;
        case CF__K16:
            scale = half_of(k16->d, lane) * (float)(k16->both[h][lane] & 15);
            min = half_of(k16->dmin, lane) * (float)(k16->both[h][lane] >> 4);
            break;
        case CF__BY_32: scale = by_32->d[lane] * (float)by_32->scale[s][lane]; break;
        case CF__BY_16: scale = by_16->d[lane] * (float)by_16->scale[h][lane]; break;
        }
        run->scale[half] = scale;
        run->min[half] = min;
    }
}

void cf__open(const struct cf__layout *l, const void *head, const void *block, uint32_t column, uint32_t lane,
    struct cf__run *run) {
    for (uint32_t g = 0; g < 8; g++) {
        uint32_t word = group(l->bits, block, lane, g);
        for (uint32_t j = 0; j < 4; j++) {
            uint8_t stored = (uint8_t)(word >> 8 * j);
            if (l->table) stored = l->table[stored];
            run->w[4 * g + j] = (int8_t)(stored - l->offset);
        }
    }
    cf__open_scales(l, head, column, lane, run);
}

void cf__unpack_row(const struct cf__layout *l, const void *tile, uint32_t lane, uint32_t c0, uint32_t c1, float *dst) {
    const uint32_t block_bytes = cf__block_bytes(l);
    struct cf__cursor k = cf__cursor_at(tile, c0, c0, l->super, l->head_bytes, block_bytes);
    struct cf__run run;
    while (k.column < c1) {
        cf__open(l, k.head, k.block, k.column, lane, &run);
        cf__values(l, &run, dst);
        dst += CF_BLOCK;
        cf__cursor_next(&k, l->super, l->head_bytes, block_bytes);
    }
}

void cf__values(const struct cf__layout *l, const struct cf__run *run, float dst[CF_BLOCK]) {
    for (uint32_t j = 0; j < CF_BLOCK; j++) {
        float product = run->scale[j / 16] * (float)run->w[j];
        dst[j] = l->mins ? product - run->min[j / 16] : product;
    }
}
