/* The random numbers of a sampler: the same from the same seed on every machine (private to coordinator/sample). */
#ifndef COFFER_COORDINATOR_SAMPLE_RANDOM_H
#define COFFER_COORDINATOR_SAMPLE_RANDOM_H

#include <stdint.h>

struct cf__random {
    uint64_t s[4];
};

/* splitmix64 (Steele, Lea, Flood 2014), to spread a seed over the state. */
static inline uint64_t cf__splitmix64(uint64_t *x) {
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline void cf__random_seed(struct cf__random *r, uint64_t seed) {
    for (int i = 0; i < 4; i++)
        r->s[i] = cf__splitmix64(&seed);
}

static inline uint64_t cf__rotate(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

/* xoshiro256** 1.0 (Blackman, Vigna 2018). */
static inline uint64_t cf__random_next(struct cf__random *r) {
    uint64_t *s = r->s, result = cf__rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = cf__rotate(s[3], 45);
    return result;
}

/* [0, 1) in steps of 2^-53. */
static inline double cf__random_uniform(struct cf__random *r) {
    return (double)(cf__random_next(r) >> 11) * 0x1p-53;
}

#endif
