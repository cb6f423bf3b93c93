/* Random numbers of tests: the same on every machine and in every run. state: any number to begin with, not 0 for
 * cf_xorshift. */
#ifndef COFFER_TESTS_RANDOM_H
#define COFFER_TESTS_RANDOM_H

#include <stdint.h>

/* D. E. Knuth's MMIX generator. The high bits are the good ones, the lowest ones repeat soon. */
static inline uint64_t cf_random(uint64_t *state) {
    return *state = *state * 6364136223846793005u + 1442695040888963407u;
}

static inline uint32_t cf_random32(uint64_t *state) {
    return (uint32_t)(cf_random(state) >> 32);
}

/* 0 .. below - 1 */
static inline uint32_t cf_random_below(uint64_t *state, uint32_t below) {
    return (uint32_t)(cf_random(state) >> 33) % below;
}

/* G. Marsaglia, "Xorshift RNGs", J. Stat. Software 8 (2003). */
static inline uint64_t cf_xorshift(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
