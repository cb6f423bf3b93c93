/* Prefetching a tile: what the products of AVX2 and wider ask for ahead of their walk (README.md, Roofline). */
#ifndef COFFER_NODE_KERNELS_FETCH_H
#define COFFER_NODE_KERNELS_FETCH_H

#include <immintrin.h>

#include "node/kernels/products/kind.h"

/* Bytes from a load to its prefetch, into the second-level cache and into the first: the hardware's own stream stops at
 * every 4 KiB, and the first level has too few requests in flight to cover the way to memory. */
enum { FAR = 12288, NEAR = 4096 };

INLINE void fetch_line(const void *at) {
    _mm_prefetch((const char *)at + FAR, _MM_HINT_T1);
    _mm_prefetch((const char *)at + NEAR, _MM_HINT_T0);
}

/* Prefetches as many bytes as the walk passes here: the block's, and the head's where the walk enters a super-block.
 * A line left out would be missed each time, and one in nine costs a tenth of the bandwidth. */
INLINE void fetch_ahead(enum kind kind, const struct cf__cursor *k) {
    const struct cf__layout *l = layout_of(kind);
    if (k->block == k->head + l->head_bytes)
        for (uint32_t at = 0; at < l->head_bytes; at += 64)
            fetch_line(k->head + at);
    for (uint32_t at = 0; at < cf__block_bytes(l); at += 64)
        fetch_line(k->block + at);
}

#endif
