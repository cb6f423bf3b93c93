/* One weight of a row of a file, straight from the published layouts, and the product of such a row as DESIGN.md
 * section 6 orders it: what the kernels are compared with. It knows no tiles. */
#ifndef COFFER_TESTS_FILE_WEIGHTS_H
#define COFFER_TESTS_FILE_WEIGHTS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "node/kernels/type.h"
#include "node/kernels/types/codebook.h"

struct weight {
    int w;
    float scale, min; /* value = scale * w - min */
};

static float half_at(const uint8_t *p) {
    return cf_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static struct weight q8_0(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 34;
    return (struct weight){(int8_t)b[2 + c % 32], half_at(b), 0};
}

static struct weight q4_0(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 18;
    int byte = b[2 + c % 16];
    return (struct weight){(c % 32 < 16 ? byte & 15 : byte >> 4) - 8, half_at(b), 0};
}

static struct weight k4_or_k5(const uint8_t *b, uint32_t c, const uint8_t *high, const uint8_t *low) {
    uint32_t s = c / 32;
    const uint8_t *six = b + 4;
    int scale = s < 4 ? six[s] % 64 : six[s + 4] % 16 + six[s - 4] / 64 * 16;
    int min = s < 4 ? six[s + 4] % 64 : six[s + 4] / 16 + six[s] / 64 * 16;
    int byte = low[c / 64 * 32 + c % 32];
    int w = c % 64 < 32 ? byte % 16 : byte / 16;
    if (high && (high[c % 32] >> s) % 2) w += 16;
    return (struct weight){w, half_at(b) * (float)scale, half_at(b + 2) * (float)min};
}

static struct weight q4_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 144;
    return k4_or_k5(b, c % 256, NULL, b + 16);
}

static struct weight q5_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 176;
    return k4_or_k5(b, c % 256, b + 16, b + 48);
}

static struct weight q6_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 210;
    uint32_t in = c % 256, half = in / 128, run = in % 128 / 32, l = in % 32;
    int low = b[half * 64 + (run & 1) * 32 + l], high = b[128 + half * 32 + l];
    int w = (run < 2 ? low % 16 : low / 16) + 16 * (high >> 2 * run & 3);
    return (struct weight){w - 32, half_at(b + 208) * (float)(int8_t)b[192 + in / 16], 0};
}

static struct weight q4_1(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 20;
    int byte = b[4 + c % 16];
    return (struct weight){c % 32 < 16 ? byte % 16 : byte / 16, half_at(b), -half_at(b + 2)};
}

static int five_bits(const uint8_t *fifth, const uint8_t *nibbles, uint32_t c) {
    int byte = nibbles[c % 16];
    return (c < 16 ? byte % 16 : byte / 16) + (fifth[c / 8] >> c % 8 & 1) * 16;
}

static struct weight q5_0(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 22;
    return (struct weight){five_bits(b + 2, b + 6, c % 32) - 16, half_at(b), 0};
}

static struct weight q5_1(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 24;
    return (struct weight){five_bits(b + 4, b + 8, c % 32), half_at(b), -half_at(b + 2)};
}

static struct weight q2_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 84;
    uint32_t in = c % 256, pair = b[16 + in / 128 * 32 + in % 32] >> in % 128 / 32 * 2;
    return (struct weight){
        (int)(pair % 4), half_at(b + 80) * (float)(b[in / 16] % 16), half_at(b + 82) * (float)(b[in / 16] / 16)};
}

static struct weight q3_k(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 110, *six = b + 96;
    uint32_t in = c % 256, pair = b[32 + in / 128 * 32 + in % 32] >> in % 128 / 32 * 2, i = in / 16;
    int low = i < 8 ? six[i] % 16 : six[i - 8] / 16, scale = low + (six[8 + i % 4] >> i / 4 * 2) % 4 * 16 - 32;
    int third = b[in % 32] >> in / 32 & 1;
    return (struct weight){(int)(pair % 4) - (third ? 0 : 4), half_at(b + 108) * (float)scale, 0};
}

static const int iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static struct weight iq4_nl(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 18;
    int byte = b[2 + c % 16];
    return (struct weight){iq4[c % 32 < 16 ? byte % 16 : byte / 16], half_at(b), 0};
}

static struct weight iq4_xs(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 136;
    uint32_t s = c % 256 / 32, high = (uint32_t)(b[2] | b[3] << 8) >> 2 * s & 3;
    int byte = b[8 + 16 * s + c % 16], scale = (int)((s % 2 ? b[4 + s / 2] / 16 : b[4 + s / 2] % 16) + 16 * high) - 32;
    return (struct weight){iq4[c % 32 < 16 ? byte % 16 : byte / 16], half_at(b) * (float)scale, 0};
}

static struct weight mxfp4(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 32 * 17;
    int byte = b[1 + c % 16];
    return (struct weight){fp4[c % 32 < 16 ? byte % 16 : byte / 16], ldexpf(1, b[0] - 128), 0};
}

/* Sign j of 8: of 7 bits and their parity, or of 8. */
static int sign_of(uint32_t bits, bool parity, uint32_t j) {
    if (parity && j == 7) return __builtin_popcount(bits & 127) % 2 ? -1 : 1;
    return bits >> j & 1 ? -1 : 1;
}

