/* The packed tile of the quantised types, as C structs, which type is packed how, and how to walk along its columns.
 * Private to node/kernels.
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

#include "node/kernels/types/codebook.h"
#include "node/kernels/kernels.h"
#include "node/kernels/type.h"

typedef uint8_t cf__vector[CF_TILE][4]; /* one group of 4 columns of 16 rows, or its nibbles or bits */

/* The heads: scales by lane. Exact in f32 all of them, the products of two as well. */

/* Scales of two blocks share one cache line. */
struct cf__head_pair {
    uint16_t d[2][CF_TILE]; /* f16, of block (column / 32) % 2 */
};
/* value = d * w - min */
struct cf__head_pair_min {
    uint16_t d[2][CF_TILE], min[2][CF_TILE]; /* f16 */
};
/* A power of two for each 32 columns: cf__e8m0_half(). */
struct cf__head_e8m0 {
    uint8_t e[4][CF_TILE]; /* of block (column / 32) % 4 */
};
/* value = d * scale * w - dmin * min */
struct cf__head_k {
    uint16_t d[CF_TILE], dmin[CF_TILE];         /* f16 */
    uint8_t scale[8][CF_TILE], min[8][CF_TILE]; /* of sub-block (column / 32) % 8 */
};
/* The same for each 16 columns. */
struct cf__head_k16 {
    uint16_t d[CF_TILE], dmin[CF_TILE]; /* f16 */
    uint8_t both[16][CF_TILE];          /* scale in the low, min in the high nibble, of columns (column / 16) % 16 */
};
/* value = d * scale * w; d is the f16 of the file, or a power of two of it. */
struct cf__head_by_32 {
    float d[CF_TILE];
    int8_t scale[8][CF_TILE]; /* of sub-block (column / 32) % 8 */
};
struct cf__head_by_16 {
    float d[CF_TILE];
    int8_t scale[16][CF_TILE]; /* of columns (column / 16) % 16 */
};

/* The blocks: 32 columns of weights as stored, that is weight + offset, or the index into a table of these. */

struct cf__block_8 {
    cf__vector w[8];
};
struct cf__block_4 {
    cf__vector low[4]; /* group g in the low nibbles, group g + 4 in the high nibbles */
};
struct cf__block_5 {
    cf__vector low[4];
    cf__vector high; /* bit g: bit 4 of group g */
};
struct cf__block_6 {
    cf__vector low[4];
    cf__vector high[2]; /* bits 2g, 2g+1 of high[h]: bits 4, 5 of group 4h + g */
};
struct cf__block_2 {
    cf__vector low[2]; /* bits 2g, 2g+1 of low[h]: group 4h + g */
};
struct cf__block_3 {
    cf__vector low[2];
    cf__vector high; /* bit g: bit 2 of group g */
};

/* One row's 32 columns of a block as plain numbers: value = scale[column / 16] * w - min[column / 16]. */
struct cf__run {
    int8_t w[CF_BLOCK];
    float scale[2], min[2]; /* both equal unless the type has scales of 16 columns; min 0 for types without */
};

/* The quantised types, to be expanded by what needs a row for each: X(arg, name in C, name). Those that most files are
 * made of, the others, and all. */
#define CF__QUANTISED_MAIN(X, arg)                                                                                     \
    X(arg, q8_0, Q8_0)                                                                                                 \
    X(arg, q4_0, Q4_0)                                                                                                 \
    X(arg, q4_k, Q4_K)                                                                                                 \
    X(arg, q5_k, Q5_K)                                                                                                 \
    X(arg, q6_k, Q6_K)
#define CF__QUANTISED_MORE(X, arg)                                                                                     \
    X(arg, q4_1, Q4_1)                                                                                                 \
    X(arg, q5_0, Q5_0)                                                                                                 \
    X(arg, q5_1, Q5_1)                                                                                                 \
    X(arg, q2_k, Q2_K)                                                                                                 \
    X(arg, q3_k, Q3_K)                                                                                                 \
    X(arg, iq4_nl, IQ4_NL)                                                                                             \
    X(arg, iq4_xs, IQ4_XS)                                                                                             \
    X(arg, mxfp4, MXFP4)                                                                                               \
    X(arg, iq3_s, IQ3_S)                                                                                               \
    X(arg, iq3_xxs, IQ3_XXS)                                                                                           \
    X(arg, iq2_s, IQ2_S)                                                                                               \
    X(arg, iq2_xs, IQ2_XS)                                                                                             \
    X(arg, iq2_xxs, IQ2_XXS)
#define CF__QUANTISED(X, arg) CF__QUANTISED_MAIN(X, arg) CF__QUANTISED_MORE(X, arg)

#define CF__KIND_ROW(prefix, lower, upper) prefix##upper,
enum cf__kind { CF__QUANTISED(CF__KIND_ROW, CF__) CF__KINDS };

enum cf__head { CF__PAIR, CF__PAIR_MIN, CF__E8M0, CF__K, CF__K16, CF__BY_32, CF__BY_16 };

/* What the code that serves all quantised types must know of one. */
struct cf__layout {
    enum cf__head head;
    uint32_t super; /* columns */
    uint32_t head_bytes;
    uint32_t bits; /* of a weight in a block: its kind, and 64 bytes each */
    bool halves;   /* a scale (and min) for each 16 columns, not 32 */
    bool mins;
    uint8_t offset;       /* stored weight - offset = weight; never both an offset and a min */
    uint8_t most;         /* the greatest stored weight */
    const uint8_t *table; /* [16] what is stored is the index of the stored weight; NULL: itself */
};

