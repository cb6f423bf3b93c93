/* What the tests of kernels share: random numbers, the same in every run, activations, and equality by the bits. */
#ifndef COFFER_TESTS_KERNEL_DATA_H
#define COFFER_TESTS_KERNEL_DATA_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tests/random.h"

static uint64_t seed = 7;

static inline uint32_t random32(void) {
    return cf_random32(&seed);
}

static inline uint32_t below(uint32_t n) {
    return random32() % n;
}

static inline float uniform(void) {
    return (float)(int32_t)random32() * 0x1p-31f;
}

/* Ordinary ones, and blocks of one extreme, of zeros, and about the least scale that is kept. */
static inline void fill_activations(float *x, uint32_t n) {
    static const float sizes[] = {1, 1, 1, 1, 30000, 0, 0x1p-101f, 0x1p-99f, 0x1p-140f, 0x1p60f};
    for (uint32_t c = 0; c < n; c += 32) {
        float size = sizes[below(sizeof sizes / sizeof sizes[0])];
        bool extreme = below(4) == 0; /* all q = -127 or 127 */
        for (uint32_t j = c; j < c + 32; j++)
            x[j] = extreme ? (below(2) ? -size : size) : size * uniform();
    }
}

static inline void assert_same(const float *a, const float *b, size_t n, const char *what, const char *isa) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], 4) != 0)
            fail_msg("%s, %s: element %zu is %a, not %a", what, isa, i, (double)a[i], (double)b[i]);
}

#endif
