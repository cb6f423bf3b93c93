/* Tokenizers on vocabularies small enough to work out by hand. The big ones are compared with other people's ids by
 * tests that have the files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "tests/unit/vocabulary.h"

enum { BYTE0 = 3, MEGABYTE = 1 << 20, MAX_SECONDS = 20 }; /* a quadratic path takes hours, a sanitizer some seconds */

static struct cf_tokenizer *load(struct vocabulary *v) {
    struct cf_tokenizer *t;
    struct cf_error e;
    if (vocabulary_load(v, &t, &e)) fail_msg("%s", e.text);
    return t;
}

static void expect_ids(const struct cf_tokenizer *t, const char *text, size_t length, bool bos, bool special,
    const uint32_t *expected, size_t n_expected) {
    uint32_t *ids;
    size_t n;
    struct cf_error e;
    if (cf_tokenize(t, text, length, bos, special, &ids, &n, &e)) fail_msg("%s", e.text);
    char list[512] = "";
    for (size_t i = 0, used = 0; i < n && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, " %u", ids[i]);
    bool same = n == n_expected && (!n || !memcmp(ids, expected, n * sizeof *ids));
    free(ids);
    if (!same) fail_msg("\"%s\" became%s", text, list);
}
#define EXPECT(t, text, special, ...)                                                                                  \
    do {                                                                                                               \
        const uint32_t expected_[] = {__VA_ARGS__};                                                                    \
        expect_ids(t, text, strlen(text), false, special, expected_, sizeof expected_ / sizeof *expected_);            \
    } while (0)

/* --- SentencePiece -------------------------------------------------------------------------------------------------
 */

#define SP "\xe2\x96\x81"

struct spm {
    struct vocabulary v;
    uint32_t space, a, b, c, d, ab, bc, dd, space_a, eacute, user, user_x, endoftext;
};

static struct spm spm_vocabulary(void) {
    struct spm s = {.v = {.model = "llama"}};
    vocabulary_bytes(&s.v);
    s.space = vocabulary_add(&s.v, SP, 1, -1);
    s.a = vocabulary_add(&s.v, "a", 1, -2);
    s.b = vocabulary_add(&s.v, "b", 1, -2);
    s.c = vocabulary_add(&s.v, "c", 1, -2);
    s.d = vocabulary_add(&s.v, "d", 1, -2);
    s.ab = vocabulary_add(&s.v, "ab", 1, -3);
    s.bc = vocabulary_add(&s.v, "bc", 1, -2.5f);
    s.dd = vocabulary_add(&s.v, "dd", 1, -3);
    s.space_a = vocabulary_add(&s.v, SP "a", 1, -9);
    s.eacute = vocabulary_add(&s.v, "\xc3\xa9", 1, -2);
    s.user = vocabulary_add(&s.v, "<USR>", 4, 0);
    s.user_x = vocabulary_add(&s.v, "<USR>x", 4, 0);
    s.endoftext = vocabulary_add(&s.v, "<|endoftext|>", 4, 0); /* known to be a control token */
    return s;
}

static void test_spm_merges(void **state) {
    (void)state;
    struct spm s = spm_vocabulary();
    s.v.add_space_prefix = -1;
    struct cf_tokenizer *t = load(&s.v);
    EXPECT(t, "ab", false, s.ab);
    EXPECT(t, "abc", false, s.a, s.bc); /* the higher score, not the first */
    EXPECT(t, "ddd", false, s.dd, s.d); /* the leftmost of equals */
    EXPECT(t, "ddddd", false, s.dd, s.dd, s.d);
    EXPECT(t, " a", false, s.space_a);
    EXPECT(t, " ab", false, s.space, s.ab); /* ab has the higher score, so " a" never comes about */
    EXPECT(t, "  ", false, s.space, s.space);
    EXPECT(t, SP "a", false, s.space_a); /* no difference from a space, as in SentencePiece */
    cf_tokenizer_free(t);
}

static void test_spm_prefix_and_bos(void **state) {
    (void)state;
    struct spm s = spm_vocabulary();
    struct cf_tokenizer *t = load(&s.v);
    EXPECT(t, "a", false, s.space_a);
    EXPECT(t, " a", false, s.space, s.space_a);
    expect_ids(t, "", 0, false, false, NULL, 0);
    expect_ids(t, "", 0, true, false, (uint32_t[]){1}, 1);
    expect_ids(t, "a", 1, true, false, (uint32_t[]){1, s.space_a}, 2);
    assert_true(cf_tokenizer_adds_bos(t));
    assert_int_equal(cf_tokenizer_bos(t), 1);
    assert_int_equal(cf_tokenizer_eos(t), 2);
    cf_tokenizer_free(t);
    s.v.add_bos = -1;
    t = load(&s.v);
    expect_ids(t, "a", 1, true, false, (uint32_t[]){s.space_a}, 1);
    cf_tokenizer_free(t);
}

