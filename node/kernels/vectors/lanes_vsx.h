/* Four lanes with the vector unit of POWER8, little-endian (lanes.h says what is defined here). */
#ifndef COFFER_NODE_KERNELS_LANES_VSX_H
#define COFFER_NODE_KERNELS_LANES_VSX_H

#include <altivec.h>
/* These words are C's again. */
#undef vector
#undef pixel
#undef bool
#define bool _Bool

#include "node/kernels/vectors/lanes.h"

/* Written as assembly: the compiler may take vmaddfp instead, which turns denormals to zero in the mode that Linux
 * starts programs in. */
INLINE f32x4 fma_f32(f32x4 a, f32x4 b, f32x4 c) {
    __asm__("xvmaddasp %x0,%x1,%x2" : "+wa"(c) : "wa"(a), "wa"(b));
    return c;
}
INLINE f32x4 fma_dot(f32x4 a, i32x4 dot, f32x4 c) {
    return fma_f32(a, to_f32(dot), c);
}

INLINE void widen_u16(const uint16_t h[8], i32x4 out[2]) {
    u16x8 v = (u16x8)load_u8(h), zero = {0};
    out[0] = (i32x4)vec_mergeh(v, zero);
    out[1] = (i32x4)vec_mergel(v, zero);
}
INLINE void widen_u8(const uint8_t b[16], i32x4 out[4]) {
    u8x16 v = load_u8(b), zero = {0};
    u16x8 low = (u16x8)vec_mergeh(v, zero), high = (u16x8)vec_mergel(v, zero), none = {0};
    out[0] = (i32x4)vec_mergeh(low, none);
    out[1] = (i32x4)vec_mergel(low, none);
    out[2] = (i32x4)vec_mergeh(high, none);
    out[3] = (i32x4)vec_mergel(high, none);
}
INLINE void from_f16(const uint16_t h[8], f32x4 out[2]) {
    i32x4 bits[2];
    widen_u16(h, bits);
    from_f16_bits(bits, out);
}

INLINE u8x16 look_up(u8x16 table, u8x16 index) {
    return vec_perm(table, table, index);
}

/* vmsummbm: signed bytes times unsigned ones, four products into a lane of int32. */
INLINE bool signed_weights(enum kind kind) {
    (void)kind;
    return false;
}
INLINE i32x4 dot16(enum kind kind, const u8x16 w[4], const int8_t *q) {
    (void)kind;
    i32x4 x = (i32x4)load_u8(q), dot = {0};
    dot = vec_msum((i8x16)vec_splat(x, 0), w[0], dot);
    dot = vec_msum((i8x16)vec_splat(x, 1), w[1], dot);
    dot = vec_msum((i8x16)vec_splat(x, 2), w[2], dot);
    return vec_msum((i8x16)vec_splat(x, 3), w[3], dot);
}

#endif
