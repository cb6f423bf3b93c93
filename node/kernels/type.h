/* Tensor types: how the bytes of a GGUF tensor become numbers, and how rows are packed into tiles for the kernels.
 *
 * A packed *tile* holds 16 consecutive output rows of a matrix, columns [c0, c1) only, interleaved so that each SIMD
 * lane owns one row. The packed form is the same for every instruction set. Adding a type is one file (type_NAME.c) and
 * one row in the table of type.c, plus its products (kernels.h).
 *
 * Rows beyond the matrix (the last tile of a number of rows that 16 does not divide) are packed as zeros.
 */
#ifndef COFFER_NODE_KERNELS_TYPE_H
#define COFFER_NODE_KERNELS_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CF_TILE = 16,  /* output rows per tile */
    CF_BLOCK = 32, /* columns that share one activation scale; column slices of quantised matrices are cut here */
};

/* Numbers as in the GGUF specification (ggml). */
enum cf_type_id {
    CF_TYPE_F32 = 0,
    CF_TYPE_F16 = 1,
    CF_TYPE_Q4_0 = 2,
    CF_TYPE_Q4_1 = 3,
    CF_TYPE_Q5_0 = 6,
    CF_TYPE_Q5_1 = 7,
    CF_TYPE_Q8_0 = 8,
    CF_TYPE_Q2_K = 10,
    CF_TYPE_Q3_K = 11,
    CF_TYPE_Q4_K = 12,
    CF_TYPE_Q5_K = 13,
    CF_TYPE_Q6_K = 14,
    CF_TYPE_IQ2_XXS = 16,
    CF_TYPE_IQ2_XS = 17,
    CF_TYPE_IQ3_XXS = 18,
    CF_TYPE_IQ4_NL = 20,
    CF_TYPE_IQ3_S = 21,
    CF_TYPE_IQ2_S = 22,
    CF_TYPE_IQ4_XS = 23,
    CF_TYPE_BF16 = 30,
    CF_TYPE_MXFP4 = 39,
    CF_TYPE_LIMIT = 40,
};

struct cf_type {
    const char *name;     /* as GGUF names it: "Q4_K" */
    uint32_t id;          /* enum cf_type_id */
    uint32_t block;       /* elements per block (1, 32, 256) */
    uint32_t block_bytes; /* bytes per block in the file */
    bool quantised;       /* products take rounded activations (cf_rows.q), else f32 (cf_rows.f) */
    uint32_t cut;         /* column slices begin and end at multiples of this (1 or 32), or at the end of the row */
    /* src: n elements of whole blocks -> dst[n], exactly the values that the format defines. */
    void (*decode)(const void *src, float *dst, size_t n);
    /* Bytes of a tile of columns [c0, c1). A multiple of 64. Also what a product over [c, c1) of a tile packed from c0
     * takes as its tile: tile + tile_bytes(c0, c). What lies there (a head, a block, a column) only the kernels know;
     * they find the rest of what they need from tile_c0 and c (tile.h). */
    size_t (*tile_bytes)(uint32_t c0, uint32_t c1);
    /* rows[i]: file bytes of row i from column c0 rounded down to a whole block; NULL packs a row of zeros. The tile
     * must be aligned to 2 bytes; products are fastest at 64. Writes exactly tile_bytes(c0, c1). */
    void (*pack)(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1);
    /* One row of a packed tile back to its exact values: dst[c1 - c0]. */
    void (*unpack_row)(const void *tile, uint32_t lane, uint32_t c0, uint32_t c1, float *dst);
};

/* NULL if this program does not know the type. */
const struct cf_type *cf_type_by_id(uint32_t id);
/* Any case, '-' or '_'. NULL if unknown. */
const struct cf_type *cf_type_by_name(const char *name);
/* The GGUF name of an id even if it is not supported here ("IQ3_S"), or NULL. For messages. */
const char *cf_type_name(uint32_t id);

/* Exact conversions. f32_to_* round to nearest even. */
float cf_f16_to_f32(uint16_t h);
uint16_t cf_f32_to_f16(float f);
static inline float cf_bf16_to_f32(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } x = {.u = (uint32_t)h << 16};
    return x.f;
}
uint16_t cf_f32_to_bf16(float f);

#endif
