/* Penalties and DRY against numbers worked out by hand, DRY's search also against the plain way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>

#include "coordinator/sample/sampler.h"
#include "tests/random.h"
#include "tests/unit/vocabulary.h"

/* log of 1, 2, 3, 4 */
static const float L1 = 0.0f, L2 = 0.69314718f, L3 = 1.09861229f, L4 = 1.38629436f;

static struct cf_sampler_params plain(void) {
    struct cf_sampler_params p = cf_sampler_defaults();
    p.temp = 1, p.top_k = 0, p.top_p = 1, p.min_p = 0, p.seed = 1;
    return p;
}

static struct cf_sampler *make(struct cf_sampler_params p, uint32_t n) {
    struct cf_sampler *s;
    struct cf_error e;
    if (cf_sampler_new(&s, &p, n, &e)) fail_msg("%s", e.text);
    return s;
}

static void expect(struct cf_sampler *s, const float *logits, const double *weights, uint32_t n) {
    struct cf_chance c[16];
    double total = 0;
    assert_int_equal(cf_sampler_chances(s, logits, c), n);
    for (uint32_t i = 0; i < n; i++)
        total += weights[i];
    for (uint32_t i = 0; i < n; i++)
        if (fabs(c[i].p - weights[c[i].id] / total) > 1e-6)
            fail_msg("token %u has %.9f, not %.9f", c[i].id, c[i].p, weights[c[i].id] / total);
}

static void say(struct cf_sampler *s, const uint32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        cf_sampler_accept(s, ids[i]);
}
#define SAY(s, ...) say(s, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void test_penalty(void **state) {
    (void)state;
    struct cf_sampler_params p = plain();
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

static void test_presence_and_frequency(void **state) {
    (void)state;
    const float x[] = {L4, L3, L2, L1};
    struct cf_sampler_params p = plain();
    p.presence_penalty = 0.5, p.frequency_penalty = 0.25;
    struct cf_sampler *s = make(p, 4);
    expect(s, x, (double[]){4, 3, 2, 1}, 4);
    SAY(s, 0, 1, 0);
    expect(s, x, (double[]){4 * exp(-1), 3 * exp(-0.75), 2, 1}, 4);
    cf_sampler_free(s);
    p.repeat_penalty = 2, p.repeat_last_n = 2; /* the division first: log 4 / 2 - 0.75 */
    s = make(p, 4);
    SAY(s, 1, 0);
    expect(s, x, (double[]){2 * exp(-0.75), sqrt(3) * exp(-0.75), 2, 1}, 4);
    SAY(s, 0); /* 1 has left the window */
    expect(s, x, (double[]){2 * exp(-1), 3, 2, 1}, 4);
    cf_sampler_free(s);
    p = plain();
    p.presence_penalty = -1; /* a reward */
    s = make(p, 4);
    SAY(s, 3);
    expect(s, x, (double[]){4, 3, 2, exp(1)}, 4);
    cf_sampler_free(s);
}

static void test_dry(void **state) {
    (void)state;
    const float x[6] = {0};
    struct cf_sampler_params p = plain();
    p.dry_multiplier = 1, p.dry_base = 2;
    struct cf_sampler *s = make(p, 6);
    SAY(s, 0, 1, 2, 0);
    expect(s, x, (double[]){1, 1, 1, 1, 1, 1}, 6); /* one token is less than the allowed length */
    SAY(s, 1);
    expect(s, x, (double[]){1, 1, exp(-1), 1, 1, 1}, 6); /* 0 1: 2 would follow, length 2 */
    SAY(s, 2, 0, 1);                                     /* 0 1 2 0 1 2 0 1: length 5 */
    expect(s, x, (double[]){1, 1, exp(-8), 1, 1, 1}, 6);
    SAY(s, 5);
    expect(s, x, (double[]){1, 1, 1, 1, 1, 1}, 6);
    cf_sampler_free(s);
    p.dry_last_n = 4; /* of 0 1 2 0 1 it sees 1 2 0 1: length 1 */
    s = make(p, 6);
    SAY(s, 0, 1, 2, 0, 1);
    expect(s, x, (double[]){1, 1, 1, 1, 1, 1}, 6);
    cf_sampler_free(s);
    p = plain();
    p.dry_multiplier = 0.5, p.dry_base = 1e3, p.dry_last_n = 1024; /* far beyond what a float can hold */
    s = make(p, 6);
    for (int i = 0; i < 100; i++)
        cf_sampler_accept(s, 3);
    struct cf_chance c[6];
    assert_int_equal(cf_sampler_chances(s, x, c), 6);
    assert_true(c[0].p == 0.2 && c[3].p == 0);
    cf_sampler_free(s);
}

