/* The products and the rounding of activations, as DESIGN.md section 6 defines them, in plain C.
 *
 * This is the reference that the other instruction sets must equal bit by bit, and what machines without them run. It
 * favours reading: one row of one block at a time is opened into numbers (tile.h) and multiplied.
 */
#include <math.h>

#include "node/kernels/products/product.h"
#include "node/kernels/tile.h"

static int32_t dot(const int8_t *w, const int8_t *q, uint32_t n) {
    int32_t sum = 0;
    for (uint32_t j = 0; j < n; j++)
        sum += w[j] * q[j];
    return sum;
}

/* acc plus one block of 32 columns, 16 at a time where the type has scales of 16; q, d and sum are the activation's, at
 * the block. */
static float add_block(
    const struct cf__layout *l, const struct cf__run *run, const int8_t *q, float d, const int16_t *sum, float acc) {
    const uint32_t parts = l->halves ? 2 : 1, columns = CF_BLOCK / parts;
    for (uint32_t i = 0; i < parts; i++) {
        int sum_q = l->halves ? sum[i] : sum[0] + sum[1];
        acc = fmaf(run->scale[i] * d, (float)dot(run->w + i * columns, q + i * columns, columns), acc);
        if (l->mins) acc = fmaf(-run->min[i], d * (float)sum_q, acc);
    }
    return acc;
}

static void quantised(const struct cf_product *p, const struct cf__layout *l) {
    const uint32_t block_bytes = cf__block_bytes(l);
    struct cf__cursor k = cf__cursor_at(p->tile, p->tile_c0, p->c0, l->super, l->head_bytes, block_bytes);
    memset(p->y, 0, sizeof(float) * CF_TILE * p->n);
    for (size_t block = 0; k.column < p->c1; block++) {
        for (uint32_t lane = 0; lane < CF_TILE; lane++) {
            struct cf__run run;
            cf__open(l, k.head, k.block, k.column, lane, &run);
            for (uint32_t i = 0; i < p->n; i++) {
                float *y = &p->y[(size_t)i * CF_TILE + lane];
                *y = add_block(
                    l, &run, cf__row_q(p, i) + block * 32, cf__row_d(p, i)[block], cf__row_sum(p, i) + block * 2, *y);
            }
        }
        cf__cursor_next(&k, l->super, l->head_bytes, block_bytes);
    }
}

#define PRODUCT(none, lower, upper)                                                                                    \
    void cf__product_##lower##_scalar(const struct cf_product *p) {                                                    \
        quantised(p, &cf__layouts[CF__##upper]);                                                                       \
    }
CF__QUANTISED(PRODUCT, )

/* One column of 16 weights into every y: one fma each. */
static void add_column(const struct cf_product *p, uint32_t column, const float w[CF_TILE]) {
    for (uint32_t i = 0; i < p->n; i++) {
        float x = cf__row_f(p, i)[column], *y = p->y + (size_t)i * CF_TILE;
        for (uint32_t lane = 0; lane < CF_TILE; lane++)
            y[lane] = fmaf(w[lane], x, y[lane]);
    }
}

void cf__product_f32_scalar(const struct cf_product *p) {
    const char *tile = cf__float_column(p, 4);
    float w[CF_TILE];
    memset(p->y, 0, sizeof(float) * CF_TILE * p->n);
    for (uint32_t c = 0; c < p->c1 - p->c0; c++) {
        memcpy(w, tile + (size_t)c * sizeof w, sizeof w);
        add_column(p, c, w);
    }
}

static void half(const struct cf_product *p, float (*to_f32)(uint16_t)) {
    const char *tile = cf__float_column(p, 2);
    uint16_t h[CF_TILE];
    float w[CF_TILE];
    memset(p->y, 0, sizeof(float) * CF_TILE * p->n);
    for (uint32_t c = 0; c < p->c1 - p->c0; c++) {
        memcpy(h, tile + (size_t)c * sizeof h, sizeof h);
        for (uint32_t lane = 0; lane < CF_TILE; lane++)
            w[lane] = to_f32(h[lane]);
        add_column(p, c, w);
    }
}

void cf__product_f16_scalar(const struct cf_product *p) {
    half(p, cf_f16_to_f32);
}
void cf__product_bf16_scalar(const struct cf_product *p) {
    half(p, cf_bf16_to_f32);
}

int cf__quantise_scalar(const float *x, size_t n, int8_t *q, float *d, int16_t *sum) {
    for (; n; n -= 32, x += 32, q += 32, d += 1, sum += 2) {
        float absmax = 0;
        for (uint32_t j = 0; j < 32; j++) {
            if (!isfinite(x[j])) return -1;
            if (fabsf(x[j]) > absmax) absmax = fabsf(x[j]);
        }
        bool tiny = absmax < CF__TINY;
        float inverse = tiny ? 0 : 127.0f / absmax;
        *d = tiny ? 0 : absmax / 127.0f;
        sum[0] = sum[1] = 0;
        for (uint32_t j = 0; j < 32; j++) {
            q[j] = (int8_t)rintf(x[j] * inverse);
            sum[j / 16] = (int16_t)(sum[j / 16] + q[j]);
        }
    }
    return 0;
}