#define CF__HEAD(of, columns, type) .head = (of), .super = (columns), .head_bytes = sizeof(struct type)
#define CF__HEAD_PAIR CF__HEAD(CF__PAIR, 64, cf__head_pair)
#define CF__HEAD_PAIR_MIN CF__HEAD(CF__PAIR_MIN, 64, cf__head_pair_min), .mins = true
#define CF__HEAD_E8M0 CF__HEAD(CF__E8M0, 128, cf__head_e8m0)
#define CF__HEAD_K CF__HEAD(CF__K, 256, cf__head_k), .mins = true
#define CF__HEAD_K16 CF__HEAD(CF__K16, 256, cf__head_k16), .mins = true, .halves = true
#define CF__HEAD_BY_32 CF__HEAD(CF__BY_32, 256, cf__head_by_32)
#define CF__HEAD_BY_16 CF__HEAD(CF__BY_16, 256, cf__head_by_16), .halves = true

/* In the header, so that products which are specialised by kind see constants. */
static const struct cf__layout cf__layouts[CF__KINDS] = {
    [CF__Q8_0] = {CF__HEAD_PAIR, .bits = 8, .offset = 128, .most = 255},
    [CF__Q4_0] = {CF__HEAD_PAIR, .bits = 4, .offset = 8, .most = 15},
    [CF__Q4_1] = {CF__HEAD_PAIR_MIN, .bits = 4, .most = 15},
    [CF__Q5_0] = {CF__HEAD_PAIR, .bits = 5, .offset = 16, .most = 31},
    [CF__Q5_1] = {CF__HEAD_PAIR_MIN, .bits = 5, .most = 31},
    [CF__Q2_K] = {CF__HEAD_K16, .bits = 2, .most = 3},
    [CF__Q3_K] = {CF__HEAD_BY_16, .bits = 3, .offset = 4, .most = 7},
    [CF__Q4_K] = {CF__HEAD_K, .bits = 4, .most = 15},
    [CF__Q5_K] = {CF__HEAD_K, .bits = 5, .most = 31},
    [CF__Q6_K] = {CF__HEAD_BY_16, .bits = 6, .offset = 32, .most = 63},
    [CF__IQ4_NL] = {CF__HEAD_PAIR, .bits = 4, .offset = 128, .most = 241, .table = cf__values_iq4},
    [CF__IQ4_XS] = {CF__HEAD_BY_32, .bits = 4, .offset = 128, .most = 241, .table = cf__values_iq4},
    [CF__MXFP4] = {CF__HEAD_E8M0, .bits = 4, .offset = 12, .most = 24, .table = cf__values_mxfp4},
    [CF__IQ3_S] = {CF__HEAD_BY_32, .bits = 4, .offset = 15, .most = 30, .table = cf__values_iq3_s},
    [CF__IQ3_XXS] = {CF__HEAD_BY_32, .bits = 4, .offset = 62, .most = 124, .table = cf__values_iq3_xxs},
    [CF__IQ2_S] = {CF__HEAD_BY_16, .bits = 3, .offset = 43, .most = 86, .table = cf__values_iq2},
    [CF__IQ2_XS] = {CF__HEAD_BY_16, .bits = 3, .offset = 43, .most = 86, .table = cf__values_iq2},
    [CF__IQ2_XXS] = {CF__HEAD_BY_32, .bits = 3, .offset = 43, .most = 86, .table = cf__values_iq2},
};

static inline uint32_t cf__block_bytes(const struct cf__layout *l) {
    return l->bits * (uint32_t)sizeof(cf__vector);
}

/* One row of a block, and its scales, as plain numbers. column: any column of the block; tells which scales of the head
 * are its own. */
void cf__open(const struct cf__layout *l, const void *head, const void *block, uint32_t column, uint32_t lane,
    struct cf__run *run);
/* The scales only. */
void cf__open_scales(const struct cf__layout *l, const void *head, uint32_t column, uint32_t lane, struct cf__run *run);

/* dst[32]: its values, as the formats define them. */
void cf__values(const struct cf__layout *l, const struct cf__run *run, float dst[CF_BLOCK]);

/* Half of 2^(e - 127), the scale of MXFP4 (its values are twice those of e2m1). OCP Microscaling Formats 1.0, 5.4; e =
 * 255 is no NaN here, as in ggml. */
static inline float cf__e8m0_half(uint8_t e) {
    union {
        uint32_t u;
        float f;
    } x = {.u = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23};
    return x.f;
}

/* Where a walk along the columns of a tile stands: `block` is the block of `column`, `head` that of its super-block. */
struct cf__cursor {
    const uint8_t *head, *block;
    uint32_t column;
};

static inline size_t cf__tile_bytes(const struct cf__layout *l, uint32_t c0, uint32_t c1) {
    if (c1 <= c0) return 0;
    size_t heads = (c1 - 1) / l->super - c0 / l->super + 1;
    size_t blocks = (c1 - c0 + CF_BLOCK - 1) / CF_BLOCK;
    return heads * l->head_bytes + blocks * cf__block_bytes(l);
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
