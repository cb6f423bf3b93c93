/* KV pages: taken as sequences grow, given back when they are cut, never shared, and the limits hold. */
#include "node/engine/memory/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "small_model.h"
#include "tests/random.h"

enum { SEQS = 3, CTX = 200 }; /* 4 pages a sequence */

struct fixture {
    struct small_model s;
    struct cf_plan plan;
    struct cf_kv kv;
};

static void set_up(struct fixture *f, int layout, uint32_t ranks, int rank) {
    struct cf_error e = {0};
    struct cf_rank_info info[8];
    struct cf_plan_wish wish = small_wish(layout);
    char note[512];
    wish.n_ctx = CTX, wish.n_seqs = SEQS;
    small_ranks(info, ranks, 1);
    assert_int_equal(small_model_open(&f->s, &small_shapes[0], &e), 0);
    assert_int_equal(cf_planner_make(&f->plan, &wish, &f->s.model, f->s.gguf, info, ranks, note, &e), 0);
    assert_int_equal(cf_kv_measure(&f->kv, &f->plan, &f->s.model, rank, &e), 0);
}

static void tear_down(struct fixture *f) {
    cf_kv_free(&f->kv);
    cf_plan_free(&f->plan);
    small_model_close(&f->s);
}

/* No page belongs to two, and none is lost. */
static void pages_are_sound(const struct cf_kv *kv) {
    bool seen[SEQS * 4] = {false};
    uint32_t n = kv->n_free;
    for (uint32_t i = 0; i < kv->n_free; i++) {
        assert_false(seen[kv->free_list[i]]);
        seen[kv->free_list[i]] = true;
    }
    for (uint32_t s = 0; s < kv->n_seqs; s++)
        for (uint32_t p = 0; p < kv->length[s]; p++, n++) {
            uint32_t page = kv->table[s * kv->pages_per_seq + p];
            assert_false(seen[page]);
            seen[page] = true;
        }
    assert_int_equal(n, kv->n_pages);
}

static void pages_come_and_go(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f, CF_LAYOUT_TENSOR, 1, 0);
    struct cf_kv *kv = &f.kv;
    assert_int_equal(kv->pages_per_seq, 4);
    assert_int_equal(kv->n_pages, 12);
    assert_int_equal(cf_kv_reserve(kv, 0, 0, &e), 0);
    assert_int_equal(kv->length[0], 1);
    assert_int_equal(cf_kv_reserve(kv, 0, 63, &e), 0);
    assert_int_equal(kv->length[0], 1);
    assert_int_equal(cf_kv_reserve(kv, 0, 64, &e), 0);
    assert_int_equal(kv->length[0], 2);
    assert_int_equal(cf_kv_reserve(kv, 1, 199, &e), 0);
    assert_int_equal(kv->length[1], 4);
    pages_are_sound(kv);
    cf_kv_truncate(kv, 1, 128);
    assert_int_equal(kv->length[1], 2);
    cf_kv_truncate(kv, 1, 65);
    assert_int_equal(kv->length[1], 2);
    cf_kv_truncate(kv, 1, 64);
    assert_int_equal(kv->length[1], 1);
    cf_kv_truncate(kv, 1, 1000); /* beyond its end: nothing */
    assert_int_equal(kv->length[1], 1);
    cf_kv_truncate(kv, 99, 0); /* no such sequence: nothing */
    cf_kv_truncate(kv, 0, 0);
    assert_int_equal(kv->length[0], 0);
    pages_are_sound(kv);
    uint64_t random = 3;
    for (int i = 0; i < 5000; i++) {
        cf_random(&random);
        uint32_t s = (uint32_t)(random >> 40) % SEQS, p = (uint32_t)(random >> 50) % CTX;
        if (random >> 63)
            cf_kv_truncate(kv, s, p);
        else
            assert_int_equal(cf_kv_reserve(kv, s, p, &e), 0);
        pages_are_sound(kv);
    }
    for (uint32_t s = 0; s < SEQS; s++) /* all at their limit at once */
        assert_int_equal(cf_kv_reserve(kv, s, CTX - 1, &e), 0);
    assert_int_equal(kv->n_free, 0);
    tear_down(&f);
}

static void limits_hold(void **state) {
    (void)state;
    struct fixture f;
    struct cf_error e = {0};
    set_up(&f, CF_LAYOUT_TENSOR, 1, 0);
    assert_int_equal(cf_kv_reserve(&f.kv, SEQS, 0, &e), -1);
    assert_int_equal(e.code, CF_ERR_LIMIT);
    assert_int_equal(cf_kv_reserve(&f.kv, 0, 256, &e), -1);
    assert_int_equal(cf_kv_reserve(&f.kv, 0, 0xffffffffu, &e), -1);
    assert_int_equal(cf_kv_reserve(&f.kv, 0xffffffffu, 0, &e), -1);
    pages_are_sound(&f.kv);
    tear_down(&f);
}

/* Keys and values of all (sequence, page, layer, head) are distinct and fill the pool. */
static void places_do_not_overlap(void **state) {
    (void)state;
    for (int rank = 0; rank < 3; rank++) {
        struct fixture f;
        struct cf_error e = {0};
        set_up(&f, rank == 2 ? CF_LAYOUT_LAYERS : CF_LAYOUT_TENSOR, 2, rank % 2);
        struct cf_kv *kv = &f.kv;
        size_t halves = cf_kv_bytes(kv) / 2, used = 0;
        assert_true(halves > 0);
        kv->data = calloc(halves, 2);
        for (uint32_t s = 0; s < SEQS; s++)
            assert_int_equal(cf_kv_reserve(kv, s, CTX - 1, &e), 0);
        for (uint32_t s = 0; s < SEQS; s++)
            for (uint32_t p = 0; p < kv->pages_per_seq; p++)
                for (uint32_t l = 0; l < kv->n_layers; l++)
                    for (uint32_t h = 0; h < kv->n_kv[l]; h++) {
                        uint16_t *k = cf_kv_keys(kv, s, p, l, h), *v = cf_kv_values(kv, s, p, l, h);
                        assert_true(v == k + CF_PAGE * kv->d_k);
                        for (uint32_t i = 0; i < CF_PAGE * (kv->d_k + kv->d_v_apart); i++, used++) {
                            assert_true((size_t)(k + i - kv->data) < halves);
                            assert_int_equal(k[i]++, 0);
                        }
                    }
        assert_int_equal(used, halves);
        free(kv->data);
        tear_down(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_come_and_go), cmocka_unit_test(limits_hold), cmocka_unit_test(places_do_not_overlap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
