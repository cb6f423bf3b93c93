/* The sampler against distributions worked out by hand: logits are logarithms of small whole numbers, so that every
 * probability is a fraction one can see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>

#include "coordinator/decode/sampler.h"
#include "coordinator/decode/select.h"
#include "tests/random.h"

enum { DRAWS = 20000 };

/* log of 1, 2, 3, 4, 6, 8 */
static const float L1 = 0.0f, L2 = 0.69314718f, L3 = 1.09861229f, L4 = 1.38629436f, L6 = 1.79175947f, L8 = 2.07944154f;

static struct cf_sampler_params plain(int64_t seed) {
    return (struct cf_sampler_params){.temp = 1, .top_k = 0, .top_p = 1, .min_p = 0, .repeat_penalty = 1, .seed = seed};
}

static struct cf_sampler *make(struct cf_sampler_params p, uint32_t n) {
    struct cf_sampler *s;
    struct cf_error e;
    if (cf_sampler_new(&s, &p, n, &e)) fail_msg("%s", e.text);
    return s;
}

/* Draws many and compares with weights[n] (any scale; 0: must never come): chi-square below the 99.9 % bound of 10
 * degrees of freedom, which is generous for fewer. The seed is fixed, so this never fails by chance. */
static void expect(struct cf_sampler_params p, const float *logits, const double *weights, uint32_t n) {
    struct cf_sampler *s = make(p, n);
    double total = 0, chi = 0;
    uint32_t count[16] = {0};
    for (int i = 0; i < DRAWS; i++)
        count[cf_sampler_pick(s, logits)]++;
    for (uint32_t i = 0; i < n; i++)
        total += weights[i];
    for (uint32_t i = 0; i < n; i++) {
        double want = weights[i] / total * DRAWS, d = count[i] - want;
        if (want == 0 && count[i]) fail_msg("token %u came %u times", i, count[i]);
        if (want > 0) chi += d * d / want;
    }
    if (chi > 29.6) fail_msg("chi-square %g", chi);
    cf_sampler_free(s);
}

static void test_temperature(void **state) {
    (void)state;
    const float x[] = {L2, L1, L4, L3};
    expect(plain(1), x, (double[]){2, 1, 4, 3}, 4);
    struct cf_sampler_params p = plain(2);
    p.temp = 0.5; /* squares the probabilities */
    expect(p, x, (double[]){4, 1, 16, 9}, 4);
    p.temp = 2;
    expect(p, x, (double[]){sqrt(2), 1, 2, sqrt(3)}, 4);
}

static void test_top_k(void **state) {
    (void)state;
    const float x[] = {L2, L1, L4, L3, L2};
    struct cf_sampler_params p = plain(3);
    p.top_k = 2;
    expect(p, x, (double[]){0, 0, 4, 3, 0}, 5);
    p.top_k = 3; /* two tokens tie for the third place: the lower id has it */
    expect(p, x, (double[]){2, 0, 4, 3, 0}, 5);
    p.top_k = 99;
    expect(p, x, (double[]){2, 1, 4, 3, 2}, 5);
    p.top_k = 1;
    expect(p, x, (double[]){0, 0, 1, 0, 0}, 5);
}

static void test_top_p(void **state) {
    (void)state;
    const float x[] = {L1, L4, L2, L3}; /* of 10 */
    struct cf_sampler_params p = plain(4);
    p.top_p = 0.65; /* 4 + 3 = 7 of 10 reach it */
    expect(p, x, (double[]){0, 4, 0, 3}, 4);
    p.top_p = 0.75;
    expect(p, x, (double[]){0, 4, 2, 3}, 4);
    p.top_p = 0; /* the best always stays */
    expect(p, x, (double[]){0, 1, 0, 0}, 4);
    p.top_p = 0.75;
    p.top_k = 2; /* comes first: 4 of 7 is under 0.75, 7 of 7 reaches it */
    expect(p, x, (double[]){0, 4, 0, 3}, 4);
    p.top_p = 0.55; /* 4 of 7 = 0.571 is enough after top-k, though 4 of 10 is not */
    expect(p, x, (double[]){0, 1, 0, 0}, 4);
}

