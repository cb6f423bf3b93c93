/* However the chunks are dealt to members, the sum has the bits of the one tree over all chunks. */
#include "transport/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/kernels/kernels.h"
#include "tests/random.h"

enum { WIDTH = 5 };

static uint64_t random_state = 1;
static uint32_t draw(uint32_t below) {
    return cf_random_below(&random_state, below);
}

/* Wild magnitudes: 2^-40 .. 2^40, so that any other order of addition shows. */
static void fill(float *v, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        v[i] = ((float)draw(1u << 24) - (float)(1u << 23)) / (float)(1u << 23);
        for (int32_t k = (int32_t)draw(81) - 40; k; k += k > 0 ? -1 : 1)
            v[i] *= k > 0 ? 2.0f : 0.5f;
    }
}

static const struct cf_kernels *scalar(void) {
    static const struct cf_kernels *all[8];
    if (!all[0]) cf_kernels_all(all);
    return all[0];
}

/* What the law says, written down a second time. */
static void tree(const float (*v)[WIDTH], uint32_t lo, uint32_t hi, float *out) {
    if (hi - lo == 1) {
        memcpy(out, v[lo], WIDTH * sizeof(float));
        return;
    }
    float right[WIDTH];
    tree(v, lo, lo + (hi - lo) / 2, out);
    tree(v, lo + (hi - lo) / 2, hi, right);
    for (int c = 0; c < WIDTH; c++)
        out[c] += right[c];
}

/* Members' vectors, then the program: out[WIDTH]. */
static void run(const float (*chunks)[WIDTH], uint32_t n, const uint32_t *cuts, uint32_t members, float *out) {
    static float sums[CF_MAX_VECTORS][WIDTH];
    const float *v[CF_MAX_VECTORS];
    struct cf_subtree cover[16];
    uint32_t vectors = 0;
    for (uint32_t m = 0; m < members; m++) {
        uint32_t k = cf_tree_cover(n, cuts[m], cuts[m + 1], cover), at = cuts[m];
        assert_true(k <= 9);
        for (uint32_t i = 0; i < k; i++) {
            float part[CF_MAX_CHUNKS][WIDTH];
            assert_int_equal(cover[i].first, at);
            at = cover[i].last;
            memcpy(part, chunks + cover[i].first, (cover[i].last - cover[i].first) * sizeof *part);
            scalar()->tree_sum(part[0], cover[i].last - cover[i].first, WIDTH, WIDTH);
            memcpy(sums[vectors], part[0], sizeof part[0]);
            v[vectors] = sums[vectors];
            vectors++;
        }
        assert_int_equal(at, cuts[m + 1]);
    }
    struct cf_tree_program p;
    struct cf_error e = {0};
    assert_int_equal(cf_tree_compile(&p, n, cuts, members, &e), 0);
    assert_int_equal(p.n_vectors, vectors);
    cf_tree_run(&p, v, out, WIDTH);
}

static void check(const float (*chunks)[WIDTH], uint32_t n, const uint32_t *cuts, uint32_t members) {
    float want[WIDTH], got[WIDTH], direct[CF_MAX_CHUNKS][WIDTH];
    tree(chunks, 0, n, want);
    memcpy(direct, chunks, n * sizeof *direct);
    scalar()->tree_sum(direct[0], n, WIDTH, WIDTH);
    assert_memory_equal(direct[0], want, sizeof want);
    run(chunks, n, cuts, members, got);
    assert_memory_equal(got, want, sizeof want);
}

