/* Norm, activation, sums and rope over 8 or 16 lanes. Same operations in the same order as vector_scalar.c: a lane
 * is an element, never a part of somebody's sum.
 *
 * One source for both instruction sets. vector_avx2.c and vector_avx512.c include the lanes of theirs (lanes_wide.h),
 * define two ways of moving lanes, and include this file, once:
 *
 *     rotate(x, angles)            pairs (a, b) in x, (cos, sin) in angles: (a * cos - b * sin, b * cos + a * sin)
 *     take_apart(low, high, of)    the even lanes of two vectors in of[0], the odd ones in of[1]
 */
#ifndef COFFER_NODE_KERNELS_VECTOR_WIDE_H
#define COFFER_NODE_KERNELS_VECTOR_WIDE_H

#include <math.h>

#include "node/kernels/vectors/gate_lanes.h"
#include "node/kernels/vectors/lanes_wide.h"
#include "node/kernels/tree.h"

void NAME(rms_norm)(float *y, const float *x, const float *w, size_t n, float eps) {
    floats lane[16 / LANES];
    for (size_t v = 0; v < 16 / LANES; v++)
        lane[v] = all_f32(0);
    for (size_t i = 0; i < n; i += 16) {
#pragma GCC unroll 2
        for (size_t v = 0; v < 16 / LANES; v++) {
            size_t left = n - i, at = v * LANES;
            floats a = load_first(x + i + at, first_lanes(left > at ? left - at : 0));
            lane[v] += a * a;
        }
    }
    float mean = lane_sum(lane) / (float)n;
    const floats scale = all_f32(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += LANES) {
        mask m = first_lanes(n - i);
        floats a = load_first(x + i, m) * scale;
        if (w) a *= load_first(w + i, m);
        store_first(y + i, m, a);
    }
}

INLINE void gate(const enum cf_act act, float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += LANES) {
        mask m = first_lanes(n - i);
        store_first(y + i, m, gated(act, load_first(g + i, m), load_first(u + i, m)));
    }
}

#define GATE_LOOP(act) gate(act, y, g, u, n)
void NAME(gate_mul)(enum cf_act act, float *y, const float *g, const float *u, size_t n) {
    GATE_MUL(act)
}

void NAME(tree_sum)(float *v, size_t n, size_t stride, size_t width) {
    cf__tree_sum(v, n, stride, width);
}

void NAME(add)(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += LANES) {
        mask m = first_lanes(n - i);
        store_first(y + i, m, load_first(y + i, m) + load_first(x + i, m));
    }
}

void NAME(add_scaled)(float *y, const float *x, float a, size_t n) {
    for (size_t i = 0; i < n; i += LANES) {
        mask m = first_lanes(n - i);
        store_first(y + i, m, fma_f32(all_f32(a), load_first(x + i, m), load_first(y + i, m)));
    }
}

/* Pairs (2i, 2i+1). */
static void rope_norm(float *x, const float *cs, size_t n_dims) {
    for (size_t i = 0; i < n_dims; i += LANES) {
        mask m = first_lanes(n_dims - i);
        store_first(x + i, m, rotate(load_first(x + i, m), load_first(cs + i, m)));
    }
}

/* Pairs (i, i + n_dims/2). */
static void rope_neox(float *x, const float *cs, size_t n_dims) {
    const size_t pairs = n_dims / 2;
    for (size_t i = 0; i < pairs; i += LANES) {
        size_t left = pairs - i;
        floats low = load_first(cs + 2 * i, first_lanes(2 * left)), angles[2];
        floats high = load_first(cs + 2 * i + LANES, first_lanes(2 * left > LANES ? 2 * left - LANES : 0));
        take_apart(low, high, angles);
        mask m = first_lanes(left);
        floats a = load_first(x + i, m), b = load_first(x + pairs + i, m);
        store_first(x + i, m, a * angles[0] - b * angles[1]);
        store_first(x + pairs + i, m, a * angles[1] + b * angles[0]);
    }
}

void NAME(rope)(float *x, const float *cs, size_t n_dims, bool neox) {
    if (neox) {
        rope_neox(x, cs, n_dims);
    } else {
        rope_norm(x, cs, n_dims);
    }
}

#endif
