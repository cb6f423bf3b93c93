/* See kv_type.h. */
#include "node/engine/memory/kv_type.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "node/kernels/type.h"

enum { PAGE = 64, MOST = 1024 };

static const struct {
    const char *name;
    uint32_t block_bytes; /* of 32 numbers, without their scale */
} types[CF_KV_TYPES] = {{"f16", 64}, {"q8_0", 32}, {"q4_0", 16}};

int cf_kv_type_by_name(const char *name) {
    for (int i = 0; i < CF_KV_TYPES; i++)
        if (!strcmp(name, types[i].name)) return i;
    return -1;
}

const char *cf_kv_type_name(enum cf_kv_type type) {
    return types[type].name;
}

size_t cf_kv_side_bytes(enum cf_kv_type type, uint32_t d) {
    if (type == CF_KV_F16) return (size_t)PAGE * d * 2;
    return (size_t)PAGE * (d / CF_KV_BLOCK) * (types[type].block_bytes + 2);
}

/* Where the scales of a side begin. */
static uint16_t *scales_of(enum cf_kv_type type, char *side, uint32_t d) {
    return (uint16_t *)(void *)(side + (size_t)PAGE * (d / CF_KV_BLOCK) * types[type].block_bytes);
}

/* The scale of 32 numbers; NaN if one is not finite, so that it shows. */
static float scale_of(enum cf_kv_type type, const float *x) {
    float top = 0, extreme = 0, poison = 0;
    for (int i = 0; i < CF_KV_BLOCK; i++) {
        float a = fabsf(x[i]);
        poison += x[i] - x[i];
        if (a > top) top = a, extreme = x[i];
    }
    return (type == CF_KV_Q8_0 ? top / 127.0f : extreme / -8.0f) + poison;
}

static int round_to(enum cf_kv_type type, float x, float inverse) {
    int most = type == CF_KV_Q8_0 ? 127 : 7, least = type == CF_KV_Q8_0 ? -127 : -8;
    float y = x * inverse;
    if (!(y > (float)least)) return least; /* NaN too: the scale says so */
    if (y >= (float)most) return most;
    return (int)lrintf(y);
}

/* 32 numbers -> q, and the scale as f16. */
static uint16_t round_block(const struct cf_kernels *kernels, enum cf_kv_type type, const float *x, int8_t *q) {
    float scale = scale_of(type, x), inverse = scale != 0 ? 1.0f / scale : 0;
    uint16_t half;
    kernels->to_f16(&half, &scale, 1);
    for (int i = 0; i < CF_KV_BLOCK; i++)
        q[i] = (int8_t)round_to(type, x[i], inverse);
    return half;
}

static uint8_t pair(const int8_t *q) {
    return (uint8_t)((q[0] + 8) | (q[1] + 8) << 4);
}

/* One row into a side: stride is how far apart numbers (or pairs) that follow each other along d lie. */
static void put_side(const struct cf_kernels *kernels, enum cf_kv_type type, char *side, uint32_t d, uint32_t at,
    const float *x, bool keys) {
    uint16_t *scales = scales_of(type, side, d);
    uint32_t per = type == CF_KV_Q8_0 ? 1 : 2, n = CF_KV_BLOCK / per, blocks = d / CF_KV_BLOCK;
    for (uint32_t b = 0; b < blocks; b++) {
        int8_t q[CF_KV_BLOCK];
        scales[keys ? b * PAGE + at : at * blocks + b] = round_block(kernels, type, x + (size_t)b * CF_KV_BLOCK, q);
        for (uint32_t i = 0; i < n; i++) {
            size_t place = keys ? (size_t)(b * n + i) * PAGE + at : (size_t)at * (d / per) + b * n + i;
            side[place] = type == CF_KV_Q8_0 ? (char)q[i] : (char)pair(q + i * (size_t)2);
        }
    }
}

void cf_kv_put(const struct cf_kernels *kernels, void *slot, const struct cf_kv_row *r) {
    char *values = (char *)slot + cf_kv_side_bytes(r->type, r->d_k);
    if (r->type != CF_KV_F16) {
        put_side(kernels, r->type, slot, r->d_k, r->at, r->k, true);
        put_side(kernels, r->type, values, r->d_v, r->at, r->v, false);
        return;
    }
    uint16_t half[MOST], *keys = slot;
    kernels->to_f16(half, r->k, r->d_k);
    for (uint32_t d = 0; d < r->d_k; d++)
        keys[d * PAGE + r->at] = half[d];
    kernels->to_f16((uint16_t *)(void *)values + (size_t)r->at * r->d_v, r->v, r->d_v);
}

/* Number i of a run of bytes or pairs. */
static inline int number(enum cf_kv_type type, const char *run, uint32_t i, uint32_t odd) {
    if (type == CF_KV_Q8_0) return (int8_t)run[i];
    return ((uint8_t)run[i] >> 4 * odd & 15) - 8;
}