static uint32_t word_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static struct weight iq3_xxs(const uint8_t *row, uint32_t c) {
    static const int magnitudes[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    const uint8_t *b = row + c / 256 * 98;
    uint32_t in = c % 256, word = word_at(b + 66 + in / 32 * 4);
    int magnitude = magnitudes[cf__grid_iq3xxs[b[2 + in / 4]] >> c % 4 * 3 & 7];
    return (struct weight){
        magnitude * sign_of(word >> in % 32 / 8 * 7, true, c % 8), half_at(b) * (0.5f + (float)(word >> 28)) * 0.5f, 0};
}

static struct weight iq3_s(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 110;
    uint32_t in = c % 256, number = b[2 + in / 4] | (uint32_t)(b[66 + in / 32] >> in % 32 / 4 & 1) << 8;
    int magnitude = 2 * (cf__grid_iq3s[number] >> c % 4 * 3 & 7) + 1, scale = b[106 + in / 64] >> in / 32 % 2 * 4 & 15;
    return (struct weight){magnitude * sign_of(b[74 + in / 8], false, c % 8), half_at(b) * (float)(1 + 2 * scale), 0};
}

static int iq2_magnitude(uint16_t entry, uint32_t j) {
    static const int magnitudes[4] = {8, 25, 43, 0};
    return magnitudes[entry >> 2 * j & 3];
}

static struct weight iq2_xxs(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 66, *words = b + 2 + c % 256 / 32 * 8;
    uint32_t word = word_at(words + 4), i = c % 32 / 8;
    int w = iq2_magnitude(cf__grid_iq2xxs[words[i]], c % 8) * sign_of(word >> 7 * i, true, c % 8);
    return (struct weight){w, half_at(b) * (0.5f + (float)(word >> 28)) * 0.25f, 0};
}

static struct weight iq2_scaled(const uint8_t *b, const uint8_t *scales, uint32_t in, int w) {
    int scale = scales[in / 32] >> in / 16 % 2 * 4 & 15;
    return (struct weight){w, half_at(b) * (0.5f + (float)scale) * 0.25f, 0};
}

static struct weight iq2_xs(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 74;
    uint32_t in = c % 256, word = b[2 + in / 8 * 2] | (uint32_t)b[3 + in / 8 * 2] << 8;
    int w = iq2_magnitude(cf__grid_iq2xs[word % 512], c % 8) * sign_of(word >> 9, true, c % 8);
    return iq2_scaled(b, b + 66, in, w);
}

static struct weight iq2_s(const uint8_t *row, uint32_t c) {
    const uint8_t *b = row + c / 256 * 82;
    uint32_t in = c % 256, number = b[2 + in / 8] | (uint32_t)(b[66 + in / 32] >> in % 32 / 8 * 2 & 3) << 8;
    int w = iq2_magnitude(cf__grid_iq2s[number], c % 8) * sign_of(b[34 + in / 8], false, c % 8);
    return iq2_scaled(b, b + 74, in, w);
}

static const struct {
    uint32_t id, block; /* block: columns under one scale */
    bool mins;
    struct weight (*at)(const uint8_t *row, uint32_t c);
} quantised[] = {
    {CF_TYPE_Q8_0, 32, false, q8_0},
    {CF_TYPE_Q4_0, 32, false, q4_0},
    {CF_TYPE_Q4_K, 32, true, q4_k},
    {CF_TYPE_Q5_K, 32, true, q5_k},
    {CF_TYPE_Q6_K, 16, false, q6_k},
    {CF_TYPE_Q4_1, 32, true, q4_1},
    {CF_TYPE_Q5_0, 32, false, q5_0},
    {CF_TYPE_Q5_1, 32, true, q5_1},
    {CF_TYPE_Q2_K, 16, true, q2_k},
    {CF_TYPE_Q3_K, 16, false, q3_k},
    {CF_TYPE_IQ4_NL, 32, false, iq4_nl},
    {CF_TYPE_IQ4_XS, 32, false, iq4_xs},
    {CF_TYPE_MXFP4, 32, false, mxfp4},
    {CF_TYPE_IQ3_S, 32, false, iq3_s},
    {CF_TYPE_IQ3_XXS, 32, false, iq3_xxs},
    {CF_TYPE_IQ2_S, 16, false, iq2_s},
    {CF_TYPE_IQ2_XS, 16, false, iq2_xs},
    {CF_TYPE_IQ2_XXS, 32, false, iq2_xxs},
};
enum { N_QUANTISED = sizeof quantised / sizeof quantised[0] };

/* q and d: an activation row from column 0 of the matrix. */
static float reference(size_t t, const uint8_t *row, const int8_t *q, const float *d, uint32_t c0, uint32_t c1) {
    float acc = 0;
    for (uint32_t c = c0; c < c1; c += quantised[t].block) {
        struct weight first = quantised[t].at(row, c);
        int32_t dot = 0, sum = 0;
        for (uint32_t j = c; j < c + quantised[t].block; j++) {
            dot += quantised[t].at(row, j).w * q[j];
            sum += q[j];
        }
        acc = fmaf(first.scale * d[c / 32], (float)dot, acc);
        if (quantised[t].mins) acc = fmaf(-first.min, d[c / 32] * (float)sum, acc);
    }
    return acc;
}

static float reference_float(const float *w, const float *x, uint32_t c0, uint32_t c1) {
    float acc = 0;
    for (uint32_t c = c0; c < c1; c++)
        acc = fmaf(w[c], x[c], acc);
    return acc;
}

#endif
