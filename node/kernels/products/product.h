/* The products and the rounding of activations of each instruction set: what dispatch.c builds its tables from.
 *
 * product_scalar.c is the definition, the files of the other instruction sets must give the same bits. How tiles lie is
 * in tile.h, what is added in which order in README.md.
 */
#ifndef COFFER_NODE_KERNELS_PRODUCT_H
#define COFFER_NODE_KERNELS_PRODUCT_H

#include "node/kernels/kernels.h"
#include "node/kernels/tile.h"

#define CF__DECLARE_PRODUCT(isa, lower, upper) void cf__product_##lower##_##isa(const struct cf_product *p);
#define CF__QUANTISED_PRODUCTS(isa) CF__QUANTISED(CF__DECLARE_PRODUCT, isa)

#define CF__PRODUCTS(isa)                                                                                              \
    CF__QUANTISED_PRODUCTS(isa)                                                                                        \
    void cf__product_f32_##isa(const struct cf_product *p);                                                            \
    void cf__product_f16_##isa(const struct cf_product *p);                                                            \
    void cf__product_bf16_##isa(const struct cf_product *p);                                                           \
    int cf__quantise_##isa(const float *x, size_t n, int8_t *q, float *d, int16_t *sum);

CF__PRODUCTS(scalar)
CF__PRODUCTS(sse41)
CF__PRODUCTS(avx)
CF__PRODUCTS(avx2)
CF__PRODUCTS(avx512)
CF__PRODUCTS(neon)
CF__PRODUCTS(vsx)
CF__QUANTISED_PRODUCTS(avx2_vnni)
CF__QUANTISED_PRODUCTS(amx)
CF__QUANTISED_PRODUCTS(neon_dot)

/* An activation row from column p->c0 on. */
static inline const float *cf__row_f(const struct cf_product *p, uint32_t i) {
    return p->x->f + (size_t)(p->row0 + i) * p->x->f_stride + (p->c0 - p->x->c0);
}
static inline const int8_t *cf__row_q(const struct cf_product *p, uint32_t i) {
    return p->x->q + (size_t)(p->row0 + i) * p->x->q_stride + (p->c0 - p->x->c0);
}
static inline const float *cf__row_d(const struct cf_product *p, uint32_t i) {
    return p->x->d + (size_t)(p->row0 + i) * (p->x->q_stride / 32) + (p->c0 - p->x->c0) / 32;
}
static inline const float *cf__row_scaled(const struct cf_product *p, uint32_t i) {
    return p->x->scaled + (size_t)(p->row0 + i) * (p->x->q_stride / 32) + (p->c0 - p->x->c0) / 32;
}
static inline const int16_t *cf__row_sum(const struct cf_product *p, uint32_t i) {
    return p->x->sum + (size_t)(p->row0 + i) * (p->x->q_stride / 16) + (p->c0 - p->x->c0) / 16;
}

/* Column p->c0 of a tile of a float type. The tile lies as [column][16], but tile_bytes rounds up to 64 bytes. */
static inline const char *cf__float_column(const struct cf_product *p, uint32_t element_bytes) {
    size_t exact = (size_t)(p->c0 - p->tile_c0) * CF_TILE * element_bytes;
    return (const char *)p->tile - ((exact + 63) / 64 * 64 - exact);
}

/* Chunk after chunk, for a product that knows only one. */
void cf__each_chunk(const struct cf_product *p, const struct cf_type *type, cf_product_fn fn);

/* Below this an activation block is rounded to zeros. */
#define CF__TINY 0x1p-100f

#endif
