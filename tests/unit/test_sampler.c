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

#include "coordinator/sample/sampler.h"
#include "coordinator/sample/top.h"
#include "tests/random.h"

enum { DRAWS = 20000 };

/* log of 1, 2, 3, 4, 6, 8 */
static const float L1 = 0.0f, L2 = 0.69314718f, L3 = 1.09861229f, L4 = 1.38629436f, L6 = 1.79175947f, L8 = 2.07944154f;

/* Nothing but the temperature 1. */
static struct cf_sampler_params plain(int64_t seed) {
    struct cf_sampler_params p = cf_sampler_defaults();
    p.temp = 1, p.top_k = 0, p.top_p = 1, p.min_p = 0, p.seed = seed;
    return p;
}

static struct cf_sampler *make(struct cf_sampler_params p, uint32_t n) {
    struct cf_sampler *s;
    struct cf_error e;
    if (cf_sampler_new(&s, &p, n, &e)) fail_msg("%s", e.text);
    return s;
}

/* The chances must be weights[n] (any scale; 0: not among them). */
static void chances(struct cf_sampler *s, const float *logits, const double *weights, uint32_t n) {
    struct cf_chance c[16];
    double total = 0;
    uint32_t left = cf_sampler_chances(s, logits, c), want = 0;
    for (uint32_t i = 0; i < n; i++)
        total += weights[i], want += weights[i] > 0;
    for (uint32_t i = 0; i < left; i++)
        if (fabs(c[i].p - weights[c[i].id] / total) > 1e-6)
            fail_msg("token %u has %.9f, not %.9f", c[i].id, c[i].p, weights[c[i].id] / total);
    uint32_t n_left = 0;
    for (uint32_t i = 0; i < left; i++)
        n_left += c[i].p > 0;
    assert_int_equal(n_left, want);
}

static void expect(struct cf_sampler_params p, const float *logits, const double *weights, uint32_t n) {
    struct cf_sampler *s = make(p, n);
    chances(s, logits, weights, n);
    cf_sampler_free(s);
}

/* Draws come as the chances say: chi-square below the 99.9 % bound of 3 degrees of freedom. The seed is fixed, so this
 * never fails by chance. */
