/* Micro-batches: nothing is lost, and the sizes follow from how many may be in flight. */
#include "coordinator/plan/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void one_batch_takes_whole_chunks(void **state) {
    (void)state;
    struct cf_plan p = {.n_flight = 1, .n_rows = 512};
    assert_int_equal(cf_split_prompt(&p, 1), 512);
    assert_int_equal(cf_split_prompt(&p, 5000), 512);
    assert_int_equal(cf_split_sequences(&p, 9), 1);
}

static void several_share_a_prompt(void **state) {
    (void)state;
    struct cf_plan p = {.n_flight = 2, .n_rows = 512};
    assert_int_equal(cf_split_prompt(&p, 1), 64);
    assert_int_equal(cf_split_prompt(&p, 512), 64);
    assert_int_equal(cf_split_prompt(&p, 513), 96);
    assert_int_equal(cf_split_prompt(&p, 2048), 256);
    assert_int_equal(cf_split_prompt(&p, 1 << 24), 512);
    assert_int_equal(cf_split_prompt(&p, UINT32_MAX), 512);
    p.n_rows = 7;
    assert_int_equal(cf_split_prompt(&p, 100), 7);
}

static void shares_cover_the_sequences(void **state) {
    (void)state;
    for (uint32_t flight = 1; flight <= 9; flight++)
        for (uint32_t n = 1; n <= 40; n++) {
            struct cf_plan p = {.n_flight = flight, .n_rows = 512};
            uint32_t batches = cf_split_sequences(&p, n), at = 0;
            assert_int_equal(batches, n < flight ? n : flight);
            for (uint32_t b = 0; b < batches; b++) {
                uint32_t first, last;
                cf_split_share(n, batches, b, &first, &last);
                assert_int_equal(first, at);
                assert_true(last - first == n / batches || last - first == n / batches + 1);
                at = last;
            }
            assert_int_equal(at, n);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_batch_takes_whole_chunks),
        cmocka_unit_test(several_share_a_prompt), cmocka_unit_test(shares_cover_the_sequences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
