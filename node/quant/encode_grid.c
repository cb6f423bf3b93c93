/* Encoders of the types whose elements are runs from a grid: IQ3 (4 magnitudes a run) and IQ2 (8). Every run becomes
 * the grid's nearest, found by trying all. Good enough for synthetic models; nobody should quantise a real one so,
 * without knowing what matters in it.
 */
#include "node/kernels/types/codebook.h"
#include "node/kernels/type.h"
#include "node/quant/fit.h"

enum { SUPER = 256, MOST_ENTRIES = 1024 };

struct grid {
    const uint16_t *entries;
    uint32_t n_entries, run; /* columns of a run: 4 or 8 */
    bool even;               /* signs of 8 columns: 7 and their parity */
    uint32_t columns;        /* under one scale */
    float unit;              /* the scale of these is d * unit * (2 s + 1), s of 4 bits */
    float magnitudes[8];
    float values[MOST_ENTRIES][8]; /* of each entry, filled by open_grid */
};

static const float iq2[8] = {8, 25, 43};
static const float iq3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const float iq3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};

static void open_grid(struct grid *g, const float magnitudes[8]) {
    const uint32_t bits = g->run == 4 ? 3 : 2;
    memcpy(g->magnitudes, magnitudes, sizeof g->magnitudes);
    for (uint32_t i = 0; i < g->n_entries; i++)
        for (uint32_t j = 0; j < g->run; j++)
            g->values[i][j] = magnitudes[g->entries[i] >> bits * j & (g->run == 4 ? 7 : 3)];
}

/* A super-block: a scale for each g->columns, a sign for each column, a number for each run. */
struct coded {
    uint16_t d;
    uint8_t scale[16], signs[32];
    uint16_t number[64];
};

static uint16_t nearest_run(const struct grid *g, const float *x, float inverse) {
    uint16_t best = 0;
    float least = 0;
    for (uint32_t i = 0; i < g->n_entries; i++) {
        float error = 0;
        for (uint32_t j = 0; j < g->run; j++) {
            float off = x[j] * inverse - g->values[i][j];
            error += off * off;
        }
        if (i == 0 || error < least) {
            best = (uint16_t)i;
            least = error;
        }
    }
    return best;
}

/* Signs of 8 columns; where their number must be even, the smallest element gives way. */
static uint8_t take_signs(const struct grid *g, float x[8]) {
    uint32_t signs = 0, least = 0;
    for (uint32_t j = 0; j < 8; j++) {
        signs |= (uint32_t)(x[j] < 0) << j;
        x[j] = x[j] < 0 ? -x[j] : x[j];
        if (x[j] < x[least]) least = j;
    }
    if (g->even && __builtin_popcount(signs) % 2) {
        signs ^= 1u << least;
        x[least] = -x[least];
    }
    return (uint8_t)signs;
}

static void fit(const struct grid *g, const float *src, struct coded *to) {
    const uint32_t n_scales = SUPER / g->columns;
    const float top = g->magnitudes[g->run == 4 ? 7 : 2];
    float x[SUPER], scales[16], most = 0, d;
    memcpy(x, src, sizeof x);
    for (uint32_t s = 0; s < n_scales; s++) {
        scales[s] = 0;
        for (uint32_t j = s * g->columns; j < (s + 1) * g->columns; j++) {
            float a = x[j] < 0 ? -x[j] : x[j];
            scales[s] = a > scales[s] ? a : scales[s];
        }
        scales[s] /= top;
        most = scales[s] > most ? scales[s] : most;
    }
    to->d = cf__half(most / (31.0f * g->unit), &d);
    for (uint32_t i = 0; i < 32; i++)
        to->signs[i] = take_signs(g, x + 8 * i);
    for (uint32_t s = 0; s < n_scales; s++) {
        float step = d * g->unit;
        to->scale[s] = step > 0 ? (uint8_t)cf__nearest_in((scales[s] / step - 1.0f) * 0.5f, 0, 15) : 0;
        float scale = step * (float)(2 * to->scale[s] + 1), inverse = scale > 0 ? 1.0f / scale : 0;
        for (uint32_t j = s * g->columns; j < (s + 1) * g->columns; j += g->run)
            to->number[j / g->run] = nearest_run(g, x + j, inverse);
    }
}