static void test_draw(void **state) {
    (void)state;
    const float x[] = {L2, L1, L4, L3};
    const double p[] = {0.2, 0.1, 0.4, 0.3};
    struct cf_sampler *s = make(plain(1), 4);
    double chi = 0;
    uint32_t count[4] = {0};
    for (int i = 0; i < DRAWS; i++)
        count[cf_sampler_pick(s, x)]++;
    for (int i = 0; i < 4; i++)
        chi += (count[i] - p[i] * DRAWS) * (count[i] - p[i] * DRAWS) / (p[i] * DRAWS);
    assert_true(chi < 16.3);
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

/* Of 10: 4, 3, 2, 1. Entropy 1.2799; surprises 0.916, 1.204, 1.609, 2.303: nearest to it are 3, then 2, then 4. */
static void test_typical(void **state) {
    (void)state;
    const float x[] = {L1, L4, L2, L3};
    struct cf_sampler_params p = plain(1);
    p.typical_p = 0.25;
    expect(p, x, (double[]){0, 0, 0, 3}, 4);
    p.typical_p = 0.45;
    expect(p, x, (double[]){0, 0, 2, 3}, 4);
    p.typical_p = 0.6;
    expect(p, x, (double[]){0, 4, 2, 3}, 4);
    p.typical_p = 0;
    expect(p, x, (double[]){0, 0, 0, 3}, 4);
    p.typical_p = 0.45;
    p.top_p = 0.55; /* after it: 3 of 5 is enough */
    expect(p, x, (double[]){0, 0, 0, 3}, 4);
    struct cf_sampler *s = make(p, 4); /* again and again: its two lists change places */
    for (int i = 0; i < 5; i++)
        assert_int_equal(cf_sampler_pick(s, x), 3);
    cf_sampler_free(s);
}

/* Mean 2, standard deviation sqrt(14 / 4) = 1.87. */
static void test_top_n_sigma(void **state) {
    (void)state;
    const float x[] = {0, 5, 1, 2};
    struct cf_sampler_params p = plain(1);
    p.top_n_sigma = 1;
    expect(p, x, (double[]){0, 1, 0, 0}, 4);
    p.top_n_sigma = 2; /* from 1.26 on */
    expect(p, x, (double[]){0, exp(5), 0, exp(2)}, 4);
    p.top_n_sigma = 3;
    expect(p, x, (double[]){1, exp(5), exp(1), exp(2)}, 4);
    expect(p, (const float[]){INFINITY, 0, 0, 0}, (double[]){1, 0, 0, 0}, 4);
}

static void test_xtc(void **state) {
    (void)state;
    const float x[] = {L1, L4, L2, L3}; /* of 10 */
    struct cf_sampler_params p = plain(1);
    p.xtc_probability = 1;
    p.xtc_threshold = 0.25; /* 4 and 3 reach it: 4 goes */
    expect(p, x, (double[]){1, 0, 2, 3}, 4);
    p.xtc_threshold = 0.15;
    expect(p, x, (double[]){1, 0, 2, 0}, 4);
    p.xtc_threshold = 0;
    expect(p, x, (double[]){1, 0, 0, 0}, 4);
    p.xtc_threshold = 0.35; /* only one reaches it */
    expect(p, x, (double[]){1, 4, 2, 3}, 4);
    p.xtc_threshold = 0.51; /* never two of them */
    expect(p, x, (double[]){1, 4, 2, 3}, 4);
    p.xtc_threshold = 0.25;
    p.top_k = 3; /* before it: 4/9, 3/9, 2/9 */
    expect(p, x, (double[]){0, 0, 2, 3}, 4);
    p.xtc_probability = 0.5;
    struct cf_sampler *s = make(p, 4);
    struct cf_chance c[4];
    uint32_t taken = 0;
    for (int i = 0; i < 1000; i++)
        taken += cf_sampler_chances(s, x, c) == 2;
    assert_in_range(taken, 450, 550);
    cf_sampler_free(s);
}

/* 4 to 1: entropy 0.50040 of ln 2 at most, share 0.721928. */
static void test_dynatemp(void **state) {
    (void)state;
    const float x[] = {L4, L1};
    struct cf_sampler_params p = plain(1);
    p.dynatemp_range = 0.5; /* from 0.5 to 1.5 */
    expect(p, x, (double[]){pow(4, 1 / (0.5 + 0.721928)), 1}, 2);
    p.dynatemp_exponent = 2;
    expect(p, x, (double[]){pow(4, 1 / (0.5 + 0.721928 * 0.721928)), 1}, 2);
    p.temp = 0.5, p.dynatemp_range = 1, p.dynatemp_exponent = 1; /* from 0 to 1.5 */
    expect(p, x, (double[]){pow(4, 1 / (1.5 * 0.721928)), 1}, 2);
    p.top_k = 1;
    expect(p, x, (double[]){1, 0}, 2);
}

static void test_order(void **state) {
    (void)state;
    const float x[] = {L1, L4, L2, L3};
    struct cf_sampler_params p = plain(1);
    struct cf_error e;
    p.temp = 0.5, p.top_p = 0.8; /* 4 + 3 + 2 of 10 */
    expect(p, x, (double[]){0, 16, 4, 9}, 4);
    assert_int_equal(cf_sampler_order_names(&p.order, "temperature;top_p", &e), 0);
    expect(p, x, (double[]){0, 16, 0, 9}, 4); /* 16 + 9 of 30 */
    assert_int_equal(cf_sampler_order_letters(&p.order, "te", &e), 0);
    p.presence_penalty = 0.5;
    struct cf_sampler *s = make(p, 4); /* the penalty after the temperature, and no top-p */
    cf_sampler_accept(s, 1);
    chances(s, x, (double[]){1, 16 * exp(-0.5), 4, 9}, 4);
    cf_sampler_free(s);
    assert_int_equal(cf_sampler_order_letters(&p.order, "", &e), 0);
    expect(p, x, (double[]){1, 4, 2, 3}, 4); /* nothing at all */
    assert_int_equal(
        cf_sampler_order_names(&p.order, "Top-K;typ;nucleus;topnsigma;temp;xtc;dry;min-p;penalties", &e), 0);
    static const enum cf_sampler_step want[] = {CF_STEP_TOP_K, CF_STEP_TYPICAL, CF_STEP_TOP_P, CF_STEP_TOP_N_SIGMA,
        CF_STEP_TEMPERATURE, CF_STEP_XTC, CF_STEP_DRY, CF_STEP_MIN_P, CF_STEP_PENALTIES};
    assert_int_equal(p.order.n, 9);
    assert_memory_equal(p.order.step, want, sizeof want);
    struct cf_sampler_order letters;
    assert_int_equal(cf_sampler_order_letters(&letters, "kypstxdme", &e), 0);
    assert_memory_equal(letters.step, want, sizeof want);
    struct cf_sampler_params d = cf_sampler_defaults(); /* llama.cpp's default, "edskypmxt" */
    assert_int_equal(cf_sampler_order_letters(&letters, "edskypmxt", &e), 0);
    assert_memory_equal(d.order.step, letters.step, 9 * sizeof *letters.step);
    assert_int_equal(cf_sampler_order_names(&letters, "top_k;top_x", &e), -1);
    assert_non_null(strstr(e.text, "--samplers: top_x is unknown"));
    assert_int_equal(cf_sampler_order_letters(&letters, "k?", &e), -1);
    assert_non_null(strstr(e.text, "--sampler-seq: ? is unknown"));
    assert_int_equal(cf_sampler_order_letters(&letters, "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", &e), -1);
}

/* Surprises of 4, 3, 2, 1 of 10: 1.32, 1.74, 2.32, 3.32 bits. */
static void test_mirostat_2(void **state) {
    (void)state;
    const float x[] = {L1, L4, L2, L3};
    struct cf_sampler_params p = plain(3);
    p.mirostat = 2, p.mirostat_ent = 1, p.mirostat_lr = 5;
    p.top_k = 1; /* is not asked */
    struct cf_sampler *s = make(p, 4);
    chances(s, x, (double[]){0, 4, 0, 3}, 4); /* mu is 2 */
    /* 4 of 7 has 0.807 bits: mu = 2 - 5 (0.807 - 1) = 2.96. 3 of 7 has 1.222: mu = 0.89 */
    if (cf_sampler_pick(s, x) == 1)
        chances(s, x, (double[]){0, 4, 2, 3}, 4);
    else
        chances(s, x, (double[]){0, 1, 0, 0}, 4);
    cf_sampler_free(s);
    p.temp = 0.5; /* 16, 9, 4, 1 of 30: 0.91, 1.74, 2.9 bits */
    expect(p, x, (double[]){0, 16, 0, 9}, 4);
}

/* Zipf's law with exponent 2 over 4 tokens: k = sqrt(2^mu / (1 - 1/4)). */
static void test_mirostat_1(void **state) {
    (void)state;
    const float x[] = {0, (float)-log(4), (float)-log(9), (float)-log(16)};
    struct cf_sampler_params p = plain(3);
    p.mirostat = 1, p.mirostat_ent = 1; /* sqrt(4 / 0.75) = 2.3 */
    expect(p, x, (double[]){1, 1 / 4.0, 0, 0}, 4);
    p.mirostat_ent = 1.5; /* sqrt(8 / 0.75) = 3.3 */
    expect(p, x, (double[]){1, 1 / 4.0, 1 / 9.0, 0}, 4);
    p.mirostat_ent = 0.25; /* 1.37 */
    expect(p, x, (double[]){1, 0, 0, 0}, 4);
    p.mirostat_ent = 1;
    expect(p, (const float[]){0, 0, 0, 0}, (double[]){1, 1, 1, 1}, 4); /* all alike: all stay */
    expect(p, (const float[]){-INFINITY, 3, NAN, -INFINITY}, (double[]){0, 1, 0, 0}, 4);
    p.temp = 0;
    expect(p, x, (double[]){1, 0, 0, 0}, 4);
}

static void test_bias(void **state) {
    (void)state;
    const float x[] = {L1, L4, L2, L3};
    const struct cf_logit_bias bias[] = {{0, 1}, {1, -INFINITY}, {2, -0.5f}};
    struct cf_sampler_params p = plain(1);
    p.bias = bias, p.n_bias = 3;
    expect(p, x, (double[]){exp(1), 0, 2 * exp(-0.5), 3}, 4);
    p.temp = 0;
    expect(p, x, (double[]){0, 0, 0, 1}, 4);
    p.bias = (const struct cf_logit_bias[]){{4, 1}}, p.n_bias = 1;
    struct cf_sampler *s;
    struct cf_error e;
    assert_int_equal(cf_sampler_new(&s, &p, 4, &e), -1);
    assert_string_equal(e.text, "--logit-bias: 4 is not a token id below 4");
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
    static struct cf_candidate best[5000], all[5000];
    uint64_t r = 1;
    for (int i = 0; i < 5000; i++)
        x[i] = (float)(cf_random(&r) >> 54); /* many ties */
    for (uint32_t k = 1; k <= 5000; k = k * 3 + 1) {
        for (uint32_t i = 0; i < 5000; i++)
            all[i] = (struct cf_candidate){x[i], i};
        cf_select(x, 5000, best, k);
        cf_select_front(all, 5000, k);
        assert_memory_equal(best, all, k * sizeof *best);
        uint32_t better = 0;
        uint64_t sum = 0;
        for (uint32_t i = 0; i < 5000; i++) {
            if (i < k) assert_true(best[i].logit == x[best[i].id]);
            if (i && i < k) assert_true(cf_candidate_before(best[i - 1], best[i]));
            better += cf_candidate_before((struct cf_candidate){x[i], i}, best[k - 1]);
            sum += all[i].id;
        }
        assert_int_equal(better, k - 1);
        assert_int_equal(sum, 5000 * 4999 / 2); /* none is lost */
    }
}

/* Filters that look at more and more of a long list. */
static void test_long_list(void **state) {
    (void)state;
    enum { N = 5000 };
    static float x[N];
    static struct cf_chance c[N];
    for (int i = 0; i < N; i++)
        x[i] = (float)((i * 1237) % N) * 1e-6f; /* nearly alike */
    struct cf_sampler_params p = plain(1);
    p.top_p = 0.5;
    struct cf_sampler *s = make(p, N);
    uint32_t n = cf_sampler_chances(s, x, c);
    assert_in_range(n, 2480, 2500);
    for (uint32_t i = 1; i < n; i++)
        assert_true(x[c[i - 1].id] > x[c[i].id]);
    cf_sampler_free(s);
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
        {offsetof(struct cf_sampler_params, dynatemp_range), -1, "--dynatemp-range -1: must be 0 to 1e+06"},
        {offsetof(struct cf_sampler_params, typical_p), NAN, "--typical"},
        {offsetof(struct cf_sampler_params, xtc_threshold), 2, "--xtc-threshold"},
        {offsetof(struct cf_sampler_params, presence_penalty), NAN, "--presence-penalty"},
        {offsetof(struct cf_sampler_params, dry_base), 0.5, "--dry-base"},
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
    p = cf_sampler_defaults();
    p.mirostat = 3;
    assert_int_equal(cf_sampler_new(&s, &p, 4, &e), -1);
    assert_string_equal(e.text, "--mirostat 3: must be 0, 1 or 2");
    cf_sampler_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_temperature), cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_draw), cmocka_unit_test(test_top_p), cmocka_unit_test(test_min_p),
        cmocka_unit_test(test_typical), cmocka_unit_test(test_top_n_sigma), cmocka_unit_test(test_xtc),
        cmocka_unit_test(test_dynatemp), cmocka_unit_test(test_order), cmocka_unit_test(test_mirostat_1),
        cmocka_unit_test(test_mirostat_2), cmocka_unit_test(test_bias), cmocka_unit_test(test_greedy_and_odd_values),
        cmocka_unit_test(test_seed), cmocka_unit_test(test_select), cmocka_unit_test(test_long_list),
        cmocka_unit_test(test_top), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
