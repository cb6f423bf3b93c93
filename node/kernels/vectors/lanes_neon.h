/* Four lanes with NEON (lanes.h says what is defined here); dots by sdot where the compiler is told of it. */
#ifndef COFFER_NODE_KERNELS_LANES_NEON_H
#define COFFER_NODE_KERNELS_LANES_NEON_H

#include <arm_neon.h>

#include "node/kernels/vectors/lanes.h"

INLINE f32x4 fma_f32(f32x4 a, f32x4 b, f32x4 c) {
    return (f32x4)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
INLINE f32x4 fma_dot(f32x4 a, i32x4 dot, f32x4 c) {
    return fma_f32(a, to_f32(dot), c);
}

INLINE void from_f16(const uint16_t h[8], f32x4 out[2]) {
    float16x8_t v = vreinterpretq_f16_u16(vld1q_u16(h));
    out[0] = (f32x4)vcvt_f32_f16(vget_low_f16(v));
    out[1] = (f32x4)vcvt_high_f32_f16(v);
}
INLINE void widen_u16(const uint16_t h[8], i32x4 out[2]) {
    uint16x8_t v = vld1q_u16(h);
    out[0] = (i32x4)vmovl_u16(vget_low_u16(v));
    out[1] = (i32x4)vmovl_high_u16(v);
}
INLINE void widen_u8(const uint8_t b[16], i32x4 out[4]) {
    uint8x16_t v = vld1q_u8(b);
    uint16x8_t low = vmovl_u8(vget_low_u8(v)), high = vmovl_high_u8(v);
    out[0] = (i32x4)vmovl_u16(vget_low_u16(low));
    out[1] = (i32x4)vmovl_high_u16(low);
    out[2] = (i32x4)vmovl_u16(vget_low_u16(high));
    out[3] = (i32x4)vmovl_high_u16(high);
}

INLINE u8x16 look_up(u8x16 table, u8x16 index) {
    return (u8x16)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)index);
}
INLINE bool signed_weights(enum kind kind) {
    (void)kind;
    return true;
}

#ifdef __ARM_FEATURE_DOTPROD
INLINE i32x4 dot16(enum kind kind, const u8x16 w[4], const int8_t *q) {
    (void)kind;
    int8x16_t x = vld1q_s8(q);
    int32x4_t dot = vdotq_laneq_s32(vdupq_n_s32(0), (int8x16_t)w[0], x, 0);
    dot = vdotq_laneq_s32(dot, (int8x16_t)w[1], x, 1);
    dot = vdotq_laneq_s32(dot, (int8x16_t)w[2], x, 2);
    dot = vdotq_laneq_s32(dot, (int8x16_t)w[3], x, 3);
    return (i32x4)dot;
}
#else
/* Products in 16 bits, columns apart: two fit for wide weights (128 * 127 * 2), four for weights up to 63. Two rows in
 * each half; each pairwise addition takes two columns of a row. */
INLINE i32x4 dot16(enum kind kind, const u8x16 w[4], const int8_t *q) {
    int32x4_t groups = vreinterpretq_s32_s8(vld1q_s8(q));
    int8x16_t x[4] = {vreinterpretq_s8_s32(vdupq_laneq_s32(groups, 0)),
        vreinterpretq_s8_s32(vdupq_laneq_s32(groups, 1)), vreinterpretq_s8_s32(vdupq_laneq_s32(groups, 2)),
        vreinterpretq_s8_s32(vdupq_laneq_s32(groups, 3))};
    const int together = is_wide(kind) ? 2 : 4;
    int32x4_t rows01 = vdupq_n_s32(0), rows23 = vdupq_n_s32(0);
    for (int g = 0; g < 4; g += together) {
        int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)w[g]), vget_low_s8(x[g]));
        int16x8_t high = vmull_high_s8((int8x16_t)w[g], x[g]);
        for (int i = g + 1; i < g + together; i++) {
            low = vmlal_s8(low, vget_low_s8((int8x16_t)w[i]), vget_low_s8(x[i]));
            high = vmlal_high_s8(high, (int8x16_t)w[i], x[i]);
        }
        rows01 = vpadalq_s16(rows01, low);
        rows23 = vpadalq_s16(rows23, high);
    }
    return (i32x4)vpaddq_s32(rows01, rows23);
}
#endif

#endif
