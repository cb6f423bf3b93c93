/* The products and the rounding of activations over four lanes: the 16 rows of a tile are four vectors.
 *
 * One source for all instruction sets of 128 bits; product_sse41.c, product_neon.c and the like include the lanes of
 * theirs (lanes.h) and then this file, once. Four rows of a block are unpacked once for up to 4 activation rows.
 */
#ifndef COFFER_NODE_KERNELS_PRODUCT_128_H
#define COFFER_NODE_KERNELS_PRODUCT_128_H

#include "node/kernels/vectors/lanes.h"
#include "node/kernels/products/product.h"

enum { ROWS = 4, VECTORS = CF_TILE / 4, AHEAD = 2048 /* bytes from a load to its prefetch */ };

/* Rows 4v .. 4v + 3 of vector g. */
INLINE u8x16 load_vector(const void *vectors, int g, int v) {
    return load_u8((const uint8_t *)vectors + 64 * g + 16 * v);
}

/* Bits of v moved left, or right for a negative number: within 16 bits, what crosses into the other byte is masked. */
INLINE u8x16 moved(u8x16 v, int left, uint8_t mask) {
    u16x8 words = left >= 0 ? (u16x8)v << left : (u16x8)v >> -left;
    return (u8x16)words & all_u8(mask);
}

/* The 32 columns of a block as 8 groups of 4 columns of 4 rows. */
INLINE void load_weights(enum kind kind, const uint8_t *block, int v, u8x16 w[8]) {
    const struct cf__layout *l = layout_of(kind);
    for (int g = 0; g < 8; g++) {
        if (l->bits == 8) {
            w[g] = load_vector(block, g, v);
        } else if (l->bits < 4) {
            w[g] = moved(load_vector(block, g / 4, v), -(g % 4 * 2), 3);
            if (l->bits == 3) w[g] |= moved(load_vector(block, 2, v), 2 - g, 4);
        } else {
            w[g] = moved(load_vector(block, g % 4, v), g < 4 ? 0 : -4, 15);
            if (l->bits == 5) w[g] |= moved(load_vector(block, 4, v), 4 - g, 0x10);
            if (l->bits == 6) w[g] |= moved(load_vector(block, 4 + g / 4, v), 4 - g % 4 * 2, 0x30);
        }
        if (l->table) w[g] = look_up(load_u8(l->table), w[g]);
        if (signed_weights(kind) && l->offset) w[g] -= all_u8(l->offset);
    }
}

/* d and dmin of a super-block, and the scales of the block at hand, by vector; [1] of columns 16 .. 31 where these have
 * their own. */
struct scales {
    f32x4 d[VECTORS], dmin[VECTORS];
    f32x4 scale[2][VECTORS], min[2][VECTORS];
};

INLINE void tile_from_f16(const uint16_t h[CF_TILE], f32x4 out[VECTORS]) {
    from_f16(h, out);
    from_f16(h + 8, out + 2);
}

INLINE void scales_of_super(enum kind kind, const uint8_t *head, struct scales *s) {
    const enum cf__head form = layout_of(kind)->head;
    if (form == CF__K || form == CF__K16) { /* both begin with d and dmin */
        tile_from_f16(((const struct cf__head_k *)(const void *)head)->d, s->d);
        tile_from_f16(((const struct cf__head_k *)(const void *)head)->dmin, s->dmin);
    }
    if (form == CF__BY_32 || form == CF__BY_16) /* both begin with d */
        for (int v = 0; v < VECTORS; v++)
            s->d[v] = load_f32(((const struct cf__head_by_32 *)(const void *)head)->d + 4 * v);
}

/* scale = d * bytes, these with or without a sign */
INLINE void times_bytes(const f32x4 d[VECTORS], const void *bytes, bool has_sign, f32x4 scale[VECTORS]) {
    i32x4 whole[VECTORS];
    widen_u8(bytes, whole);
    for (int v = 0; v < VECTORS; v++)
        scale[v] = d[v] * to_f32(has_sign ? (whole[v] ^ 128) - 128 : whole[v]);
}

