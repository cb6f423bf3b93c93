/* The fixed binary tree over chunk sums (DESIGN.md section 6): n vectors are the sum of the first floor(n / 2) plus the
 * sum of the rest, so that the result does not depend on who computed which chunk.
 *
 * The compiler makes 16 columns (as many as a tile has rows) what each instruction set has; vector_SET.c gives it a
 * name.
 */
#ifndef COFFER_NODE_KERNELS_TREE_H
#define COFFER_NODE_KERNELS_TREE_H

#include <stddef.h>

typedef float cf__strip __attribute__((vector_size(64), aligned(4), may_alias));
enum { CF__STRIP = 16 };

static inline cf__strip *cf__strip_at(float *v, size_t i, size_t stride) {
    return (cf__strip *)(void *)(v + i * stride);
}

static inline void cf__tree_strip(float *v, size_t n, size_t stride) {
    if (n < 2) return;
    float *rest = v + n / 2 * stride;
    if (n == 2) {
        *cf__strip_at(v, 0, 0) += *cf__strip_at(v, 1, stride);
    } else if (n == 3) {
        *cf__strip_at(v, 0, 0) += *cf__strip_at(v, 1, stride) + *cf__strip_at(v, 2, stride);
    } else {
        cf__tree_strip(v, n / 2, stride);
        cf__tree_strip(rest, n - n / 2, stride);
        *cf__strip_at(v, 0, 0) += *cf__strip_at(rest, 0, 0);
    }
}

static inline float cf__tree_column(const float *v, size_t n, size_t stride) {
    return n == 1 ? *v : cf__tree_column(v, n / 2, stride) + cf__tree_column(v + n / 2 * stride, n - n / 2, stride);
}

static inline void cf__tree_sum(float *v, size_t n, size_t stride, size_t width) {
    for (; width >= CF__STRIP; width -= CF__STRIP, v += CF__STRIP)
        cf__tree_strip(v, n, stride);
    for (; width; width--, v++)
        *v = cf__tree_column(v, n, stride);
}

#endif