/* Breakers: 4 alone, and 5 with 3 behind it. */
static void test_breakers(void **state) {
    (void)state;
    static struct cf_breaker at[] = {{.head = 4}, {.head = 5, .n_tail = 1, .tail = {3}}};
    static uint32_t first[] = {0, 0, 0, 0, 0, 1, 2};
    const struct cf_breakers b = {.n_vocab = 6, .first = first, .at = at, .n = 2};
    const float x[6] = {0};
    struct cf_sampler_params p = plain();
    p.dry_multiplier = 1, p.dry_base = 2, p.dry_allowed_length = 1, p.breakers = &b;
    struct cf_sampler *s = make(p, 6);
    SAY(s, 4, 0, 1, 2, 4, 0, 1); /* 4 0 1 counts as 0 1 */
    expect(s, x, (double[]){1, 1, exp(-2), 1, 1, 1}, 6);
    cf_sampler_free(s);
    s = make(p, 6);
    SAY(s, 0, 1, 4, 2, 0, 1); /* what would follow is a breaker */
    expect(s, x, (double[]){1, 1, 1, 1, 1, 1}, 6);
    cf_sampler_free(s);
    s = make(p, 6);
    SAY(s, 5, 3, 0, 1, 2, 5, 3, 0, 1); /* the break ends behind the 3 */
    expect(s, x, (double[]){1, 1, exp(-2), 1, 1, 1}, 6);
    cf_sampler_free(s);
    s = make(p, 6);
    SAY(s, 5, 0, 1, 2, 5, 0, 1); /* 5 without 3 breaks nothing: length 3 */
    expect(s, x, (double[]){1, 1, exp(-4), 1, 1, 1}, 6);
    cf_sampler_free(s);
}

/* The plain way: for every place before, how many ids before it are the last ones said. */
static void naive(const uint32_t *said, uint32_t n, uint32_t allowed, double *penalty) {
    for (uint32_t i = 1; i < n; i++) {
        uint32_t length = 0;
        while (length < i && said[i - 1 - length] == said[n - 1 - length])
            length++;
        double p = length >= allowed ? pow(1.25, length - allowed) : 0;
        if (p > penalty[said[i]]) penalty[said[i]] = p;
    }
}

static void test_dry_search(void **state) {
    (void)state;
    const float x[3] = {0};
    uint64_t r = 7;
    for (int round = 0; round < 300; round++) {
        struct cf_sampler_params p = plain();
        p.dry_multiplier = 1, p.dry_base = 1.25, p.dry_last_n = 40, p.dry_allowed_length = round % 4;
        uint32_t said[40], n = 3 + (uint32_t)(cf_random(&r) % 37);
        double w[3] = {0};
        struct cf_sampler *s = make(p, 3);
        for (uint32_t i = 0; i < n; i++)
            said[i] = (uint32_t)(cf_random(&r) >> 40) % (round % 2 ? 2 : 3);
        for (uint32_t i = n / 2; i < n && round % 3 == 0; i++)
            said[i] = said[i % 3];
        say(s, said, n);
        if (n > (uint32_t)p.dry_allowed_length) naive(said, n, (uint32_t)p.dry_allowed_length, w);
        for (int i = 0; i < 3; i++)
            w[i] = exp(-w[i]);
        expect(s, x, w, 3);
        cf_sampler_free(s);
    }
}

static const struct cf_breaker *only(const struct cf_breakers *b, uint32_t id) {
    assert_int_equal(b->first[id + 1] - b->first[id], 1);
    return &b->at[b->first[id]];
}

static void test_breakers_of_a_vocabulary(void **state) {
    (void)state;
    static struct vocabulary v = {.model = "llama", .add_space_prefix = -1};
    struct cf_error e;
    struct cf_tokenizer *t;
    struct cf_breakers *b;
    vocabulary_bytes(&v);
    uint32_t x = vocabulary_add(&v, "a", 1, -1), y = vocabulary_add(&v, "b", 1, -1);
    uint32_t xyx = vocabulary_add(&v, "aba", 1, -3), cx = vocabulary_add(&v, "ca", 1, -3);
    uint32_t c = vocabulary_add(&v, "c", 1, -1);
    if (vocabulary_load(&v, &t, &e)) fail_msg("%s", e.text);
    static const char *const strings[] = {"ab", "", "\n"};
    assert_int_equal(cf_breakers_new(&b, t, strings, 3, &e), 0);
    assert_int_equal(only(b, xyx)->n_tail, 0); /* contains it (and ends with its beginning: that is not asked) */
    assert_true(cf_breakers_single(b, xyx));
    assert_int_equal(only(b, x)->n_tail, 1); /* begins it: a b follows */
    assert_int_equal(only(b, x)->tail[0], y);
    assert_int_equal(only(b, cx)->tail[0], y);
    assert_false(cf_breakers_single(b, x));
    assert_int_equal(b->first[y], b->first[y + 1]);
    assert_int_equal(b->first[c], b->first[c + 1]);
    uint32_t newline = vocabulary_find(&v, "<0x0A>");
    assert_true(cf_breakers_single(b, newline));
    assert_int_equal(b->n, 4 + (vocabulary_find(&v, "<0x61>") != UINT32_MAX)); /* the byte a begins it, too */
    assert_false(cf_breakers_single(b, v.n) || cf_breakers_single(NULL, 0));
    cf_breakers_free(b);
    cf_breakers_free(NULL);
    cf_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_penalty), cmocka_unit_test(test_presence_and_frequency),
        cmocka_unit_test(test_dry), cmocka_unit_test(test_breakers), cmocka_unit_test(test_dry_search),
        cmocka_unit_test(test_breakers_of_a_vocabulary)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