INLINE void scales_of_block(enum kind kind, const uint8_t *head, uint32_t column, struct scales *s) {
    const struct cf__head_pair *pair = (const void *)head;
    const struct cf__head_pair_min *pair_min = (const void *)head;
    const struct cf__head_k *k = (const void *)head;
    const struct cf__head_k16 *k16 = (const void *)head;
    const struct cf__head_by_32 *by_32 = (const void *)head;
    const struct cf__head_by_16 *by_16 = (const void *)head;
    const uint32_t b = column / 32, in = b % 8;
    i32x4 whole[VECTORS];
    switch (layout_of(kind)->head) {
    case CF__PAIR: tile_from_f16(pair->d[b % 2], s->scale[0]); break;
    case CF__PAIR_MIN:
        tile_from_f16(pair_min->d[b % 2], s->scale[0]);
        tile_from_f16(pair_min->min[b % 2], s->min[0]);
        break;
    case CF__E8M0:
        widen_u8(((const struct cf__head_e8m0 *)(const void *)head)->e[b % 4], whole);
        for (int v = 0; v < VECTORS; v++) { /* 2^(e - 128): e = 0 and 1 are denormal */
            i32x4 tiny = whole[v] < 2;
            s->scale[0][v] = (f32x4)((tiny & (whole[v] + 1) << 21) | (~tiny & (whole[v] - 1) << 23));
        }
        break;
    case CF__K:
        times_bytes(s->d, k->scale[in], false, s->scale[0]);
        times_bytes(s->dmin, k->min[in], false, s->min[0]);
        break;
    case CF__K16:
        for (int i = 0; i < 2; i++) {
            widen_u8(k16->both[2 * in + (uint32_t)i], whole);
            for (int v = 0; v < VECTORS; v++) {
                s->scale[i][v] = s->d[v] * to_f32(whole[v] & 15);
                s->min[i][v] = s->dmin[v] * to_f32(whole[v] >> 4);
            }
        }
        break;
    case CF__BY_32: times_bytes(s->d, by_32->scale[in], true, s->scale[0]); break;
    case CF__BY_16:
        for (int i = 0; i < 2; i++)
            times_bytes(s->d, by_16->scale[2 * in + (uint32_t)i], true, s->scale[i]);
        break;
    }
}

/* One block of one activation row and vector v of the tile, scaled into acc. */
INLINE f32x4 add_block(enum kind kind, const u8x16 w[8], const struct scales *s, int v, const int8_t *q, float d,
    const int16_t *sum, f32x4 acc) {
    const int32_t offset = signed_weights(kind) ? 0 : layout_of(kind)->offset;
    const i32x4 dot[2] = {dot16(kind, w, q), dot16(kind, w + 4, q + 16)};
    const f32x4 scale_x = all_f32(d);
    for (int i = 0; i < 1 + has_halves(kind); i++) {
        const int32_t sum_q = has_halves(kind) ? sum[i] : sum[0] + sum[1];
        const i32x4 whole = has_halves(kind) ? dot[i] : dot[0] + dot[1];
        acc = fma_dot(s->scale[i][v] * scale_x, whole - all_i32(offset * sum_q), acc);
        if (has_min(kind)) acc = fma_f32(-s->min[i][v], all_f32(d * (float)sum_q), acc);
    }
    return acc;
}

INLINE void quantised_rows(const struct cf_product *p, uint32_t i0, const uint32_t n, const enum kind kind) {
    struct cf__cursor k = first_block(kind, p);
    const int8_t *q = cf__row_q(p, i0);
    const float *d = cf__row_d(p, i0);
    const int16_t *sum = cf__row_sum(p, i0);
    const size_t stride = p->x->q_stride;
    struct scales s = {.min = {{all_f32(0)}}};
    const uint8_t *head = NULL;
    f32x4 acc[VECTORS][ROWS];
    for (uint32_t i = 0; i < n; i++)
        acc[0][i] = acc[1][i] = acc[2][i] = acc[3][i] = all_f32(0);
    while (k.column < p->c1) {
        for (uint32_t b = 0; i0 == 0 && b < cf__block_bytes(layout_of(kind)); b += 64)
            __builtin_prefetch(k.block + AHEAD + b);
        if (k.head != head) scales_of_super(kind, head = k.head, &s);
        scales_of_block(kind, head, k.column, &s);
        for (int v = 0; v < VECTORS; v++) {
            u8x16 w[8];
            load_weights(kind, k.block, v, w);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < n; i++)
                acc[v][i] =
                    add_block(kind, w, &s, v, q + i * stride, d[i * (stride / 32)], sum + i * (stride / 16), acc[v][i]);
        }
        q += 32;
        d += 1;
        sum += 2;
        next_block(kind, &k);
    }
    for (uint32_t i = 0; i < n; i++)
        for (int v = 0; v < VECTORS; v++)
            store_f32(p->y + (size_t)(i0 + i) * CF_TILE + 4 * v, acc[v][i]);
}

