/* The packed tile of the quantised types, as C structs, and how to walk along its columns. Private to node/kernels.
 *
 * A tile is a run of *super-blocks* (64 columns for Q8_0 and Q4_0, 256 for the K-types), counted from column 0 of the
 * matrix, so that a tile may begin and end inside one. Each super-block that the tile touches is a head with the scales
 * of all its columns, then one block per 32 columns present. Every head and block is a multiple of 64 bytes.
 *
 * In a block a vector of 64 bytes holds 4 neighbouring columns (a *group*) of all 16 rows: byte 4 * row + column % 4.
 */
#ifndef COFFER_NODE_KERNELS_TILE_H
#define COFFER_NODE_KERNELS_TILE_H

#include <string.h>

#include "node/kernels/kernels.h"
#include "node/kernels/type.h"

typedef uint8_t cf__vector[CF_TILE][4]; /* one group of 4 columns of 16 rows, or its nibbles or bits */

/* Q8_0 and Q4_0: scales of two blocks share one cache line. */
struct cf__head_pair {
    uint16_t d[2][CF_TILE]; /* f16, of block (column / 32) % 2 */
};
/* Q4_K and Q5_K. value = d * scale * w - dmin * min */
struct cf__head_k {
    uint16_t d[CF_TILE], dmin[CF_TILE];         /* f16 */
    uint8_t scale[8][CF_TILE], min[8][CF_TILE]; /* of sub-block (column / 32) % 8 */
};
struct cf__head_q6_k {
    uint16_t d[CF_TILE];       /* f16 */
    int8_t scale[16][CF_TILE]; /* of columns (column / 16) % 16 */
    uint8_t unused[32];
};

struct cf__block_q8_0 {
    cf__vector w[8]; /* weight + 128 */
};
/* Q4_0 (weight + 8) and Q4_K. */
struct cf__block_q4 {
    cf__vector low[4]; /* group g in the low nibbles, group g + 4 in the high nibbles */
};
struct cf__block_q5_k {
    cf__vector low[4];
    cf__vector high; /* bit g: bit 4 of group g */
};
/* weight + 32 */
struct cf__block_q6_k {
    cf__vector low[4];
    cf__vector high[2]; /* bits 2g, 2g+1 of high[h]: bits 4, 5 of group 4h + g */
};

/* One row's 32 columns of a block as plain numbers: value = scale[column / 16] * w - min. */
struct cf__run {
    int8_t w[CF_BLOCK];
    float scale[2]; /* equal unless the type has scales of 16 columns */
    float min;      /* 0 for types without */
};

/* What the code that serves all quantised types must know of one. */
struct cf__layout {
    uint32_t super; /* columns */
    uint32_t head_bytes, block_bytes;
    bool halves; /* a scale for each 16 columns, not 32 */
    bool mins;
    /* column: any column of the block; tells which scales of the head are its own. */
    void (*open)(const void *head, const void *block, uint32_t column, uint32_t lane, struct cf__run *run);
};

extern const struct cf__layout cf__layout_q8_0, cf__layout_q4_0, cf__layout_q4_k, cf__layout_q5_k, cf__layout_q6_k;

/* Where a walk along the columns of a tile stands: `block` is the block of `column`, `head` that of its super-block. */
struct cf__cursor {
    const uint8_t *head, *block;
    uint32_t column;
};

static inline size_t cf__tile_bytes(const struct cf__layout *l, uint32_t c0, uint32_t c1) {
    if (c1 <= c0) return 0;
    size_t heads = (c1 - 1) / l->super - c0 / l->super + 1;
    size_t blocks = (c1 - c0 + CF_BLOCK - 1) / CF_BLOCK;
    return heads * l->head_bytes + blocks * l->block_bytes;
}

/* at: what cf_product.tile is, tile + tile_bytes(tile_c0, column). That is the head if the column is the first one of
 * its super-block in this tile, else the column's block, and the head lies before the blocks already passed. */
static inline struct cf__cursor cf__cursor_at(
    const void *at, uint32_t tile_c0, uint32_t column, uint32_t super, uint32_t head_bytes, uint32_t block_bytes) {
    uint32_t first = column - column % super;
    if (first < tile_c0) first = tile_c0;
    const uint8_t *head = (const uint8_t *)at;
    if (column == first) return (struct cf__cursor){head, head + head_bytes, column};
    head -= head_bytes + (size_t)((column - first) / CF_BLOCK) * block_bytes;
    return (struct cf__cursor){head, (const uint8_t *)at, column};
}

/* To the next 32 columns. */
static inline void cf__cursor_next(struct cf__cursor *k, uint32_t super, uint32_t head_bytes, uint32_t block_bytes) {
    k->column += CF_BLOCK;
    k->block += block_bytes;
    if (k->column % super == 0) {
        k->head = k->block;
        k->block += head_bytes;
    }
}

/* cf_type.unpack_row of any quantised type. */
void cf__unpack_row(const struct cf__layout *l, const void *tile, uint32_t lane, uint32_t c0, uint32_t c1, float *dst);

/* A block of zeros as long as any in a file: what packing reads in place of a missing row. */
extern const uint8_t cf__zero_block[256];

/* Block of a row of a file that holds `column`; rows begin at the block that holds c0. */
static inline const uint8_t *cf__file_block(
    const void *row, uint32_t c0, uint32_t column, uint32_t block, uint32_t block_bytes) {
    if (!row) return cf__zero_block;
    return (const uint8_t *)row + (size_t)(column / block - c0 / block) * block_bytes;
}

static inline uint16_t cf__u16(const uint8_t *p) {
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline uint32_t cf__u32(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void cf__put32(uint8_t *p, uint32_t x) {
    memcpy(p, &x, sizeof x);
}

/* The 6-bit scale and min of sub-block s (0..7) from the 12 bytes of a Q4_K or Q5_K block. */
static inline void cf__scale_min_k(const uint8_t *packed, uint32_t s, uint8_t *scale, uint8_t *min) {
    if (s < 4) {
        *scale = packed[s] & 63;
        *min = packed[s + 4] & 63;
    } else {
        *scale = (uint8_t)((packed[s + 4] & 15) | (packed[s - 4] >> 6 << 4));
        *min = (uint8_t)((packed[s + 4] >> 4) | (packed[s] >> 6 << 4));
    }
}

#endif