static void test_min_p(void **state) {
    (void)state;
    const float x[] = {L1, L8, L2, L3};
    struct cf_sampler_params p = plain(5);
    p.min_p = 0.2; /* of 8: 1.6 */
    expect(p, x, (double[]){0, 8, 2, 3}, 4);
    p.min_p = 0.3; /* 2.4 */
    expect(p, x, (double[]){0, 8, 0, 3}, 4);
    p.temp = 2; /* works on the probabilities before temperature */
    expect(p, x, (double[]){0, sqrt(8), 0, sqrt(3)}, 4);
    p.temp = 1;
    p.min_p = 1;
    expect(p, x, (double[]){0, 1, 0, 0}, 4);
    p.min_p = 0.2;
    p.top_p = 0.75; /* 8 + 3 = 11 of 14 */
    expect(p, x, (double[]){0, 8, 0, 3}, 4);
}

static void test_penalty(void **state) {
    (void)state;
    struct cf_sampler_params p = plain(6);
    p.repeat_penalty = 2;
    p.repeat_last_n = 2;
    p.temp = 0;
    const float x[] = {3, 2, -1, -1.5f};
    struct cf_sampler *s = make(p, 4);
    assert_int_equal(cf_sampler_pick(s, x), 0);
    cf_sampler_accept(s, 0); /* 3 / 2 = 1.5 < 2 */
    assert_int_equal(cf_sampler_pick(s, x), 1);
    cf_sampler_accept(s, 0); /* twice in the window, punished once: 1.5 > 2 / 2 once 1 is in as well */
    cf_sampler_accept(s, 1); /* window: 0, 1 */
    assert_int_equal(cf_sampler_pick(s, x), 0);
    cf_sampler_accept(s, 3); /* window: 1, 3 */
    cf_sampler_accept(s, 3); /* window: 3, 3 */
    assert_int_equal(cf_sampler_pick(s, x), 0);
    const float negative[] = {-9, -9, -1, -0.75f};
    assert_int_equal(cf_sampler_pick(s, negative), 2); /* -0.75 * 2 = -1.5 */
    cf_sampler_accept(s, 999);                         /* no such token: ignored */
    cf_sampler_free(s);
}

static void test_penalty_draw(void **state) {
    (void)state;
    struct cf_sampler_params p = plain(7);
    p.repeat_penalty = 2;
    p.repeat_last_n = 64;
    const float x[] = {L4, L3, L2, L1};
    struct cf_sampler *s = make(p, 4);
    cf_sampler_accept(s, 0); /* log 4 / 2 = log 2 */
    uint32_t count[4] = {0};
    for (int i = 0; i < DRAWS; i++)
        count[cf_sampler_pick(s, x)]++;
    assert_in_range(count[0], DRAWS / 4 - 300, DRAWS / 4 + 300);
    assert_in_range(count[1], DRAWS * 3 / 8 - 300, DRAWS * 3 / 8 + 300);
    cf_sampler_free(s);
}

static void test_greedy_and_odd_values(void **state) {
    (void)state;
    struct cf_sampler_params p = plain(8);
    p.temp = 0;
    struct cf_sampler *s = make(p, 4);
    assert_int_equal(cf_sampler_pick(s, (const float[]){1, 5, 5, 5}), 1);
    assert_int_equal(cf_sampler_pick(s, (const float[]){NAN, -3, NAN, -2}), 3);
    assert_int_equal(cf_sampler_pick(s, (const float[]){-INFINITY, -INFINITY, -INFINITY, -INFINITY}), 0);
    cf_sampler_free(s);
    expect(plain(9), (const float[]){-INFINITY, L2, NAN, L1}, (double[]){0, 2, 0, 1}, 4);
    expect(plain(9), (const float[]){-3e38f, L6, 0.0f, -3e38f}, (double[]){0, 6, 1, 0}, 4);
    expect(plain(9), (const float[]){INFINITY, L6, 0.0f, 3e38f}, (double[]){1, 0, 0, 0}, 4);
    p = cf_sampler_defaults();
    p.temp = 1e-6; /* nearly greedy, and no overflow */
    p.seed = 1;
    expect(p, (const float[]){100, 101, -100}, (double[]){0, 1, 0}, 3);
}