/* Calls `rows(p, i0, count, kind)` with a constant count for up to 4 rows at a time. */
#define BY_ROWS(rows, p, kind)                                                                                         \
    for (uint32_t i0 = 0; i0 < (p)->n; i0 += ROWS)                                                                     \
        switch ((p)->n - i0) {                                                                                         \
        case 1: rows(p, i0, 1, kind); break;                                                                           \
        case 2: rows(p, i0, 2, kind); break;                                                                           \
        case 3: rows(p, i0, 3, kind); break;                                                                           \
        default: rows(p, i0, 4, kind); break;                                                                          \
        }

#define PRODUCT(none, lower, upper)                                                                                    \
    void NAME(product_##lower)(const struct cf_product *p) {                                                           \
        BY_ROWS(quantised_rows, p, upper)                                                                              \
    }
CF__QUANTISED(PRODUCT, )

#ifndef QUANTISED_ONLY
/* A column of 16 weights. */
INLINE void load_floats(enum float_kind kind, const char *column, f32x4 w[VECTORS]) {
    if (kind == F16) {
        tile_from_f16((const uint16_t *)(const void *)column, w);
        return;
    }
    if (kind == BF16) {
        i32x4 h[VECTORS];
        widen_u16((const uint16_t *)(const void *)column, h);
        widen_u16((const uint16_t *)(const void *)column + 8, h + 2);
        for (int v = 0; v < VECTORS; v++)
            w[v] = (f32x4)(h[v] << 16);
        return;
    }
    for (int v = 0; v < VECTORS; v++)
        w[v] = load_f32(column + 16 * v);
}

INLINE void float_rows(const struct cf_product *p, uint32_t i0, const uint32_t n, const enum float_kind kind) {
    const uint32_t bytes = kind == F32 ? 64 : 32, columns = p->c1 - p->c0;
    const char *tile = cf__float_column(p, bytes / CF_TILE);
    const float *x = cf__row_f(p, i0);
    const size_t stride = p->x->f_stride;
    f32x4 acc[ROWS][VECTORS];
    for (uint32_t i = 0; i < n; i++)
        acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = all_f32(0);
    for (uint32_t c = 0; c < columns; c++, tile += bytes, x++) {
        f32x4 w[VECTORS];
        if (i0 == 0) __builtin_prefetch(tile + AHEAD);
        load_floats(kind, tile, w);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
            for (int v = 0; v < VECTORS; v++)
                acc[i][v] = fma_f32(w[v], all_f32(x[i * stride]), acc[i][v]);
    }
    for (uint32_t i = 0; i < n; i++)
        for (int v = 0; v < VECTORS; v++)
            store_f32(p->y + (size_t)(i0 + i) * CF_TILE + 4 * v, acc[i][v]);
}

void NAME(product_f32)(const struct cf_product *p) {
    BY_ROWS(float_rows, p, F32)
}
void NAME(product_f16)(const struct cf_product *p) {
    BY_ROWS(float_rows, p, F16)
}
void NAME(product_bf16)(const struct cf_product *p) {
    BY_ROWS(float_rows, p, BF16)
}

int NAME(quantise)(const float *x, size_t n, int8_t *q, float *d, int16_t *sum) {
    const f32x4 rounder = all_f32(0x1.8p23f); /* adding it rounds to an integer, to even, which lies in the low bits */
    for (; n; n -= 32, x += 32, q += 32, d += 1, sum += 2) {
        i32x4 most = all_i32(0); /* magnitudes order as their bits do, infinity and NaN above all */
        for (int i = 0; i < 8; i++) {
            i32x4 a = (i32x4)load_f32(x + 4 * i) & INT32_MAX;
            i32x4 above = a > most;
            most = (above & a) | (~above & most);
        }
        int32_t top = most[0];
        for (int l = 1; l < 4; l++)
            top = most[l] > top ? most[l] : top;
        if (top >= 0x7f800000) return -1;
        float absmax;
        memcpy(&absmax, &top, sizeof absmax);
        float inverse = absmax < CF__TINY ? 0 : 127.0f / absmax;
        *d = absmax < CF__TINY ? 0 : absmax / 127.0f;
        sum[0] = sum[1] = 0;
        int32_t r[32];
        for (int i = 0; i < 8; i++) {
            i32x4 v = (i32x4)(load_f32(x + 4 * i) * all_f32(inverse) + rounder) - (i32x4)rounder;
            memcpy(r + 4 * i, &v, sizeof v);
        }
        for (int j = 0; j < 32; j++) {
            q[j] = (int8_t)r[j];
            sum[j / 16] = (int16_t)(sum[j / 16] + r[j]);
        }
    }
    return 0;
}
#endif

#endif