/* Four times 7 signs and a scale on top. */
static void put_word(uint8_t *dst, const uint8_t signs[4], uint8_t scale) {
    uint32_t word = (uint32_t)scale << 28;
    for (uint32_t i = 0; i < 4; i++)
        word |= (uint32_t)(signs[i] & 127) << 7 * i;
    memcpy(dst, &word, 4);
}

static void put_scales(uint8_t *dst, const uint8_t *scale, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 2)
        dst[i / 2] = (uint8_t)(scale[i] | scale[i + 1] << 4);
}

void cf__encode_iq3_xxs(const float *src, uint8_t *dst, size_t n) {
    struct grid g = {cf__grid_iq3xxs, 256, 4, true, 32, 0.25f, {0}, {{0}}};
    struct coded c;
    open_grid(&g, iq3_xxs);
    for (size_t i = 0; i < n; i += SUPER, dst += 98) {
        fit(&g, src + i, &c);
        cf__put_u16(dst, c.d);
        for (uint32_t k = 0; k < 64; k++)
            dst[2 + k] = (uint8_t)c.number[k];
        for (uint32_t s = 0; s < 8; s++)
            put_word(dst + 66 + 4 * s, c.signs + 4 * s, c.scale[s]);
    }
}

void cf__encode_iq3_s(const float *src, uint8_t *dst, size_t n) {
    struct grid g = {cf__grid_iq3s, 512, 4, false, 32, 1, {0}, {{0}}};
    struct coded c;
    open_grid(&g, iq3_s);
    for (size_t i = 0; i < n; i += SUPER, dst += 110) {
        fit(&g, src + i, &c);
        cf__put_u16(dst, c.d);
        memset(dst + 66, 0, 8);
        for (uint32_t k = 0; k < 64; k++) {
            dst[2 + k] = (uint8_t)c.number[k];
            dst[66 + k / 8] |= (uint8_t)(c.number[k] >> 8 << k % 8);
        }
        memcpy(dst + 74, c.signs, 32);
        put_scales(dst + 106, c.scale, 8);
    }
}

void cf__encode_iq2_xxs(const float *src, uint8_t *dst, size_t n) {
    struct grid g = {cf__grid_iq2xxs, 256, 8, true, 32, 0.125f, {0}, {{0}}};
    struct coded c;
    open_grid(&g, iq2);
    for (size_t i = 0; i < n; i += SUPER, dst += 66) {
        fit(&g, src + i, &c);
        cf__put_u16(dst, c.d);
        for (uint32_t s = 0; s < 8; s++) {
            for (uint32_t k = 0; k < 4; k++)
                dst[2 + 8 * s + k] = (uint8_t)c.number[4 * s + k];
            put_word(dst + 6 + 8 * s, c.signs + 4 * s, c.scale[s]);
        }
    }
}

void cf__encode_iq2_xs(const float *src, uint8_t *dst, size_t n) {
    struct grid g = {cf__grid_iq2xs, 512, 8, true, 16, 0.125f, {0}, {{0}}};
    struct coded c;
    open_grid(&g, iq2);
    for (size_t i = 0; i < n; i += SUPER, dst += 74) {
        fit(&g, src + i, &c);
        cf__put_u16(dst, c.d);
        for (uint32_t k = 0; k < 32; k++)
            cf__put_u16(dst + 2 + 2 * k, (uint16_t)(c.number[k] | (c.signs[k] & 127) << 9));
        put_scales(dst + 66, c.scale, 16);
    }
}

void cf__encode_iq2_s(const float *src, uint8_t *dst, size_t n) {
    struct grid g = {cf__grid_iq2s, 1024, 8, false, 16, 0.125f, {0}, {{0}}};
    struct coded c;
    open_grid(&g, iq2);
    for (size_t i = 0; i < n; i += SUPER, dst += 82) {
        fit(&g, src + i, &c);
        cf__put_u16(dst, c.d);
        memset(dst + 66, 0, 8);
        for (uint32_t k = 0; k < 32; k++) {
            dst[2 + k] = (uint8_t)c.number[k];
            dst[66 + k / 4] |= (uint8_t)(c.number[k] >> 8 << k % 4 * 2);
        }
        memcpy(dst + 34, c.signs, 32);
        put_scales(dst + 74, c.scale, 16);
    }
}
