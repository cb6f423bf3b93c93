/* What the pack functions of the quantised types share: from words of a row, as a file has them, to words of a column
 * of all 16 rows, as a tile has them. Private to node/kernels.
 *
 * A good share of loading K-types is this, so it goes 16 rows at a time, in loops of constant length over words of 4
 * bytes that the compiler turns into vectors of whatever instruction set the file is compiled for. "unroll 1" keeps it
 * from unrolling them beforehand, after which it would see no loop and leave them scalar.
 */
#ifndef COFFER_NODE_KERNELS_PACK_H
#define COFFER_NODE_KERNELS_PACK_H

#include "node/kernels/tile.h"

typedef uint32_t cf__rows[CF_TILE][4];  /* 16 bytes of each row */
typedef uint32_t cf__lanes[4][CF_TILE]; /* the same, transposed: a word is what a byte quadruple of cf__vector is */

/* Where the file block that holds `column` lies in each row. */
static inline void cf__file_blocks(const uint8_t *from[CF_TILE], const void *const rows[CF_TILE], uint32_t c0,
    uint32_t column, uint32_t block, uint32_t block_bytes) {
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++)
        from[r] = cf__file_block(rows[r], c0, column, block, block_bytes);
}

/* 16 bytes of each row, from byte `at` of its block. */
static inline void cf__take(cf__rows to, const uint8_t *const from[CF_TILE], uint32_t at) {
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++)
        memcpy(to[r], from[r] + at, sizeof to[r]);
}

/* 32 bytes of each row are the nibbles of two blocks of 32 columns, low and high: each apart, columns c and c + 16 in
 * one byte. */
static inline void cf__take_nibbles(cf__rows low, cf__rows high, const uint8_t *const from[CF_TILE], uint32_t at) {
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++) {
        uint32_t w[8];
        memcpy(w, from[r] + at, sizeof w);
        for (uint32_t g = 0; g < 4; g++) {
            low[r][g] = (w[g] & 0x0f0f0f0f) | (w[g + 4] & 0x0f0f0f0f) << 4;
            high[r][g] = (w[g] >> 4 & 0x0f0f0f0f) | (w[g + 4] & 0xf0f0f0f0);
        }
    }
}

static inline void cf__transpose(cf__lanes to, cf__rows from) {
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++) {
        to[0][r] = from[r][0];
        to[1][r] = from[r][1];
        to[2][r] = from[r][2];
        to[3][r] = from[r][3];
    }
}

/* The same, to groups of a block. */
static inline void cf__put_groups(cf__vector to[4], cf__rows from) {
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++) {
        cf__put32(to[0][r], from[r][0]);
        cf__put32(to[1][r], from[r][1]);
        cf__put32(to[2][r], from[r][2]);
        cf__put32(to[3][r], from[r][3]);
    }
}

/* Byte i of every row's word -> to[i]. */
static inline void cf__put_bytes(uint8_t to[4][CF_TILE], const uint32_t from[CF_TILE]) {
    for (uint32_t i = 0; i < 4; i++)
#pragma GCC unroll 1
        for (uint32_t r = 0; r < CF_TILE; r++)
            to[i][r] = (uint8_t)(from[r] >> 8 * i);
}

/* Nibbles of sub-blocks [first, last) of Q4_K or Q5_K, which lie from byte `at` of a file block on: 32 bytes for two
 * sub-blocks. blocks: where `first` is packed, each of block_bytes, with the nibbles before all else. */
static inline void cf__pack_nibbles_k(
    void *blocks, size_t block_bytes, const uint8_t *const from[CF_TILE], uint32_t at, uint32_t first, uint32_t last) {
    uint8_t *to = blocks;
    for (uint32_t s = first / 2 * 2; s < last; s += 2) {
        cf__rows low, high;
        cf__take_nibbles(low, high, from, at + s / 2 * 32);
        if (s >= first) cf__put_groups((void *)(to + (s - first) * block_bytes), low);
        if (s + 1 < last) cf__put_groups((void *)(to + (s + 1 - first) * block_bytes), high);
    }
}

