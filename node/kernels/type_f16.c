/* F16: IEEE 754 binary16, packed as half.h says. */
#include "node/kernels/half.h"

static void decode(const void *src, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t w;
        memcpy(&w, (const char *)src + i * 2, 2);
        dst[i] = cf_f16_to_f32(w);
    }
}

static size_t tile_bytes(uint32_t c0, uint32_t c1) {
    return cf__half_tile_bytes(c0, c1);
}

static void pack(void *tile, const void *const rows[CF_TILE], uint32_t c0, uint32_t c1) {
    cf__half_pack(tile, rows, c0, c1);
}

static void unpack_row(const void *tile, uint32_t lane, uint32_t c0, uint32_t c1, float *dst) {
    for (uint32_t c = 0; c < c1 - c0; c++)
        dst[c] = cf_f16_to_f32(cf__half_at(tile, c, lane));
}

extern const struct cf_type cf__type_f16;
const struct cf_type cf__type_f16 = {.name = "F16",
    .id = CF_TYPE_F16,
    .block = 1,
    .block_bytes = 2,
    .cut = 1,
    .decode = decode,
    .tile_bytes = tile_bytes,
    .pack = pack,
    .unpack_row = unpack_row};
