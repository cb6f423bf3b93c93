/* What F16 and BF16 share: a tile is [column][16 rows] of 16 bit words, its length rounded up to 64 bytes. Private to
 * type_f16.c and type_bf16.c, which say only how a word becomes a float.
 */
#ifndef COFFER_NODE_KERNELS_HALF_H
#define COFFER_NODE_KERNELS_HALF_H

#include <string.h>

#include "node/kernels/type.h"

static inline size_t cf__half_tile_bytes(uint32_t c0, uint32_t c1) {
    return c1 > c0 ? ((size_t)(c1 - c0) * 32 + 63) / 64 * 64 : 0;
}

static inline void cf__half_pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    uint32_t n = c1 - c0;
    /* 32 columns at a time, so that the lines being written stay in the first cache. */
    for (uint32_t from = 0; from < n; from += 32) {
        uint32_t to = from + 32 < n ? from + 32 : n;
        for (uint32_t r = 0; r < CF_TILE; r++) {
            for (uint32_t c = from; c < to; c++) {
                uint16_t w = 0;
                if (rows[r]) memcpy(&w, (const char *)rows[r] + (size_t)c * 2, 2);
                memcpy((char *)tile + (size_t)c * 32 + r * 2, &w, 2);
            }
        }
    }
    if (n % 2) memset((char *)tile + (size_t)n * 32, 0, 32);
}

static inline uint16_t cf__half_at(const void *tile, uint32_t column, uint32_t lane) {
    uint16_t w;
    memcpy(&w, (const char *)tile + (size_t)column * 32 + lane * 2, 2);
    return w;
}

/* All of such a type; to_f32: a word as a float. */
#define CF__HALF_TYPE(lower, upper, to_f32)                                                                            \
    static void decode(const void *src, float *dst, size_t n) {                                                        \
        for (size_t i = 0; i < n; i++) {                                                                               \
            uint16_t w;                                                                                                \
            memcpy(&w, (const char *)src + i * 2, 2);                                                                  \
            dst[i] = to_f32(w);                                                                                        \
        }                                                                                                              \
    }                                                                                                                  \
    static void unpack_row(const void *tile, uint32_t lane, uint32_t c0, uint32_t c1, float *dst) {                    \
        for (uint32_t c = 0; c < c1 - c0; c++)                                                                         \
            dst[c] = to_f32(cf__half_at(tile, c, lane));                                                               \
    }                                                                                                                  \
    extern const struct cf_type cf__type_##lower;                                                                      \
    const struct cf_type cf__type_##lower = {.name = #upper,                                                           \
        .id = CF_TYPE_##upper,                                                                                         \
        .block = 1,                                                                                                    \
        .block_bytes = 2,                                                                                              \
        .cut = 1,                                                                                                      \
        .decode = decode,                                                                                              \
        .tile_bytes = cf__half_tile_bytes,                                                                             \
        .pack = cf__half_pack,                                                                                         \
        .unpack_row = unpack_row};

#endif