static void test_spm_bytes(void **state) {
    (void)state;
    struct spm s = spm_vocabulary();
    s.v.add_space_prefix = -1;
    struct cf_tokenizer *t = load(&s.v);
    EXPECT(t, "\n", false, BYTE0 + 0x0a);
    EXPECT(t, "a\xc3\x9f", false, s.a, BYTE0 + 0xc3, BYTE0 + 0x9f);
    EXPECT(t, "\xc3\xa9", false, s.eacute);
    EXPECT(t,
        "a\xff"
        "b",
        false, s.a, BYTE0 + 0xff, s.b);
    EXPECT(t, "a\xc3", false, s.a, BYTE0 + 0xc3);
    EXPECT(t, "\xed\xa0\x80", false, BYTE0 + 0xed, BYTE0 + 0xa0, BYTE0 + 0x80); /* a surrogate */
    expect_ids(t, "a\0b", 3, false, false, (uint32_t[]){s.a, BYTE0, s.b}, 3);
    cf_tokenizer_free(t);
}

static void test_special(void **state) {
    (void)state;
    struct spm s = spm_vocabulary();
    struct cf_tokenizer *t = load(&s.v);
    /* A prefix space comes at the beginning and behind each special token. */
    EXPECT(t, "a</s>a", true, s.space_a, 2, s.space_a);
    EXPECT(t, "</s></s>", true, 2, 2);
    EXPECT(t, "a<USR>a", false, s.space_a, s.user, s.space_a);
    EXPECT(t, "<USR>xa", false, s.user_x, s.space_a); /* the longest */
    EXPECT(t, "<USR", true, s.space, BYTE0 + '<', BYTE0 + 'U', BYTE0 + 'S', BYTE0 + 'R');
    EXPECT(t, "<s>", false, s.space, BYTE0 + '<', BYTE0 + 's', BYTE0 + '>');
    EXPECT(t, "<|endoftext|>", true, s.endoftext);
    uint32_t *ids;
    size_t n;
    assert_int_equal(cf_tokenize(t, "<|endoftext|>", 13, false, false, &ids, &n, NULL), 0);
    assert_int_equal(n, 14); /* user-defined in the file, but a control token by its name */
    free(ids);
    assert_true(cf_tokenizer_is_end(t, 2));
    assert_true(cf_tokenizer_is_end(t, s.endoftext));
    assert_false(cf_tokenizer_is_end(t, s.user));
    assert_false(cf_tokenizer_is_end(t, UINT32_MAX));
    cf_tokenizer_free(t);
}

/* --- Byte-level BPE ------------------------------------------------------------------------------------------------
 */

static void test_bpe_merges(void **state) {
    (void)state;
    struct vocabulary v = {.model = "gpt2", .pre = "qwen2"};
    vocabulary_letters(&v);
    vocabulary_merge(&v, "b", "c");
    vocabulary_merge(&v, "a", "b");
    vocabulary_merge(&v, "a", "bc");
    vocabulary_merge(&v, "c", "\xc4\xa0");        /* across the border of words: never done */
    vocabulary_merge(&v, "\xc3\x83", "\xc2\xa9"); /* the letters of C3 and A9: one character, two bytes */
    uint32_t ab = vocabulary_find(&v, "ab"), abc = vocabulary_find(&v, "abc");
    uint32_t whole = vocabulary_add(&v, "xyz", 1, 0), eacute = vocabulary_find(&v, "\xc3\x83\xc2\xa9");
    uint32_t im_end = vocabulary_add(&v, "<|im_end|>", 3, 0);
    struct cf_tokenizer *t = load(&v);
    EXPECT(t, "ab", false, ab);
    EXPECT(t, "abc", false, abc);
    EXPECT(t, "abab", false, ab, ab);
    EXPECT(t, "c ab", false, 'c', ' ', ab);
    EXPECT(t, "xyz", false, 'x', 'y', 'z'); /* a token that no merges reach */
    EXPECT(t, "\xc3\xa9", false, eacute);
    EXPECT(t, "ab<|im_end|>", true, ab, im_end);
    /* What is no UTF-8 becomes single bytes, and separates words. */
    EXPECT(t,
        "a\xff"
        "b",
        false, 'a', 0xff, 'b');
    EXPECT(t, "ab\xc3", false, ab, 0xc3);
    EXPECT(t,
        "\xf0\x9f\x92"
        "ab",
        false, 0xf0, 0x9f, 0x92, ab);
    expect_ids(t, "ab", 2, true, false, (uint32_t[]){ab}, 1);
    assert_false(cf_tokenizer_adds_bos(t));
    assert_int_equal(cf_tokenizer_bos(t), -1);
    assert_true(cf_tokenizer_is_end(t, im_end));
    cf_tokenizer_free(t);
    v.pre = "llama-bpe"; /* ignores merges, and adds BOS where there is one */
    v.bos = im_end;
    t = load(&v);
    EXPECT(t, "xyz", false, whole);
    expect_ids(t, "ab", 2, true, false, (uint32_t[]){im_end, ab}, 2);
    cf_tokenizer_free(t);
    v.add_bos = -1;
    t = load(&v);
    expect_ids(t, "ab", 2, true, false, (uint32_t[]){ab}, 1);
    cf_tokenizer_free(t);
}

