/* The options of sampling: what the command line says becomes parameters, biases, breakers and stop strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>

#include "coordinator/commands/shared/sampling.h"
#include "tests/unit/vocabulary.h"

static struct cf_tokenizer *load(struct vocabulary *v) {
    struct cf_tokenizer *t;
    struct cf_error e;
    if (vocabulary_load(v, &t, &e)) fail_msg("%s", e.text);
    return t;
}

static int parse(struct cf_sampling *s, struct cf_error *e, const char *name, const char *value) {
    for (const struct cf_option *o = cf__sampling_options; o->name; o++)
        if (!strcmp(o->name, name) || (o->alias && !strcmp(o->alias, name))) return cf_option_store(o, value, s, e);
    fail_msg("no option %s", name);
    return -1;
}

static void test_rows(void **state) {
    (void)state;
    struct cf_sampling s = cf__sampling_defaults();
    struct cf_error e;
    static const struct {
        const char *name, *value;
        size_t field;
        double want;
    } cases[] = {
#define REAL(name, value, field, want) {name, value, offsetof(struct cf_sampler_params, field), want}
        REAL("temperature", "0.5", temp, 0.5),
        REAL("dynatemp-range", "0.25", dynatemp_range, 0.25),
        REAL("dynatemp-exp", "2", dynatemp_exponent, 2),
        REAL("top-p", "0.5", top_p, 0.5),
        REAL("min-p", "0.125", min_p, 0.125),
        REAL("typical-p", "0.5", typical_p, 0.5),
        REAL("top-nsigma", "1.5", top_n_sigma, 1.5),
        REAL("xtc-probability", "0.5", xtc_probability, 0.5),
        REAL("xtc-threshold", "0.25", xtc_threshold, 0.25),
        REAL("repeat-penalty", "1.5", repeat_penalty, 1.5),
        REAL("presence-penalty", "-0.5", presence_penalty, -0.5),
        REAL("frequency-penalty", "0.5", frequency_penalty, 0.5),
        REAL("dry-multiplier", "0.75", dry_multiplier, 0.75),
        REAL("dry-base", "2", dry_base, 2),
        REAL("mirostat-lr", "0.5", mirostat_lr, 0.5),
        REAL("mirostat-ent", "3", mirostat_ent, 3),
#undef REAL
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double x;
        assert_int_equal(parse(&s, &e, cases[i].name, cases[i].value), 0);
        memcpy(&x, (char *)&s.params + cases[i].field, sizeof x);
        assert_true(x == cases[i].want);
    }
    parse(&s, &e, "seed", "7"), parse(&s, &e, "top-k", "3"), parse(&s, &e, "repeat-last-n", "-1");
    parse(&s, &e, "dry-allowed-length", "4"), parse(&s, &e, "dry-penalty-last-n", "9"), parse(&s, &e, "mirostat", "2");
    assert_true(s.params.seed == 7 && s.params.top_k == 3 && s.params.repeat_last_n == -1);
    assert_true(s.params.dry_allowed_length == 4 && s.params.dry_last_n == 9 && s.params.mirostat == 2);
    parse(&s, &e, "sampling-seq", "tk");
    assert_int_equal(cf__sampling_check(&s, &e), 0);
    assert_true(s.params.order.n == 2 && s.params.order.step[1] == CF_STEP_TOP_K);
    parse(&s, &e, "samplers", "dry");
    assert_int_equal(cf__sampling_check(&s, &e), -1);
    s.sampler_seq = NULL;
    assert_int_equal(cf__sampling_check(&s, &e), 0);
    assert_true(s.params.order.n == 1 && s.params.order.step[0] == CF_STEP_DRY);
}

static void test_bias(void **state) {
    (void)state;
    static struct vocabulary v = {.model = "llama", .eos = 2};
    vocabulary_bytes(&v);
    struct cf_tokenizer *t = load(&v);
    struct cf_sampling s = cf__sampling_defaults();
    struct cf_sampling_set set;
    struct cf_error e;
    parse(&s, &e, "logit-bias", "5+1.5"), parse(&s, &e, "logit-bias", "7-inf"), parse(&s, &e, "logit-bias", "EOS-2");
    assert_int_equal(cf__sampling_check(&s, &e), 0);
    assert_int_equal(cf__sampling_open(&set, &s, t, v.n, 100, &e), 0);
    assert_int_equal(set.params.n_bias, 3);
    assert_true(set.params.bias[0].id == 5 && set.params.bias[0].bias == 1.5f);
    assert_true(set.params.bias[1].id == 7 && set.params.bias[1].bias == -INFINITY);
    assert_true(cf_tokenizer_is_end(t, set.params.bias[2].id) && set.params.bias[2].bias == -2);
    cf__sampling_close(&set);
    static const char *const wrong[] = {
        "", "5", "5*1", "+1", "-5+1", "5+", "5+x", "5+1x", "5+nan", "EOS", "99999999999+1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        s.bias.n = 0;
        parse(&s, &e, "logit-bias", wrong[i]);
        if (!cf__sampling_check(&s, &e)) fail_msg("--logit-bias %s was taken", wrong[i]);
        assert_non_null(strstr(e.text, "--logit-bias"));
    }
    cf_tokenizer_free(t);
}

static void test_strings(void **state) {
    (void)state;
    static struct vocabulary v = {.model = "llama"};
    vocabulary_bytes(&v);
    uint32_t colon = vocabulary_add(&v, "a:", 1, -1), x = vocabulary_add(&v, "xX", 1, -1);
    struct cf_tokenizer *t = load(&v);
    struct cf_sampling s = cf__sampling_defaults();
    struct cf_sampling_set set;
    struct cf_sampler *sampler;
    struct cf_stop *stop;
    struct cf_error e;
    parse(&s, &e, "stop", "\\nUser:"), parse(&s, &e, "reverse-prompt", "\\x41\\q");
    parse(&s, &e, "dry-penalty-last-n", "-1"), parse(&s, &e, "repeat-last-n", "-1");
    assert_int_equal(cf__sampling_open(&set, &s, t, v.n, 77, &e), 0);
    assert_int_equal(set.n_stop, 2);
    assert_string_equal(set.stop[0], "\nUser:");
    assert_string_equal(set.stop[1], "A\\q");
    assert_null(set.breakers);
    assert_true(set.params.dry_last_n == 77 && set.params.repeat_last_n == 77);
    assert_int_equal(cf__sampling_start(&set, &set.params, v.n, &sampler, &stop, &e), 0);
    assert_non_null(stop);
    cf_stop_free(stop);
    cf_sampler_free(sampler);
    cf__sampling_close(&set);
    parse(&s, &e, "dry-multiplier", "1");
    assert_int_equal(cf__sampling_open(&set, &s, t, v.n, 77, &e), 0);
    assert_true(cf_breakers_single(set.breakers, colon) && !cf_breakers_single(set.breakers, x));
    cf__sampling_close(&set);
    parse(&s, &e, "dry-sequence-breaker", "xX");
    assert_int_equal(cf__sampling_open(&set, &s, t, v.n, 77, &e), 0);
    assert_true(!cf_breakers_single(set.breakers, colon) && cf_breakers_single(set.breakers, x));
    cf__sampling_close(&set);
    parse(&s, &e, "dry-sequence-breaker", "none");
    assert_int_equal(cf__sampling_open(&set, &s, t, v.n, 77, &e), 0);
    assert_int_equal(set.breakers->n, 0);
    cf__sampling_close(&set);
    parse(&s, &e, "stop", "");
    assert_int_equal(cf__sampling_check(&s, &e), -1);
    cf_tokenizer_free(t);
}

/* What --verbose prints: all defaults, as llama.cpp's help has them. */
static void test_print(void **state) {
    (void)state;
    struct cf_sampler_params p = cf_sampler_defaults();
    struct cf_sampler *s;
    struct cf_error e;
    char *text = NULL;
    size_t n = 0;
    p.seed = 5;
    assert_int_equal(cf_sampler_new(&s, &p, 10, &e), 0);
    FILE *f = open_memstream(&text, &n);
    cf_sampler_print(s, f);
    fclose(f);
    assert_string_equal(text,
        "sampler seed 5, order logit_bias > penalties > dry > top_n_sigma > top_k > typ_p > top_p > min_p > xtc > "
        "temperature > draw\n"
        "sampler repeat_last_n 64, repeat_penalty 1, presence_penalty 0, frequency_penalty 0\n"
        "sampler dry_multiplier 0, dry_base 1.75, dry_allowed_length 2, dry_penalty_last_n 64\n"
        "sampler top_n_sigma -1, top_k 40, typ_p 1, top_p 0.95, min_p 0.05, xtc_probability 0, xtc_threshold 0.1\n"
        "sampler temp 0.8, dynatemp_range 0, dynatemp_exp 1, mirostat 0, mirostat_lr 0.1, mirostat_ent 5\n");
    free(text);
    cf_sampler_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_bias),
        cmocka_unit_test(test_strings), cmocka_unit_test(test_print)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
