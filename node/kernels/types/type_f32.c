/* F32: plain floats. A tile is [column][16 rows]. */
#include <string.h>

#include "node/kernels/type.h"

static void decode(const void *src, float *dst, size_t n) {
    memcpy(dst, src, n * sizeof *dst);
}

static size_t tile_bytes(uint32_t c0, uint32_t c1) {
    return c1 > c0 ? (size_t)(c1 - c0) * 64 : 0;
}

static void pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    /* 16 columns at a time, so that the lines being written stay in the first cache. */
    for (uint32_t from = 0, n = c1 - c0; from < n; from += 16) {
        uint32_t to = from + 16 < n ? from + 16 : n;
        for (uint32_t r = 0; r < CF_TILE; r++) {
            for (uint32_t c = from; c < to; c++) {
                uint32_t w = 0;
                if (rows[r]) memcpy(&w, (const char *)rows[r] + (size_t)c * 4, 4);
                memcpy((char *)tile + (size_t)c * 64 + r * 4, &w, 4);
            }
        }
    }
}

static void unpack_row(const void *tile, uint32_t lane, uint32_t c0, uint32_t c1, float *dst) {
    for (uint32_t c = 0; c < c1 - c0; c++)
        memcpy(&dst[c], (const char *)tile + (size_t)c * 64 + lane * 4, 4);
}

extern const struct cf_type cf__type_f32;
const struct cf_type cf__type_f32 = {.name = "F32",
    .id = CF_TYPE_F32,
    .block = 1,
    .block_bytes = 4,
    .cut = 1,
    .decode = decode,
    .tile_bytes = tile_bytes,
    .pack = pack,
    .unpack_row = unpack_row};
