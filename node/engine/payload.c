/* See payload.h. */
#include "node/engine/payload.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { RUN = 512 }; /* columns at a time; a multiple of CF_DTYPE_BLOCK */

static const float MOST_F16 = 65504.0f;

/* NaN is not larger than anything. */
static bool finite_all(const float *x, uint32_t n) {
    uint32_t good = 0;
    for (uint32_t i = 0; i < n; i++)
        good += fabsf(x[i]) <= FLT_MAX;
    return good == n;
}

static int64_t pack_f16(const struct cf_kernels *k, const float *x, uint32_t columns, uint16_t *out) {
    int64_t cut = 0;
    float v[RUN];
    for (uint32_t at = 0; at < columns; at += RUN) {
        uint32_t n = columns - at < RUN ? columns - at : RUN;
        if (!finite_all(x + at, n)) return -1;
        for (uint32_t i = 0; i < n; i++) {
            float a = x[at + i], magnitude = fabsf(a);
            cut += magnitude > MOST_F16;
            v[i] = magnitude > MOST_F16 ? copysignf(MOST_F16, a) : a;
        }
        k->to_f16(out + at, v, n);
    }
    if (columns % 2) out[columns] = 0;
    return cut;
}

static int64_t pack_q8(const struct cf_kernels *k, const float *x, uint32_t columns, float *d) {
    uint32_t blocks = (columns + CF_DTYPE_BLOCK - 1) / CF_DTYPE_BLOCK, whole = columns - columns % CF_DTYPE_BLOCK;
    int8_t *q = (int8_t *)(d + blocks), tail[CF_DTYPE_BLOCK];
    int16_t sums[RUN / 16];
    for (uint32_t at = 0; at < whole; at += RUN) {
        uint32_t n = whole - at < RUN ? whole - at : RUN;
        if (k->quantise(x + at, n, q + at, d + at / CF_DTYPE_BLOCK, sums)) return -1;
    }
    if (whole == columns) return 0;
    float rest[CF_DTYPE_BLOCK] = {0};
    memcpy(rest, x + whole, (columns - whole) * sizeof(float));
    if (k->quantise(rest, CF_DTYPE_BLOCK, tail, d + blocks - 1, sums)) return -1;
    memcpy(q + whole, tail, columns - whole);
    memset(q + columns, 0, (4 - columns % 4) % 4);
    return 0;
}

int64_t cf_payload_pack(const struct cf_kernels *k, enum cf_dtype dtype, const float *x, uint32_t columns, void *out) {
    if (dtype == CF_DTYPE_F16) return pack_f16(k, x, columns, out);
    if (dtype == CF_DTYPE_Q8) return pack_q8(k, x, columns, out);
    memcpy(out, x, columns * sizeof(float));
    return finite_all(x, columns) ? 0 : -1;
}

/* cf_f16_to_f32 without branches, so that the compiler can take several at once: the bits move to their place, which
 * leaves the exponent 112 too low. A denormal gets the leading one that it lacks, and 2^-14 is taken off again. */
static inline float from_f16(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } v, one;
    uint32_t a = (uint32_t)(h & 0x7fff) << 13, denormal = a<0x400u << 13, special = a> 0x7bffu << 13;
    v.u = a + (112u << 23) + (denormal << 23) + special * (112u << 23);
    one.u = denormal * 0x38800000u; /* 2^-14 */
    v.f -= one.f;
    v.u |= (uint32_t)(h & 0x8000) << 16;
    return v.f;
}

void cf_payload_unpack(enum cf_dtype dtype, const void *line, uint32_t columns, uint32_t first, uint32_t n, float *x) {
    if (dtype == CF_DTYPE_F32) memcpy(x, (const float *)line + first, n * sizeof(float));
    const uint16_t *h = (const uint16_t *)line + first;
    for (uint32_t i = 0; dtype == CF_DTYPE_F16 && i < n; i++)
        x[i] = from_f16(h[i]);
    if (dtype != CF_DTYPE_Q8) return;
    uint32_t blocks = (columns + CF_DTYPE_BLOCK - 1) / CF_DTYPE_BLOCK;
    const float *d = (const float *)line + first / CF_DTYPE_BLOCK;
    const int8_t *q = (const int8_t *)((const float *)line + blocks) + first;
    for (uint32_t at = 0; at < n; at += CF_DTYPE_BLOCK, d++) {
        uint32_t end = n - at < CF_DTYPE_BLOCK ? n : at + CF_DTYPE_BLOCK;
        for (uint32_t i = at; i < end; i++)
            x[i] = *d * (float)q[i];
    }
}