/* Merges whose parts or whole are no tokens count as merges, and come out as bytes; lines that are no merges do not. */
static void test_bpe_odd_merges(void **state) {
    (void)state;
    struct vocabulary v = {.model = "gpt2", .pre = "qwen2"};
    vocabulary_letters(&v);
    static const char *const lines[] = {"a", "", " ", "a ", "\xc4\xa0\xc4\xa0", "b c", "bc d", "a bcd"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        strcpy(v.merges[v.n_merges++], lines[i]);
    vocabulary_merge(&v, "c", "d"); /* after "b c" */
    uint32_t abcd = vocabulary_add(&v, "abcd", 1, 0), cd = vocabulary_find(&v, "cd");
    struct cf_tokenizer *t = load(&v);
    EXPECT(t, "abcd", false, abcd);
    EXPECT(t, "bcd", false, 'b', 'c', 'd');
    EXPECT(t, "cd", false, cd);
    cf_tokenizer_free(t);
}

/* A vocabulary that lacks the letter of a byte: the byte is lost, whatever the unknown token is. */
static void test_bpe_lost_bytes(void **state) {
    (void)state;
    struct vocabulary v = {.model = "gpt2", .pre = "qwen2"};
    uint32_t a = vocabulary_add(&v, "a", 1, 0), b = vocabulary_add(&v, "b", 1, 0);
    vocabulary_merge(&v, "a", "b");
    struct cf_tokenizer *t = load(&v);
    EXPECT(t, "axb", false, a, b);
    cf_tokenizer_free(t);
}

/* --- Gemma 4: BPE on characters ------------------------------------------------------------------------------------
 */

static void test_gemma4(void **state) {
    (void)state;
    struct vocabulary v = {.model = "gemma4", .add_bos = -1, .bos = 1};
    vocabulary_bytes(&v);
    uint32_t a = vocabulary_add(&v, "a", 1, 0), space = vocabulary_add(&v, SP, 1, 0);
    vocabulary_add(&v, "\n", 1, 0);
    uint32_t lines = vocabulary_add(&v, "\n\n", 1, 0), tool = vocabulary_add(&v, "<|tool_response>", 3, 0);
    vocabulary_merge(&v, "a", SP);
    vocabulary_merge(&v, "\xc3\xa9", SP);
    uint32_t a_space = vocabulary_find(&v, "a" SP), eacute_space = vocabulary_find(&v, "\xc3\xa9" SP);
    struct cf_tokenizer *t = load(&v);
    EXPECT(t, "a a", false, a_space, a); /* no words */
    EXPECT(t, "\n\na", false, lines, a); /* a token that no merges reach */
    EXPECT(t, "\xc3\xa9 ", false, eacute_space);
    EXPECT(t, "\xc3\xa9", false, BYTE0 + 0xc3, BYTE0 + 0xa9); /* part of a merge, but no token */
    EXPECT(t,
        " \xff"
        "a",
        false, space, BYTE0 + 0xff, a);
    expect_ids(t, "a", 1, true, false, (uint32_t[]){1, a}, 2); /* the file is not believed */
    char out[8];
    assert_int_equal(cf_token_bytes(t, a_space, false, out, sizeof out), 2);
    assert_memory_equal(out, "a ", 2);
    assert_true(cf_tokenizer_is_end(t, tool));
    assert_false(cf_tokenizer_is_end(t, 2)); /* </s> ends nothing here, and is a text like others */
    assert_int_equal(cf_token_bytes(t, 2, false, out, sizeof out), 4);
    cf_tokenizer_free(t);
}

/* --- What is refused -----------------------------------------------------------------------------------------------
 */

static void refuse(struct vocabulary *v, enum cf_code code, const char *word) {
    struct cf_tokenizer *t;
    struct cf_error e = {0};
    if (!vocabulary_load(v, &t, &e)) fail_msg("accepted; expected \"%s\"", word);
    assert_null(t);
    if (e.code != code || !strstr(e.text, word)) fail_msg("%s: %s", cf_code_name(e.code), e.text);
}

static void test_refusals(void **state) {
    (void)state;
    struct spm s = spm_vocabulary();
    struct vocabulary v = s.v;
    v.model = "unigram-of-mars";
    refuse(&v, CF_ERR_UNSUPPORTED, "unigram-of-mars");
    refuse(&v, CF_ERR_UNSUPPORTED, "llama, gpt2, gemma4, t5");
    v = s.v, v.model = NULL;
    refuse(&v, CF_ERR_FORMAT, "tokenizer.ggml.model");
    v = s.v, v.wrong_tokens = true;
    refuse(&v, CF_ERR_FORMAT, "tokenizer.ggml.tokens");
    v = s.v, v.lost_types = 1;
    refuse(&v, CF_ERR_FORMAT, "tokenizer.ggml.token_type");
    v = s.v, v.bos = v.n;
    refuse(&v, CF_ERR_FORMAT, "tokenizer.ggml.bos_token_id");
    v = s.v, v.scores[7] = (float)__builtin_nan("");
    refuse(&v, CF_ERR_FORMAT, "tokenizer.ggml.scores[7]");

    struct vocabulary b = {.model = "gpt2", .pre = "qwen2"};
    vocabulary_letters(&b);
    refuse(&b, CF_ERR_FORMAT, "tokenizer.ggml.merges is missing");
    vocabulary_merge(&b, "a", "b");
    v = b, v.pre = "martian";
    refuse(&v, CF_ERR_UNSUPPORTED, "martian");
    refuse(&v, CF_ERR_UNSUPPORTED, "llama-bpe");
    v = b, v.add_bos = 1;
    refuse(&v, CF_ERR_FORMAT, "bos_token_id");
    v = b, v.add_eos = 1;
    refuse(&v, CF_ERR_FORMAT, "eos_token_id");
}

/* --- Back to text --------------------------------------------------------------------------------------------------
 */

static void expect_push(struct cf_detok *d, const struct cf_tokenizer *t, uint32_t id, const char *text) {
    char out[1024];
    size_t n = cf_detok_push(d, t, id, true, out, sizeof out);
    if (n != strlen(text) || memcmp(out, text, n))
        fail_msg("token %u gave \"%.*s\", not \"%s\"", id, (int)n, out, text);
}

static void test_detok(void **state) {
    (void)state;
    struct spm s = spm_vocabulary();
    struct cf_tokenizer *t = load(&s.v);
    struct cf_detok d = {0};
    char out[1024];
    expect_push(&d, t, 1, "");          /* a control token shows nothing, and does not count as the first */
    expect_push(&d, t, s.space_a, "a"); /* the first loses its space */
    expect_push(&d, t, s.space_a, " a");
    expect_push(&d, t, BYTE0 + 0xf0, "");
    expect_push(&d, t, BYTE0 + 0x9f, "");
    expect_push(&d, t, BYTE0 + 0x92, "");
    expect_push(&d, t, BYTE0 + 0xa9, "\xf0\x9f\x92\xa9");
    expect_push(&d, t, BYTE0 + 0xff, "\xef\xbf\xbd");
    expect_push(&d, t, BYTE0 + 0xe2, "");
    expect_push(&d, t, s.b,
        "\xef\xbf\xbd"
        "b"); /* the character never came */
    expect_push(&d, t, s.user, "<USR>");
    assert_int_equal(cf_detok_flush(&d, out, sizeof out), 0);
    expect_push(&d, t, BYTE0 + 0xe2, "");
    expect_push(&d, t, BYTE0 + 0x96, "");
    assert_int_equal(cf_detok_flush(&d, out, sizeof out), 3);
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
    assert_int_equal(cf_detok_flush(&d, out, sizeof out), 0);
    d = (struct cf_detok){0};
    assert_int_equal(cf_detok_push(&d, t, s.space_a, false, out, sizeof out), 2); /* in the middle of a text */
    assert_int_equal(cf_token_bytes(t, 1, true, out, sizeof out), 3);
    assert_int_equal(cf_token_bytes(t, 1, false, out, sizeof out), 0);
    assert_int_equal(cf_token_bytes(t, s.space_a, false, out, 1), 2); /* told the length, written one byte */
    assert_int_equal(cf_token_bytes(t, 1u << 30, true, out, sizeof out), 0);
    cf_tokenizer_free(t);
}

static void test_detok_bpe(void **state) {
    (void)state;
    struct vocabulary v = {.model = "gpt2", .pre = "qwen2"};
    vocabulary_letters(&v);
    vocabulary_merge(&v, "\xc4\xa0", "a");                   /* U+0120 is the letter of a space */
    uint32_t odd = vocabulary_add(&v, "\xe6\x97\xa5", 1, 0); /* not letters: given out as it is */
    struct cf_tokenizer *t = load(&v);
    struct cf_detok d = {0};
    expect_push(&d, t,
        vocabulary_find(&v, "\xc4\xa0"
                            "a"),
        " a");
    expect_push(&d, t, 0xc3, "");
    expect_push(&d, t, 0xa9, "\xc3\xa9");
    expect_push(&d, t, odd, "\xe6\x97\xa5");
    for (unsigned b = 0; b < 256; b++) {
        char byte;
        assert_int_equal(cf_token_bytes(t, b, false, &byte, 1), 1);
        assert_int_equal((unsigned char)byte, b);
    }
    cf_tokenizer_free(t);
}

/* --- Long texts ----------------------------------------------------------------------------------------------------
 */

static void long_text(const struct cf_tokenizer *t, const char *pattern) {
    char *text = malloc(MEGABYTE);
    assert_non_null(text);
    size_t length = strlen(pattern);
    for (size_t i = 0; i < MEGABYTE; i++)
        text[i] = pattern[i % length];
    uint32_t *ids;
    size_t n;
    struct cf_error e = {0};
    clock_t begin = clock();
    if (cf_tokenize(t, text, MEGABYTE, false, true, &ids, &n, &e)) fail_msg("\"%s\": %s", pattern, e.text);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    if (seconds > MAX_SECONDS) fail_msg("\"%s\" took %.1f s", pattern, seconds);
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        char buf[64];
        bytes += cf_token_bytes(t, ids[i], true, buf, sizeof buf);
    }
    assert_in_range(bytes, MEGABYTE, MEGABYTE + 1); /* nothing is lost; a leading space may come */
    free(ids);
    free(text);
}

