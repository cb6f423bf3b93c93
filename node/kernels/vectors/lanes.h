/* Four lanes of 128 bits: what product_128.h and vector_128.h are written over.
 *
 * Additions, comparisons, shifts and the like are the compiler's vectors (GCC and Clang), the same source for every
 * instruction set. What differs, or what a compiler does badly, comes from the header of an instruction set, which
 * includes this one: lanes_sse41.h (also AVX), lanes_neon.h, lanes_vsx.h. Each defines
 *
 *     fma_f32(a, b, c)         a * b + c rounded once, as fmaf
 *     fma_dot(a, dot, c)       the same with an exact int32 for b, |dot| < 2^24
 *     from_f16(h, out)         8 halves to f32, exactly
 *     widen_u16(h, out)        8 words to int32
 *     widen_u8(b, out)         16 bytes to int32
 *     look_up(table, index)    table[index] for 16 indices below 16
 *     signed_weights(kind)     whether dot16 wants weights as signed bytes, else as they are stored
 *     dot16(kind, w, q)        the exact dot of 16 columns of 4 rows; w: 4 groups, q: the 16 activations
 *
 * Each source that includes one names its functions with NAME. Included by these files only, so the names are short.
 */
#ifndef COFFER_NODE_KERNELS_LANES_H
#define COFFER_NODE_KERNELS_LANES_H

#include <stdint.h>
#include <string.h>

#include "node/kernels/products/kind.h"

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

INLINE f32x4 load_f32(const void *p) {
    f32x4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store_f32(void *p, f32x4 v) {
    memcpy(p, &v, sizeof v);
}
INLINE u8x16 load_u8(const void *p) {
    u8x16 v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE f32x4 all_f32(float x) {
    return (f32x4){x, x, x, x};
}
INLINE i32x4 all_i32(int32_t x) {
    return (i32x4){x, x, x, x};
}
INLINE u8x16 all_u8(uint8_t x) {
    return (u8x16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}
INLINE f32x4 to_f32(i32x4 v) {
    return __builtin_convertvector(v, f32x4);
}

/* mask: all bits or none of a lane, as a comparison yields them. */
INLINE f32x4 where(i32x4 mask, f32x4 yes, f32x4 no) {
    return (f32x4)((mask & (i32x4)yes) | (~mask & (i32x4)no));
}
/* A NaN in a stays, one in b is passed over. */
INLINE f32x4 larger(f32x4 a, f32x4 b) {
    return where(b > a, b, a);
}
INLINE f32x4 smaller(f32x4 a, f32x4 b) {
    return where(b < a, b, a);
}

/* Halves in the low bits of the lanes, where no instruction does it: the bits move to their place, which leaves the
 * exponent 112 too low. A denormal gets the leading one that it lacks, and 2^-14 is taken off again. */
INLINE void from_f16_bits(const i32x4 h[2], f32x4 out[2]) {
    for (int v = 0; v < 2; v++) {
        i32x4 a = (h[v] & 0x7fff) << 13;
        i32x4 denormal = a<(0x400 << 13), special = a>(0x7bff << 13);
        i32x4 moved = a + (112 << 23) + (denormal & 1 << 23) + (special & 112 << 23);
        f32x4 magnitude = (f32x4)moved - (f32x4)(denormal & (i32x4)all_f32(0x1p-14f));
        out[v] = (f32x4)((i32x4)magnitude | (h[v] & 0x8000) << 16);
    }
}

#endif