static void get_keys(
    const struct cf_kernels *kernels, enum cf_kv_type type, const char *side, uint32_t d_k, uint16_t *k) {
    uint32_t per = type == CF_KV_Q8_0 ? 1 : 2;
    const uint16_t *scales = (const uint16_t *)(const void *)(side + (size_t)PAGE * (d_k / per));
    float row[PAGE], scale[PAGE];
    for (uint32_t d = 0; d < d_k; d++) {
        for (uint32_t i = 0; i < PAGE && d % CF_KV_BLOCK == 0; i++)
            scale[i] = cf_f16_to_f32(scales[d / CF_KV_BLOCK * PAGE + i]);
        const char *run = side + (size_t)(d / per) * PAGE;
        for (uint32_t i = 0; i < PAGE; i++)
            row[i] = (float)number(type, run, i, d % 2) * scale[i];
        kernels->to_f16(k + (size_t)d * PAGE, row, PAGE);
    }
}

static void get_values(
    const struct cf_kernels *kernels, enum cf_kv_type type, const char *side, uint32_t d_v, uint16_t *v) {
    uint32_t per = type == CF_KV_Q8_0 ? 1 : 2, blocks = d_v / CF_KV_BLOCK;
    const uint16_t *scales = (const uint16_t *)(const void *)(side + (size_t)PAGE * (d_v / per));
    float row[MOST];
    for (uint32_t at = 0; at < PAGE; at++) {
        const char *run = side + (size_t)at * (d_v / per);
        for (uint32_t b = 0; b < blocks; b++) {
            float scale = cf_f16_to_f32(scales[at * blocks + b]);
            for (uint32_t i = b * CF_KV_BLOCK; i < (b + 1) * CF_KV_BLOCK; i++)
                row[i] = (float)number(type, run, i / per, i % 2) * scale;
        }
        kernels->to_f16(v + (size_t)at * d_v, row, d_v);
    }
}

void cf_kv_get(const struct cf_kernels *kernels, enum cf_kv_type type, const void *slot, uint32_t d_k, uint32_t d_v,
    uint16_t *k, uint16_t *v) {
    get_keys(kernels, type, slot, d_k, k);
    get_values(kernels, type, (const char *)slot + cf_kv_side_bytes(type, d_k), d_v, v);
}

enum { SIDE = 8 }; /* of a square that is turned at once */
typedef uint16_t halves __attribute__((vector_size(SIDE * sizeof(uint16_t))));

/* Rows i and i + 4, element by element in turn, become rows 2i and 2i + 1: three times, and the square is turned. */
static inline void shuffle(halves to[SIDE], const halves from[SIDE]) {
    for (int i = 0; i < SIDE / 2; i++) {
        to[2 * i] = __builtin_shufflevector(from[i], from[i + SIDE / 2], 0, 8, 1, 9, 2, 10, 3, 11);
        to[2 * i + 1] = __builtin_shufflevector(from[i], from[i + SIDE / 2], 4, 12, 5, 13, 6, 14, 7, 15);
    }
}

static void turn_square(const uint16_t *from, uint16_t *to, size_t stride) {
    halves x[SIDE], y[SIDE];
    for (size_t i = 0; i < SIDE; i++)
        memcpy(&x[i], from + i * PAGE, sizeof x[i]);
    shuffle(y, x);
    shuffle(x, y);
    shuffle(y, x);
    for (size_t i = 0; i < SIDE; i++)
        memcpy(to + i * stride, &y[i], sizeof y[i]);
}

void cf_kv_turn(const uint16_t *k, uint32_t d_v, uint16_t *v) {
    uint32_t even = d_v / SIDE * SIDE;
    for (uint32_t at = 0; at < PAGE; at += SIDE)
        for (uint32_t d = 0; d < even; d += SIDE)
            turn_square(k + (size_t)d * PAGE + at, v + (size_t)at * d_v + d, d_v);
    for (uint32_t d = even; d < d_v; d++)
        for (uint32_t at = 0; at < PAGE; at++)
            v[(size_t)at * d_v + d] = k[(size_t)d * PAGE + at];
}

/* Columns [from, 64) of [rows][64] words. */
static void blank_columns(char *at, size_t rows, size_t word, uint32_t from) {
    for (size_t r = 0; r < rows; r++)
        memset(at + (r * PAGE + from) * word, 0, (PAGE - from) * word);
}

void cf_kv_blank(enum cf_kv_type type, void *slot, uint32_t d_k, uint32_t d_v, uint32_t from) {
    size_t scales = type == CF_KV_F16 ? 0 : 2, word = type == CF_KV_F16 ? 2 : 1;
    char *keys = slot, *values = keys + cf_kv_side_bytes(type, d_k);
    size_t body_k = cf_kv_side_bytes(type, d_k) - PAGE * scales * (d_k / CF_KV_BLOCK), row_k = body_k / PAGE / word;
    size_t body_v = cf_kv_side_bytes(type, d_v) - PAGE * scales * (d_v / CF_KV_BLOCK), row_v = body_v / PAGE;
    blank_columns(keys, row_k, word, from);
    if (scales) blank_columns(keys + body_k, d_k / CF_KV_BLOCK, scales, from);
    memset(values + from * row_v, 0, (PAGE - from) * row_v);
    if (scales)
        memset(values + body_v + from * scales * (d_v / CF_KV_BLOCK), 0, (PAGE - from) * scales * (d_v / CF_KV_BLOCK));
}
