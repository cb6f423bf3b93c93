/* The fixed binary tree over chunk sums (DESIGN.md section 6): n vectors are the sum of the first floor(n / 2) plus the
 * sum of the rest, so that the result does not depend on who computed which chunk.
 */
#include "node/kernels/kernels.h"

enum { STRIP = 16 }; /* columns at a time: as many as a tile has rows, a loop of known length for the compiler */

static void add(float *restrict a, const float *restrict b, size_t width) {
    if (width == STRIP)
        for (size_t i = 0; i < STRIP; i++)
            a[i] += b[i];
    else
        for (size_t i = 0; i < width; i++)
            a[i] += b[i];
}

/* a + (b + c), the tree over three. */
static void add3(float *restrict a, const float *restrict b, const float *restrict c, size_t width) {
    if (width == STRIP)
        for (size_t i = 0; i < STRIP; i++)
            a[i] += b[i] + c[i];
    else
        for (size_t i = 0; i < width; i++)
            a[i] += b[i] + c[i];
}

static void strip(float *v, size_t n, size_t stride, size_t width) {
    if (n < 2) return;
    if (n == 2) {
        add(v, v + stride, width);
    } else if (n == 3) {
        add3(v, v + stride, v + 2 * stride, width);
    } else {
        float *rest = v + n / 2 * stride;
        strip(v, n / 2, stride, width);
        strip(rest, n - n / 2, stride, width);
        add(v, rest, width);
    }
}

void cf_tree_sum(float *v, size_t n, size_t stride, size_t width) {
    for (size_t from = 0; from < width; from += STRIP)
        strip(v + from, n, stride, width - from < STRIP ? width - from : STRIP);
}
