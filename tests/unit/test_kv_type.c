/* Numbers of the KV cache in fewer bits: a row comes back within half a step of its scale, wherever it lies, whatever
 * its neighbours are; zeros, extremes and what is not finite; and what is blanked. */
#include "node/engine/memory/kv_type.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/kernels/type.h"
#include "tests/random.h"

enum { D_K = 96, D_V = 64, PAGE = 64 };

struct page {
    enum cf_kv_type type;
    const struct cf_kernels *kernels;
    char *slot;
    float k[PAGE][D_K], v[PAGE][D_V];
    uint16_t out_k[D_K * PAGE], out_v[PAGE * D_V];
};

static void fill(struct page *p, enum cf_kv_type type) {
    uint64_t random = 7;
    memset(p, 0, sizeof *p);
    p->type = type, p->kernels = cf_kernels_choose("scalar");
    p->slot = calloc(1, cf_kv_side_bytes(type, D_K) + cf_kv_side_bytes(type, D_V));
    assert_non_null(p->slot);
    for (uint32_t at = 0; at < PAGE; at++) {
        float size = (float)(at + 1);
        for (uint32_t d = 0; d < D_K; d++)
            p->k[at][d] = size * ((float)cf_random_below(&random, 2001) / 1000.0f - 1.0f);
        for (uint32_t d = 0; d < D_V; d++)
            p->v[at][d] = at % 7 ? size * ((float)cf_random_below(&random, 2001) / 1000.0f - 1.0f) : 0.0f;
    }
}

static void put(struct page *p, uint32_t at) {
    struct cf_kv_row r = {p->type, D_K, D_V, at, p->k[at], p->v[at]};
    cf_kv_put(p->kernels, p->slot, &r);
}

static void get(struct page *p) {
    cf_kv_get(p->kernels, p->type, p->slot, D_K, D_V, p->out_k, p->out_v);
}

/* The largest magnitude of the block of 32 that x[d] is in. */
static float top_of(const float *x, uint32_t d) {
    float top = 0;
    for (uint32_t i = d / 32 * 32; i < d / 32 * 32 + 32; i++)
        if (fabsf(x[i]) > top) top = fabsf(x[i]);
    return top;
}

static void near(const struct page *p, const float *x, uint32_t d, uint16_t got) {
    float step = top_of(x, d) / (p->type == CF_KV_Q8_0 ? 127.0f : 8.0f);
    /* Half a step; of 4 bits a whole one at the end that has no number of its own; and the scale is an f16. */
    float bound = (p->type == CF_KV_Q8_0 ? 0.5f : 1.01f) * step + top_of(x, d) / 1000.0f;
    assert_true(fabsf(cf_f16_to_f32(got) - x[d]) <= bound);
}

static void rows_come_back(void **state) {
    (void)state;
    static struct page p;
    for (int type = CF_KV_Q8_0; type < CF_KV_TYPES; type++) {
        fill(&p, (enum cf_kv_type)type);
        for (uint32_t i = 0; i < PAGE; i++)
            put(&p, i * 37 % PAGE); /* in any order */
        get(&p);
        for (uint32_t at = 0; at < PAGE; at++) {
            for (uint32_t d = 0; d < D_K; d++)
                near(&p, p.k[at], d, p.out_k[d * PAGE + at]);
            for (uint32_t d = 0; d < D_V; d++)
                near(&p, p.v[at], d, p.out_v[at * D_V + d]);
        }
        free(p.slot);
    }
}

static bool is_nan(uint16_t half) {
    float x = cf_f16_to_f32(half);
    return x != x;
}

static void what_is_not_finite_shows(void **state) {
    (void)state;
    static struct page p;
    for (int type = CF_KV_Q8_0; type < CF_KV_TYPES; type++) {
        fill(&p, (enum cf_kv_type)type);
        p.k[3][40] = INFINITY, p.v[3][5] = NAN;
        put(&p, 3);
        get(&p);
        assert_true(is_nan(p.out_k[40 * PAGE + 3]) && is_nan(p.out_v[3 * D_V + 5]));
        assert_true(!is_nan(p.out_k[3])); /* another block */
        free(p.slot);
    }
}

/* Blanked positions leave no trace: as if they had never been put. */
static void tails_are_blank(void **state) {
    (void)state;
    static struct page p, q;
    for (int type = CF_KV_F16; type < CF_KV_TYPES; type++) {
        fill(&p, (enum cf_kv_type)type), fill(&q, (enum cf_kv_type)type);
        for (uint32_t at = 0; at < PAGE; at++)
            put(&p, at);
        for (uint32_t at = 0; at < 23; at++)
            put(&q, at);
        cf_kv_blank(p.type, p.slot, D_K, D_V, 23);
        assert_memory_equal(p.slot, q.slot, cf_kv_side_bytes(p.type, D_K) + cf_kv_side_bytes(p.type, D_V));
        free(p.slot), free(q.slot);
    }
}

/* Values that are the first columns of keys: the same halves, whatever the width; and a slot of keys alone, which ends
 * with them. */
static void keys_turn_into_values(void **state) {
    (void)state;
    static uint16_t k[D_K * PAGE], v[PAGE * D_K + 1];
    static struct page p;
    for (uint32_t i = 0; i < D_K * PAGE; i++)
        k[i] = (uint16_t)(i * 7919);
    for (uint32_t d_v = 1; d_v <= D_K; d_v++) {
        v[PAGE * d_v] = 12345;
        cf_kv_turn(k, d_v, v);
        for (uint32_t i = 0; i < PAGE * d_v; i++)
            assert_int_equal(v[i], k[i % d_v * PAGE + i / d_v]);
        assert_int_equal(v[PAGE * d_v], 12345);
    }
    for (int type = CF_KV_F16; type < CF_KV_TYPES; type++) {
        fill(&p, (enum cf_kv_type)type);
        size_t bytes = cf_kv_side_bytes(p.type, D_K);
        assert_int_equal(cf_kv_side_bytes(p.type, 0), 0);
        p.slot[bytes] = 99;
        struct cf_kv_row r = {p.type, D_K, 0, 5, p.k[5], NULL};
        cf_kv_put(p.kernels, p.slot, &r);
        if (p.type != CF_KV_F16) cf_kv_get(p.kernels, p.type, p.slot, D_K, 0, p.out_k, NULL);
        for (uint32_t d = 0; d < D_K && p.type != CF_KV_F16; d++)
            near(&p, p.k[5], d, p.out_k[d * PAGE + 5]);
        cf_kv_blank(p.type, p.slot, D_K, 0, 5);
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(p.slot[i], 0);
        assert_int_equal(p.slot[bytes], 99);
        free(p.slot);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_come_back), cmocka_unit_test(what_is_not_finite_shows),
        cmocka_unit_test(tails_are_blank), cmocka_unit_test(keys_turn_into_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
