/* The bits of a float or double as an integer, and back. Private to node/kernels and its tests. */
#ifndef COFFER_NODE_KERNELS_BITS_H
#define COFFER_NODE_KERNELS_BITS_H

#include <stdint.h>
#include <string.h>

static inline uint32_t cf__bits_of_float(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float cf__float_of_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline uint64_t cf__bits_of_double(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline double cf__double_of_bits(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#endif