static void test_seed(void **state) {
    (void)state;
    float x[1000];
    for (int i = 0; i < 1000; i++)
        x[i] = (float)((i * 7919) % 1000) * 0.01f;
    struct cf_sampler_params p = cf_sampler_defaults();
    assert_true(p.temp == 0.8 && p.top_k == 40 && p.top_p == 0.95 && p.min_p == 0.05 && p.repeat_penalty == 1.0);
    p.seed = 42;
    struct cf_sampler *a = make(p, 1000), *b = make(p, 1000);
    /* These ids are part of the promise: the same seed gives the same text on every machine and in every version. */
    static const uint32_t first[] = {963, 173, 704, 235, 198, 988, 346, 272};
    int same = 0;
    for (int i = 0; i < 200; i++) {
        uint32_t id = cf_sampler_pick(a, x);
        assert_int_equal(id, cf_sampler_pick(b, x));
        if (i < 8) assert_int_equal(id, first[i]);
    }
    p.seed = 43;
    struct cf_sampler *c = make(p, 1000);
    for (int i = 0; i < 200; i++)
        same += cf_sampler_pick(a, x) == cf_sampler_pick(c, x);
    assert_true(same < 100);
    assert_int_equal(cf_sampler_seed(c), 43);
    p.seed = -1;
    struct cf_sampler *d = make(p, 1000), *f = make(p, 1000);
    assert_true(cf_sampler_seed(d) != cf_sampler_seed(f));
    cf_sampler_free(a), cf_sampler_free(b), cf_sampler_free(c), cf_sampler_free(d), cf_sampler_free(f);
}

static void test_select(void **state) {
    (void)state;
    static float x[5000];
    static struct cf_candidate heap[5000];
    uint64_t r = 1;
    for (int i = 0; i < 5000; i++)
        x[i] = (float)(cf_random(&r) >> 54); /* many ties */
    for (uint32_t k = 1; k <= 5000; k = k * 3 + 1) {
        cf_select(x, 5000, heap, k);
        struct cf_candidate last = {INFINITY, 0};
        for (uint32_t left = k; left;) {
            struct cf_candidate c = cf_select_pop(heap, &left);
            assert_true(c.logit == x[c.id]);
            assert_true(cf_candidate_before(last, c));
            last = c;
        }
        uint32_t better = 0;
        for (uint32_t i = 0; i < 5000; i++)
            better += cf_candidate_before((struct cf_candidate){x[i], i}, last);
        assert_int_equal(better, k - 1);
    }
}

static void test_top(void **state) {
    (void)state;
    struct cf_top top[4];
    struct cf_candidate scratch[4];
    const float x[] = {L1, L3, L2, L3, L1};
    assert_int_equal(cf_sampler_top(x, 5, 3, top, scratch), 3);
    assert_int_equal(top[0].id, 1);
    assert_int_equal(top[1].id, 3);
    assert_int_equal(top[2].id, 2);
    assert_true(fabs(top[0].logprob - log(0.3)) < 1e-6);
    assert_true(fabs(top[2].logprob - log(0.2)) < 1e-6);
    assert_true(top[2].logit == L2);
    assert_int_equal(cf_sampler_top(x, 2, 4, top, scratch), 2);
    assert_int_equal(cf_sampler_top(x, 5, 0, top, scratch), 0);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        size_t field;
        double value;
        const char *text;
    } cases[] = {
        {offsetof(struct cf_sampler_params, temp), INFINITY, "--temp"},
        {offsetof(struct cf_sampler_params, top_p), NAN, "--top-p"},
        {offsetof(struct cf_sampler_params, top_p), -1, "--top-p"},
        {offsetof(struct cf_sampler_params, min_p), 1.5, "--min-p"},
        {offsetof(struct cf_sampler_params, repeat_penalty), 0, "--repeat-penalty"},
    };
    struct cf_sampler *s;
    struct cf_error e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cf_sampler_params p = cf_sampler_defaults();
        memcpy((char *)&p + cases[i].field, &cases[i].value, sizeof(double));
        assert_int_equal(cf_sampler_new(&s, &p, 4, &e), -1);
        assert_null(s);
        assert_int_equal(e.code, CF_ERR_USAGE);
        assert_non_null(strstr(e.text, cases[i].text));
    }
    struct cf_sampler_params p = cf_sampler_defaults();
    p.repeat_last_n = -1;
    assert_int_equal(cf_sampler_new(&s, &p, 4, &e), -1);
    cf_sampler_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_temperature), cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_top_p), cmocka_unit_test(test_min_p), cmocka_unit_test(test_penalty),
        cmocka_unit_test(test_penalty_draw), cmocka_unit_test(test_greedy_and_odd_values), cmocka_unit_test(test_seed),
        cmocka_unit_test(test_select), cmocka_unit_test(test_top), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