/* Exchanges the bits of a under mask << shift with the bits of b under mask. */
static inline void cf__exchange_bits(uint32_t a[CF_TILE], uint32_t b[CF_TILE], uint32_t shift, uint32_t mask) {
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++) {
        uint32_t differ = (a[r] >> shift ^ b[r]) & mask;
        a[r] ^= differ << shift;
        b[r] ^= differ;
    }
}

/* d, dmin and the 6-bit scales and mins of Q4_K and Q5_K, whose blocks begin alike (cf__scale_min_k tells how). */
static inline void cf__pack_head_k(struct cf__head_k *head, const uint8_t *const from[CF_TILE]) {
    cf__rows rows;
    cf__lanes in, out;
    cf__take(rows, from, 0);
    cf__transpose(in, rows);
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++) {
        out[0][r] = in[1][r] & 0x3f3f3f3f;
        out[1][r] = (in[3][r] & 0x0f0f0f0f) | (in[1][r] >> 2 & 0x30303030);
        out[2][r] = in[2][r] & 0x3f3f3f3f;
        out[3][r] = (in[3][r] >> 4 & 0x0f0f0f0f) | (in[2][r] >> 2 & 0x30303030);
    }
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++)
        head->d[r] = cf__u16(from[r]);
#pragma GCC unroll 1
    for (uint32_t r = 0; r < CF_TILE; r++)
        head->dmin[r] = cf__u16(from[r] + 2);
    cf__put_bytes(head->scale, out[0]);
    cf__put_bytes(head->scale + 4, out[1]);
    cf__put_bytes(head->min, out[2]);
    cf__put_bytes(head->min + 4, out[3]);
}

/* The columns of a super-block that a tile holds: head and blocks of 32 columns, [first, last) of its eight. */
typedef void cf__pack_super(
    void *head, void *blocks, const uint8_t *const from[CF_TILE], uint32_t first, uint32_t last);

/* A tile of a K-type: columns [c0, c1), super-block after super-block. bytes: of one in the file; head and block_bytes:
 * what `pack` fills. */
static inline void cf__pack_supers(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1,
    uint32_t bytes, size_t head, size_t block_bytes, cf__pack_super *pack) {
    enum { COLUMNS_K = 256 };
    uint8_t *at = tile;
    for (uint32_t c = c0, end; c < c1; c = end) {
        uint32_t base = c / COLUMNS_K * COLUMNS_K;
        end = base + COLUMNS_K < c1 ? base + COLUMNS_K : c1;
        const uint8_t *from[CF_TILE];
        cf__file_blocks(from, rows, c0, c, COLUMNS_K, bytes);
        pack(at, at + head, from, (c - base) / 32, (end - base) / 32);
        at += head + (end - c) / 32 * block_bytes;
    }
}

/* The rest of a quantised type. */
#define CF__TYPE(lower, upper, columns_, bytes_, decode_, pack_)                                                       \
    static size_t tile_bytes_##lower(uint32_t c0, uint32_t c1) {                                                       \
        return cf__tile_bytes(&cf__layouts[CF__##upper], c0, c1);                                                      \
    }                                                                                                                  \
    static void unpack_row_##lower(const void *tile, uint32_t lane, uint32_t c0, uint32_t c1, float *dst) {            \
        cf__unpack_row(&cf__layouts[CF__##upper], tile, lane, c0, c1, dst);                                            \
    }                                                                                                                  \
    extern const struct cf_type cf__type_##lower;                                                                      \
    const struct cf_type cf__type_##lower = {.name = #upper,                                                           \
        .id = CF_TYPE_##upper,                                                                                         \
        .block = columns_,                                                                                             \
        .block_bytes = bytes_,                                                                                         \
        .quantised = true,                                                                                             \
        .cut = CF_BLOCK,                                                                                               \
        .decode = decode_,                                                                                             \
        .tile_bytes = tile_bytes_##lower,                                                                              \
        .pack = pack_,                                                                                                 \
        .unpack_row = unpack_row_##lower};

#endif
