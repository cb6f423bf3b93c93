/* Q5_K: as Q4_K, with 32 bytes more: bit s of byte j is bit 4 of column j of sub-block s (32 columns).
 * value = d * scale * w - dmin * min, w from 0 to 31.
 */
#include "node/kernels/tile.h"

enum { COLUMNS = 256, BYTES = 176, SCALES = 4, HIGH = 16, NIBBLES = 48 };

static void decode(const void *src, float *dst, size_t n) {
    const uint8_t *block = src;
    for (size_t i = 0; i < n; i += COLUMNS, block += BYTES) {
        float d = cf_f16_to_f32(cf__u16(block)), dmin = cf_f16_to_f32(cf__u16(block + 2));
        for (uint32_t s = 0; s < 8; s++) {
            const uint8_t *nibbles = block + NIBBLES + s / 2 * 32;
            uint8_t sc, m;
            cf__scale_min_k(block + SCALES, s, &sc, &m);
            float scale = d * (float)sc, min = dmin * (float)m;
            for (uint32_t j = 0; j < 32; j++) {
                int w = (nibbles[j] >> s % 2 * 4 & 15) | (block[HIGH + j] >> s & 1) << 4;
                dst[i + s * 32 + j] = scale * (float)w - min;
            }
        }
    }
}

static void pack_row(const uint8_t *from, uint32_t r, uint32_t first, uint32_t last, struct cf__head_k *head,
    struct cf__block_q5_k *blocks) {
    head->d[r] = cf__u16(from);
    head->dmin[r] = cf__u16(from + 2);
    for (uint32_t s = 0; s < 8; s++)
        cf__scale_min_k(from + SCALES, s, &head->scale[s][r], &head->min[s][r]);
    for (uint32_t s = first; s < last; s++) {
        const uint8_t *nibbles = from + NIBBLES + s / 2 * 32;
        uint32_t shift = s % 2 * 4, high = 0;
        for (uint32_t g = 0; g < 4; g++) {
            uint32_t a = cf__u32(nibbles + 4 * g) >> shift & 0x0f0f0f0f;
            uint32_t b = cf__u32(nibbles + 16 + 4 * g) >> shift & 0x0f0f0f0f;
            cf__put32(blocks[s - first].low[g][r], a | b << 4);
        }
        for (uint32_t g = 0; g < 8; g++)
            high |= (cf__u32(from + HIGH + 4 * g) >> s & 0x01010101) << g;
        cf__put32(blocks[s - first].high[r], high);
    }
}

static void pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    uint8_t *at = tile;
    for (uint32_t c = c0, end; c < c1; c = end) {
        uint32_t base = c / COLUMNS * COLUMNS;
        end = base + COLUMNS < c1 ? base + COLUMNS : c1;
        struct cf__head_k *head = (void *)at;
        struct cf__block_q5_k *blocks = (void *)(at + sizeof *head);
        for (uint32_t r = 0; r < CF_TILE; r++)
            pack_row(
                cf__file_block(rows[r], c0, c, COLUMNS, BYTES), r, (c - base) / 32, (end - base) / 32, head, blocks);
        at += sizeof *head + (end - c) / 32 * sizeof *blocks;
    }
}

static void open(const void *head, const void *block, uint32_t column, uint32_t lane, struct cf__run *run) {
    const struct cf__head_k *h = head;
    const struct cf__block_q5_k *b = block;
    uint32_t s = column % COLUMNS / 32;
    for (uint32_t j = 0; j < 32; j++) {
        uint32_t g = j / 4;
        int low = b->low[g % 4][lane][j % 4] >> g / 4 * 4 & 15;
        run->w[j] = (int8_t)(low | (b->high[lane][j % 4] >> g & 1) << 4);
    }
    run->scale[0] = run->scale[1] = cf_f16_to_f32(h->d[lane]) * (float)h->scale[s][lane];
    run->min = cf_f16_to_f32(h->dmin[lane]) * (float)h->min[s][lane];
}

const struct cf__layout cf__layout_q5_k = {.super = COLUMNS,
    .head_bytes = sizeof(struct cf__head_k),
    .block_bytes = sizeof(struct cf__block_q5_k),
    .mins = true,
    .open = open};

static size_t tile_bytes(uint32_t c0, uint32_t c1) {
    return cf__tile_bytes(&cf__layout_q5_k, c0, c1);
}

static void unpack_row(const void *tile, uint32_t lane, uint32_t c0, uint32_t c1, float *dst) {
    cf__unpack_row(&cf__layout_q5_k, tile, lane, c0, c1, dst);
}

extern const struct cf_type cf__type_q5_k;
const struct cf_type cf__type_q5_k = {.name = "Q5_K",
    .id = CF_TYPE_Q5_K,
    .block = COLUMNS,
    .block_bytes = BYTES,
    .quantised = true,
    .cut = CF_BLOCK,
    .decode = decode,
    .tile_bytes = tile_bytes,
    .pack = pack,
    .unpack_row = unpack_row};
