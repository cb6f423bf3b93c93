/* What a type says of its layout in a file, and decoding and packing that are made of it. Private to node/kernels.
 *
 * Types that are rarely loaded in a hurry are packed this way: each row of 32 weights becomes bytes, these become bits
 * of a block. The older types have a packing of their own, several times faster (pack.h).
 */
#ifndef COFFER_NODE_KERNELS_FORMAT_H
#define COFFER_NODE_KERNELS_FORMAT_H

#include "node/kernels/types/pack.h"

struct cf__format {
    enum cf__kind kind;
    uint32_t columns, bytes; /* of a block of the file: 32 columns, or as many as a super-block */
    /* The scales of the file's block at `column`, for one lane of a head of the kind. */
    void (*scales)(void *head, uint32_t lane, const uint8_t *block, uint32_t column);
    /* Columns 32 s .. 32 s + 31 of the file's block: what the kind stores of each. */
    void (*weights)(const uint8_t *block, uint32_t s, uint8_t stored[CF_BLOCK]);
};

/* The largest head. */
union cf__any_head {
    struct cf__head_k k;
    struct cf__head_by_16 by_16;
};

static inline void cf__format_decode(const struct cf__format *f, const void *src, float *dst, size_t n) {
    const struct cf__layout *l = &cf__layouts[f->kind];
    const uint8_t *block = src;
    union cf__any_head head;
    struct cf__run run;
    uint8_t stored[CF_BLOCK];
    for (size_t i = 0; i < n; i += f->columns, block += f->bytes) {
        f->scales(&head, 0, block, 0);
        for (uint32_t s = 0; s < f->columns / CF_BLOCK; s++, dst += CF_BLOCK) {
            f->weights(block, s, stored);
            cf__open_scales(l, &head, s * CF_BLOCK, 0, &run);
            for (uint32_t j = 0; j < CF_BLOCK; j++)
                run.w[j] = (int8_t)((l->table ? l->table[stored[j]] : stored[j]) - l->offset);
            cf__values(l, &run, dst);
        }
    }
}

/* A block of `bits` from what 16 rows store. */
static inline void cf__put_block(uint32_t bits, cf__vector *to, uint8_t stored[CF_TILE][CF_BLOCK]) {
    for (uint32_t r = 0; r < CF_TILE; r++) {
        uint32_t w[8], high = 0;
        memcpy(w, stored[r], sizeof w);
        if (bits < 4) {
            for (uint32_t h = 0; h < 2; h++) {
                uint32_t low = 0;
                for (uint32_t g = 0; g < 4; g++)
                    low |= (w[4 * h + g] & 0x03030303) << 2 * g;
                cf__put32(to[h][r], low);
            }
        } else {
            for (uint32_t g = 0; g < 4; g++)
                cf__put32(to[g][r], (w[g] & 0x0f0f0f0f) | (w[g + 4] & 0x0f0f0f0f) << 4);
        }
        if (bits != 3 && bits != 5) continue;
        for (uint32_t g = 0; g < 8; g++)
            high |= (w[g] >> (bits - 1) & 0x01010101) << g;
        cf__put32(to[bits - 1][r], high);
    }
}

static inline void cf__format_pack(
    const struct cf__format *f, void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    const struct cf__layout *l = &cf__layouts[f->kind];
    uint8_t *at = tile, *head = NULL;
    const uint8_t *from[CF_TILE];
    uint8_t stored[CF_TILE][CF_BLOCK];
    for (uint32_t c = c0; c < c1; c += CF_BLOCK) {
        if (!head || c % l->super == 0) {
            head = memset(at, 0, l->head_bytes);
            at += l->head_bytes;
        }
        cf__file_blocks(from, rows, c0, c, f->columns, f->bytes);
        for (uint32_t r = 0; r < CF_TILE; r++) {
            if (c == c0 || c % f->columns == 0) f->scales(head, r, from[r], c);
            f->weights(from[r], c % f->columns / CF_BLOCK, stored[r]);
        }
        cf__put_block(l->bits, (void *)at, stored);
        at += cf__block_bytes(l);
    }
}

/* 16 bytes of nibbles: column j in the low, column j + 16 in the high half of byte j. */
static inline void cf__split_nibbles(const uint8_t *bytes, uint8_t stored[CF_BLOCK]) {
    for (uint32_t j = 0; j < 16; j++) {
        stored[j] = bytes[j] & 15;
        stored[j + 16] = bytes[j] >> 4;
    }
}

/* `value` more in each column whose bit is set. */
static inline void cf__add_bits(uint32_t bits, uint8_t value, uint8_t stored[CF_BLOCK]) {
    for (uint32_t j = 0; j < CF_BLOCK; j++)
        stored[j] = (uint8_t)(stored[j] | (bits >> j & 1) * value);
}

/* Seven signs and an eighth that makes the number of set ones even. */
static inline uint32_t cf__even_signs(uint32_t seven) {
    uint32_t x = seven ^ seven >> 4;
    x ^= x >> 2;
    x ^= x >> 1;
    return seven | (x & 1) << 7;
}

/* The rest of such a type, which has scales_NAME and weights_NAME. */
#define CF__FORMAT_TYPE(lower, upper, columns_, bytes_)                                                                \
    static const struct cf__format format_##lower = {CF__##upper, columns_, bytes_, scales_##lower, weights_##lower};  \
    static void decode_##lower(const void *src, float *dst, size_t n) {                                                \
        cf__format_decode(&format_##lower, src, dst, n);                                                               \
    }                                                                                                                  \
    static void pack_##lower(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {                  \
        cf__format_pack(&format_##lower, tile, rows, c0, c1);                                                          \
    }                                                                                                                  \
    CF__TYPE(lower, upper, columns_, bytes_, decode_##lower, pack_##lower)

#endif
