/* The table of tensor types, their names and the conversions between 16 and 32 bit floats. Layouts in a file are in
 * type_NAME.c, how quantised types are packed in tile.h and tile.c.
 */
#include "node/kernels/type.h"

#include <ctype.h>

#include "node/kernels/tile.h"

extern const struct cf_type cf__type_f32, cf__type_f16, cf__type_bf16;
#define DECLARE(none, lower, upper) extern const struct cf_type cf__type_##lower;
CF__QUANTISED(DECLARE, )

#define ROW(none, lower, upper) [CF_TYPE_##upper] = &cf__type_##lower,
static const struct cf_type *const types[CF_TYPE_LIMIT] = {[CF_TYPE_F32] = &cf__type_f32,
    [CF_TYPE_F16] = &cf__type_f16,
    [CF_TYPE_BF16] = &cf__type_bf16,
    CF__QUANTISED(ROW, )};

/* Every number that GGUF files carry or carried. */
static const char *const names[CF_TYPE_LIMIT] = {
    [0] = "F32",
    [1] = "F16",
    [2] = "Q4_0",
    [3] = "Q4_1",
    [4] = "Q4_2",
    [5] = "Q4_3",
    [6] = "Q5_0",
    [7] = "Q5_1",
    [8] = "Q8_0",
    [9] = "Q8_1",
    [10] = "Q2_K",
    [11] = "Q3_K",
    [12] = "Q4_K",
    [13] = "Q5_K",
    [14] = "Q6_K",
    [15] = "Q8_K",
    [16] = "IQ2_XXS",
    [17] = "IQ2_XS",
    [18] = "IQ3_XXS",
    [19] = "IQ1_S",
    [20] = "IQ4_NL",
    [21] = "IQ3_S",
    [22] = "IQ2_S",
    [23] = "IQ4_XS",
    [24] = "I8",
    [25] = "I16",
    [26] = "I32",
    [27] = "I64",
    [28] = "F64",
    [29] = "IQ1_M",
    [30] = "BF16",
    [31] = "Q4_0_4_4",
    [32] = "Q4_0_4_8",
    [33] = "Q4_0_8_8",
    [34] = "TQ1_0",
    [35] = "TQ2_0",
    [36] = "IQ4_NL_4_4",
    [37] = "IQ4_NL_4_8",
    [38] = "IQ4_NL_8_8",
    [39] = "MXFP4",
};

const struct cf_type *cf_type_by_id(uint32_t id) {
    return id < CF_TYPE_LIMIT ? types[id] : NULL;
}

const char *cf_type_name(uint32_t id) {
    return id < CF_TYPE_LIMIT ? names[id] : NULL;
}

static int plain(char c) {
    return c == '-' ? '_' : toupper((unsigned char)c);
}

static bool same_name(const char *a, const char *b) {
    while (*a && plain(*a) == plain(*b))
        a++, b++;
    return !*a && !*b;
}

const struct cf_type *cf_type_by_name(const char *name) {
    for (uint32_t id = 0; name && id < CF_TYPE_LIMIT; id++)
        if (types[id] && same_name(types[id]->name, name)) return types[id];
    return NULL;
}

union bits {
    uint32_t u;
    float f;
};

float cf_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    union bits x;
    if (exponent == 0) {
        x.f = (float)fraction * 0x1p-24f; /* zero and denormals */
        x.u |= sign;
    } else if (exponent == 31) {
        x.u = sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0); /* NaN becomes quiet, as in hardware */
    } else {
        x.u = sign | (exponent + 112) << 23 | fraction << 13;
    }
    return x.f;
}

uint16_t cf_f32_to_f16(float f) {
    union bits x = {.f = f};
    uint32_t sign = x.u >> 16 & 0x8000, a = x.u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* from 65520 on, the nearest is infinity */
    if (a < 0x38800000) {
        /* Below 2^-14 a half counts 2^-24: adding 0.5 puts that unit at the last bit of a float, which rounds. */
        union bits y = {.u = a};
        y.f += 0.5f;
        return (uint16_t)(sign | (y.u - 0x3f000000));
    }
    uint32_t odd = a >> 13 & 1;
    return (uint16_t)(sign | ((a - (112u << 23) + 0xfff + odd) >> 13));
}

uint16_t cf_f32_to_bf16(float f) {
    union bits x = {.f = f};
    if ((x.u & 0x7fffffff) > 0x7f800000) return (uint16_t)(x.u >> 16 | 0x40);
    return (uint16_t)((x.u + 0x7fff + (x.u >> 16 & 1)) >> 16);
}