/* All splits into two and three members; many random ones into up to sixteen, empty members included. */
static void every_split_gives_the_same_bits(void **state) {
    (void)state;
    static float chunks[CF_MAX_CHUNKS][WIDTH];
    for (uint32_t n = 1; n <= CF_MAX_CHUNKS; n++) {
        fill(chunks[0], CF_MAX_CHUNKS * WIDTH);
        for (uint32_t a = 0; a <= n; a++)
            for (uint32_t b = a; b <= n; b++)
                check((const float(*)[WIDTH])chunks, n, (uint32_t[]){0, a, b, n}, 3);
        for (uint32_t members = 1; members <= CF_MAX_MEMBERS; members++) {
            for (int round = 0; round < 200; round++) {
                uint32_t cuts[CF_MAX_MEMBERS + 1] = {0};
                for (uint32_t i = 1; i < members; i++) {
                    uint32_t cut = draw(n + 1), at = i;
                    for (; at > 1 && cuts[at - 1] > cut; at--)
                        cuts[at] = cuts[at - 1];
                    cuts[at] = cut;
                }
                cuts[members] = n;
                if (round == 0)
                    for (uint32_t i = 0; i <= members; i++)
                        cuts[i] = i * n / members;
                fill(chunks[0], n * WIDTH);
                check((const float(*)[WIDTH])chunks, n, cuts, members);
            }
        }
    }
}

/* Small n: really all splits into up to n members. */
static void all_splits(const float (*chunks)[WIDTH], uint32_t n, uint32_t *cuts, uint32_t members) {
    if (cuts[members] == n) check(chunks, n, cuts, members);
    for (uint32_t next = cuts[members] + 1; next <= n && members < CF_MAX_MEMBERS; next++) {
        cuts[members + 1] = next;
        all_splits(chunks, n, cuts, members + 1);
    }
}

static void all_compositions_of_small_trees(void **state) {
    (void)state;
    static float chunks[CF_MAX_CHUNKS][WIDTH];
    fill(chunks[0], CF_MAX_CHUNKS * WIDTH);
    for (uint32_t n = 1; n <= 13; n++) {
        uint32_t cuts[CF_MAX_MEMBERS + 1] = {0};
        all_splits((const float(*)[WIDTH])chunks, n, cuts, 0);
    }
}

static void the_order_matters_at_all(void **state) {
    (void)state;
    static float chunks[CF_MAX_CHUNKS][WIDTH];
    uint32_t differ = 0;
    for (int round = 0; round < 100; round++) {
        float want[WIDTH], plain[WIDTH] = {0};
        fill(chunks[0], CF_MAX_CHUNKS * WIDTH);
        tree((const float(*)[WIDTH])chunks, 0, 24, want);
        for (int i = 0; i < 24; i++)
            for (int c = 0; c < WIDTH; c++)
                plain[c] += chunks[i][c];
        differ += memcmp(want, plain, sizeof want) != 0;
    }
    assert_true(differ > 50);
}

static void three_members_of_24_send_3_4_and_2(void **state) {
    (void)state;
    struct cf_subtree cover[16];
    assert_int_equal(cf_tree_cover(24, 0, 8, cover), 3);
    assert_int_equal(cf_tree_cover(24, 8, 16, cover), 4);
    assert_int_equal(cf_tree_cover(24, 16, 24, cover), 2);
    assert_int_equal(cf_tree_cover(24, 5, 5, cover), 0);
}

static void bad_cuts_are_refused(void **state) {
    (void)state;
    struct cf_tree_program p;
    struct cf_error e;
    uint32_t many[20] = {0};
    for (uint32_t i = 1; i < 20; i++)
        many[i] = 24;
    assert_int_equal(cf_tree_compile(&p, 0, (uint32_t[]){0, 0}, 1, &e), -1);
    assert_int_equal(cf_tree_compile(&p, 25, (uint32_t[]){0, 25}, 1, &e), -1);
    assert_int_equal(cf_tree_compile(&p, 24, (uint32_t[]){1, 24}, 1, &e), -1);
    assert_int_equal(cf_tree_compile(&p, 24, (uint32_t[]){0, 23}, 1, &e), -1);
    assert_int_equal(cf_tree_compile(&p, 24, (uint32_t[]){0, 13, 12, 24}, 3, &e), -1);
    assert_int_equal(cf_tree_compile(&p, 24, (uint32_t[]){0, 30, 24}, 2, &e), -1);
    assert_int_equal(cf_tree_compile(&p, 24, many, 17, &e), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_split_gives_the_same_bits),
        cmocka_unit_test(all_compositions_of_small_trees), cmocka_unit_test(the_order_matters_at_all),
        cmocka_unit_test(three_members_of_24_send_3_4_and_2), cmocka_unit_test(bad_cuts_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
