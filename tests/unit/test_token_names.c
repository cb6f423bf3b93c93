/* What names and keys tell about tokens: which end generation, which are control tokens, which take white space with
 * them. The measure is llama.cpp.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/vocabulary.h"

static struct cf_tokenizer *load(struct vocabulary *v) {
    struct cf_tokenizer *t;
    struct cf_error e;
    if (vocabulary_load(v, &t, &e)) fail_msg("%s", e.text);
    return t;
}

static void expect_ids(const struct cf_tokenizer *t, const char *text, bool add_special, bool special,
    const uint32_t *expected, size_t n_expected) {
    uint32_t *ids;
    size_t n;
    struct cf_error e;
    if (cf_tokenize(t, text, strlen(text), add_special, special, &ids, &n, &e)) fail_msg("%s", e.text);
    bool same = n == n_expected && (!n || !memcmp(ids, expected, n * sizeof *ids));
    if (!same) fail_msg("\"%s\" became %zu tokens, the first %u", text, n, n ? ids[0] : 0);
    free(ids);
}
#define IDS(...) (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)

static struct vocabulary bpe(void) {
    struct vocabulary v = {.model = "gpt2", .pre = "gpt-2"};
    vocabulary_letters(&v);
    vocabulary_merge(&v, "a", "a");
    return v;
}

static bool is_control(const struct cf_tokenizer *t, uint32_t id) {
    char out[64];
    return !cf_token_bytes(t, id, false, out, sizeof out) && cf_token_bytes(t, id, true, out, sizeof out);
}

static void test_ends_by_name(void **state) {
    (void)state;
    static const char *const ends[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
        "<|end_of_text|>", "<|eom_id|>", "</s>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<eos>", "<turn|>", "<|return|>",
        "<|call|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"};
    static const char *const others[] = {"<|im_start|>", "<bos>", "<|fim_prefix|>", "<eos2>"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct vocabulary v = bpe();
        uint32_t id = vocabulary_add(&v, ends[i], 1, 0); /* the file says that it is a word like others */
        struct cf_tokenizer *t = load(&v);
        if (!cf_tokenizer_is_end(t, id) || !is_control(t, id)) fail_msg("%s ends nothing", ends[i]);
        cf_tokenizer_free(t);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct vocabulary v = bpe();
        uint32_t id = vocabulary_add(&v, others[i], 3, 0);
        struct cf_tokenizer *t = load(&v);
        if (cf_tokenizer_is_end(t, id)) fail_msg("%s ends generation", others[i]);
        cf_tokenizer_free(t);
    }
}

static void test_ends_by_key(void **state) {
    (void)state;
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id", "tokenizer.ggml.fim_pad_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct vocabulary v = bpe();
        v.id = vocabulary_add(&v, "over and out", 3, 0);
        v.id_key = keys[i];
        struct cf_tokenizer *t = load(&v);
        if (!cf_tokenizer_is_end(t, v.id)) fail_msg("%s is not heard", keys[i]);
        cf_tokenizer_free(t);
    }
    /* The key names the token for padding; the one with the name is then a word like others. */
    struct vocabulary v = bpe();
    uint32_t pad = vocabulary_add(&v, "<PAD>", 1, 0);
    v.id_key = "tokenizer.ggml.fim_pad_token_id";
    v.id = vocabulary_add(&v, "padding", 3, 0);
    struct cf_tokenizer *t = load(&v);
    assert_false(cf_tokenizer_is_end(t, pad));
    assert_false(is_control(t, pad));
    cf_tokenizer_free(t);
    v.id = UINT32_MAX; /* -1: the file has none, and the name counts */
    t = load(&v);
    assert_true(cf_tokenizer_is_end(t, pad));
    cf_tokenizer_free(t);
}

/* gpt-oss and Solar Open go on behind <|end|>, and show the parts of their form. */
static void test_harmony(void **state) {
    (void)state;
    struct vocabulary v = bpe();
    uint32_t end = vocabulary_add(&v, "<|end|>", 3, 0), call = vocabulary_add(&v, "<|call|>", 3, 0);
    uint32_t channel = vocabulary_add(&v, "<|channel|>", 3, 0);
    struct cf_tokenizer *t = load(&v);
    assert_true(cf_tokenizer_is_end(t, end));
    assert_false(is_control(t, channel));
    cf_tokenizer_free(t);
    vocabulary_add(&v, "<|return|>", 3, 0);
    t = load(&v);
    assert_false(cf_tokenizer_is_end(t, end));
    assert_false(is_control(t, end));
    assert_true(cf_tokenizer_is_end(t, call));
    expect_ids(t, "<|channel|>a<|end|>", false, false, IDS(channel, 'a', end));
    cf_tokenizer_free(t);
}

static void test_strips(void **state) {
    (void)state;
    struct vocabulary v = {.model = "llama", .name = "Phi-3-mini", .add_space_prefix = -1};
    vocabulary_bytes(&v);
    uint32_t a = vocabulary_add(&v, "a", 1, 0), space = vocabulary_add(&v, "\xe2\x96\x81", 1, -1);
    uint32_t user = vocabulary_add(&v, "<|user|>", 3, 0);
    struct cf_tokenizer *t = load(&v);
    expect_ids(t, "a <|user|> \n\ta", false, true, IDS(a, space, user, a));
    expect_ids(t, "<|user|> \n", false, true, IDS(user));
    expect_ids(t, "<s> a</s> a", false, true, IDS(1, space, a, 2, a));
    cf_tokenizer_free(t);
    v.name = "Mistral";
    t = load(&v);
    expect_ids(t, "<|user|> a", false, true, IDS(user, space, a));
    cf_tokenizer_free(t);

    v = bpe();
    v.pre = "jina-v2-code";
    uint32_t mask = vocabulary_add(&v, "<mask>", 3, 0);
    t = load(&v);
    expect_ids(t, "a \n<mask> a", false, true, IDS('a', mask, ' ', 'a'));
    cf_tokenizer_free(t);
}

static void test_eos(void **state) {
    (void)state;
    struct vocabulary v = {.model = "llama", .add_space_prefix = -1, .add_eos = 1};
    vocabulary_bytes(&v);
    uint32_t a = vocabulary_add(&v, "a", 1, 0);
    struct cf_tokenizer *t = load(&v);
    assert_true(cf_tokenizer_adds_eos(t));
    expect_ids(t, "a", true, false, IDS(1, a, 2));
    expect_ids(t, "a", false, false, IDS(a));
    cf_tokenizer_free(t);
    v.add_eos = 0;
    t = load(&v);
    assert_false(cf_tokenizer_adds_eos(t));
    expect_ids(t, "a", true, false, IDS(1, a));
    cf_tokenizer_free(t);
}

static void test_note(void **state) {
    (void)state;
    struct vocabulary v = bpe();
    struct cf_tokenizer *t = load(&v);
    assert_null(cf_tokenizer_note(t));
    cf_tokenizer_free(t);
    v.pre = NULL;
    t = load(&v);
    assert_non_null(strstr(cf_tokenizer_note(t), "tokenizer.ggml.pre"));
    cf_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_by_name),
        cmocka_unit_test(test_ends_by_key),
        cmocka_unit_test(test_harmony),
        cmocka_unit_test(test_strips),
        cmocka_unit_test(test_eos),
        cmocka_unit_test(test_note),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
