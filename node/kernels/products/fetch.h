/* Prefetching a tile: what the products of AVX2 and wider ask for ahead of their walk (README.md, Roofline). */
#ifndef COFFER_NODE_KERNELS_FETCH_H
#define COFFER_NODE_KERNELS_FETCH_H

#include <immintrin.h>

#include "node/kernels/products/kind.h"

/* Bytes from a load to its prefetch, into the first-level cache and into the second (0: that one is not asked for). The
 * hardware's own stream stops at every 4 KiB. Set once by dispatch.c, for what is best depends on the processor. */
struct cf__fetch {
    uint32_t first, second;
};
extern struct cf__fetch cf__fetch;

/* Prefetches as many bytes as the walk passes here. A line left out would be missed each time, and one in nine costs a
 * tenth of the bandwidth. */
INLINE void fetch_bytes(const void *from, uint32_t bytes) {
    const char *at = (const char *)from + cf__fetch.first;
    __asm__("" : "+r"(at)); /* else GCC keeps the distance of every line in a register of its own */
#pragma GCC unroll 8
    for (uint32_t b = 0; b < bytes; b += 64)
        _mm_prefetch(at + b, _MM_HINT_T0);
    if (!cf__fetch.second) return;
    at = (const char *)from + cf__fetch.second;
    __asm__("" : "+r"(at));
#pragma GCC unroll 8
    for (uint32_t b = 0; b < bytes; b += 64)
        _mm_prefetch(at + b, _MM_HINT_T1);
}

/* The block's bytes, and the head's where the walk enters a super-block. */
INLINE void fetch_ahead(enum kind kind, const struct cf__cursor *k) {
    const struct cf__layout *l = layout_of(kind);
    if (k->block == k->head + l->head_bytes) fetch_bytes(k->head, l->head_bytes);
    fetch_bytes(k->block, cf__block_bytes(l));
}

#endif
