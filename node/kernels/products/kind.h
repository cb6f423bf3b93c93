/* The types of weights as constants, by which the products of an instruction set are specialised, and where the blocks
 * of each kind lie. Included by those products only, so the names are short.
 */
#ifndef COFFER_NODE_KERNELS_KIND_H
#define COFFER_NODE_KERNELS_KIND_H

#include "node/kernels/isa.h"
#include "node/kernels/tile.h"

#define KIND_ROW(none, lower, upper) upper,
enum kind { CF__QUANTISED(KIND_ROW, ) }; /* the numbers are those of enum cf__kind */
#undef KIND_ROW
enum float_kind { F32, F16, BF16 };

INLINE const struct cf__layout *layout_of(enum kind kind) {
    return &cf__layouts[kind];
}
INLINE bool has_min(enum kind kind) {
    return layout_of(kind)->mins;
}
/* Whether a block is two parts of 16 columns with scales of their own. */
INLINE bool has_halves(enum kind kind) {
    return layout_of(kind)->halves;
}
/* Stored weights that fill a byte: their products with activations do not fit 16 bits in pairs. */
INLINE bool is_wide(enum kind kind) {
    return layout_of(kind)->most > 127;
}

INLINE struct cf__cursor first_block(enum kind kind, const struct cf_product *p) {
    const struct cf__layout *l = layout_of(kind);
    return cf__cursor_at(p->tile, p->tile_c0, p->c0, l->super, l->head_bytes, cf__block_bytes(l));
}
INLINE void next_block(enum kind kind, struct cf__cursor *k) {
    const struct cf__layout *l = layout_of(kind);
    cf__cursor_next(k, l->super, l->head_bytes, cf__block_bytes(l));
}

#endif