static void test_long_texts(void **state) {
    (void)state;
    static const char *const patterns[] = {" ", "a", "d", "\n", "'", "1", "<", "\xff", " \n", "a\xff ", "\xc2\xa0"};
    struct spm s = spm_vocabulary();
    vocabulary_add(&s.v, "dddd", 1, -4);
    vocabulary_add(&s.v, SP SP, 1, -4);
    struct vocabulary b = {.model = "gpt2", .pre = "llama-bpe"};
    vocabulary_letters(&b);
    vocabulary_merge(&b, "a", "a");
    vocabulary_merge(&b, "aa", "aa");
    vocabulary_merge(&b, "\xc4\xa0", "\xc4\xa0");
    vocabulary_add(&b, "<<", 3, 0);
    struct cf_tokenizer *spm = load(&s.v), *llama = load(&b), *gpt2, *coder;
    b.pre = "gpt-2", gpt2 = load(&b);
    b.pre = "deepseek-coder", coder = load(&b);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        long_text(spm, patterns[i]);
        long_text(llama, patterns[i]);
        long_text(gpt2, patterns[i]);
        long_text(coder, patterns[i]);
    }
    cf_tokenizer_free(spm);
    cf_tokenizer_free(llama);
    cf_tokenizer_free(gpt2);
    cf_tokenizer_free(coder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spm_merges),
        cmocka_unit_test(test_spm_prefix_and_bos),
        cmocka_unit_test(test_spm_bytes),
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_bpe_merges),
        cmocka_unit_test(test_bpe_odd_merges),
        cmocka_unit_test(test_bpe_lost_bytes),
        cmocka_unit_test(test_gemma4),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_detok),
        cmocka_unit_test(test_detok_bpe),
        cmocka_unit_test(test_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
