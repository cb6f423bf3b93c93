/* Pre-tokenizers: the words that each family makes of a text, as the expression in its tokenizer.json says (worked out
 * by hand, and the same as llama.cpp's on the same text).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "coordinator/text/bpe/words.h"

enum { LONG = 1 << 18, MAX_SECONDS = 20 }; /* a quadratic expression takes hours, a sanitizer some seconds */

static struct cf__words *words_of(const char *name) {
    const struct cf__pretokenizer *pre = cf__pretokenizer_find(name);
    struct cf__words *w;
    struct cf_error e;
    if (!pre) fail_msg("%s is unknown", name);
    if (cf__words_new(&w, pre, &e)) fail_msg("%s", e.text);
    return w;
}

/* The words joined are the text. */
static void check_split(const char *name, const char *const *expected) {
    struct cf__words *w = words_of(name);
    struct cf__cutter c;
    struct cf_error e;
    char text[512] = "";
    for (const char *const *x = expected; *x; x++)
        strcat(text, *x);
    if (cf__cutter_open(&c, w, strlen(text), &e) || cf__cutter_cut(&c, text, strlen(text), &e)) fail_msg("%s", e.text);
    for (size_t i = 0, begin = 0; expected[i]; begin = c.cuts.ends[i++]) {
        size_t length = i < c.cuts.n ? c.cuts.ends[i] - begin : 0;
        if (length != strlen(expected[i]) || memcmp(text + begin, expected[i], length))
            fail_msg("%s: word %zu of \"%s\" is \"%.*s\" and not \"%s\"", name, i, text, (int)length, text + begin,
                expected[i]);
    }
    cf__cutter_close(&c);
    cf__words_free(w);
}
#define SPLIT(name, ...) check_split(name, (const char *const[]){__VA_ARGS__, NULL})

#define ZH "\xe6\x97\xa5\xe6\x9c\xac"    /* two Chinese characters */
#define KANA "\xe3\x81\x82\xe3\x82\xa2"  /* hiragana and katakana a */
#define HINDI "\xe0\xa4\xb9\xe0\xa4\xbf" /* ha and the mark for i */
#define NBSP "\xc2\xa0"                  /* white space beyond ASCII */
#define ACUTE "\xcc\x81"                 /* a combining mark */
#define E_ACUTE "\xc3\xa9"
#define CAPITAL_E_ACUTE "\xc3\x89"
#define SQUARED "\xc2\xb2" /* a number, but no digit */

static void test_llama3_and_qwen2(void **state) {
    (void)state;
    SPLIT("llama-bpe", "Hello", " world", "'s", " ", "123", "45", " x");
    SPLIT("llama-bpe", "a", "\n\n", " ", " b", "!!\n\n", "c"); /* ends of line stay with what is before them */
    SPLIT("llama-bpe", "a", "  \n", "\tb", "  ");              /* one character of any other kind goes with letters */
    SPLIT("glm4", "x", " ", "123", "4", "'RE", " y");
    SPLIT("qwen2", "Hello", " world", "'s", " ", "1", "2", "3", "4", "5", " x");
    SPLIT("qwen2", "I", "'LL", " go", ",", " you", "'Ve", " '", "quoted"); /* contractions in any case */
    SPLIT("qwen2", E_ACUTE "ta", "\xe2\x82\xac" ZH);                       /* letters beyond ASCII */
    SPLIT("qwen2", "x", NBSP, " y");
    SPLIT("qwen2", "a", " \xe1\xa0\x8e!"); /* U+180E is no white space, whatever PCRE2's \s says */
    SPLIT("qwen2", "a",
        "'\xc5\xbf"
        "b"); /* the long s makes no contraction */
    SPLIT("qwen2", "\xe0\xa4\xb9", "\xe0\xa4\xbf");
    SPLIT("qwen35", HINDI, " e" ACUTE, "1", "2");    /* marks are parts of words */
    SPLIT("laguna", "a", " ", "\n", " b", "1", "2"); /* a line and its end are apart */
    SPLIT("minicpm5", "a", "123", "45", " b");
    SPLIT("seed-coder", "a", " !?", "\n", "b", "1", "2"); /* ends of line do not stay with what is before them */
    SPLIT("bailingmoe", "a", "!!\n\n", " \n\n", "b", "'LL", "1", "2");
    SPLIT("ufakzeka", "Ankara", "'da", " I", "'ll");
    SPLIT("jais-2", "a", "    ", " ", " b");
}

static void test_gpt2(void **state) {
    (void)state;
    SPLIT("gpt-2", "Hello", " world", "'s", " 12345", " x", "!?", "\n");
    SPLIT("gpt-2", "I", "'", "LL", " go"); /* contractions in small letters only */
    SPLIT("mpt", "a", "  ", " b", "\n\n", "\n", "c");
    SPLIT("smollm", "Hello", " ", "1", "2", " x");
    SPLIT("starcoder", "x", "1", "0", " =", " ", "2");
    SPLIT("command-r", "a", "  ", " b", "1", "2");
    SPLIT("refact", "f", "(", "1", ")");
    SPLIT("falcon", "a", "--", "b", " ", "=", " ", "123", "45", "'", "s"); /* punctuation stands alone first */
    SPLIT("default", "a", " ", "==", "123", "45");
    SPLIT("viking", "Hei", ",", " maailma", " ", "1", "2", "!");
    SPLIT("bloom", "a", ".", " b12", "\xe3\x80\x82", "c");
    SPLIT("chameleon", "IMGIMGABZ", "IMGIMGCZ", "x", "    ", "  ", "1", "!", "!");
}

static void test_deepseek(void **state) {
    (void)state;
    SPLIT("deepseek-llm", "Hello", " world", " !!", "\n", "\n", " ", "123", ZH, "x", "  ");
    SPLIT("deepseek-llm", "a", ZH, "\xe3\x80\x82", "12", E_ACUTE); /* an ideographic full stop */
    SPLIT("deepseek-coder", "if", " x", "==", "1", "2", ":", "\n", "\t", "\ty", "()");
    SPLIT("deepseek-v3", "Hello", " world", "123", "4", ZH KANA, ".toString", "();\n\n", " ", " x");
    SPLIT("deepseek-v3", HINDI, "'s", " e" ACUTE);
    SPLIT("hunyuan-dense", "123", "45", " a", "_b");
    SPLIT("spark2_5", "1", "2", "a", ";", "\n", "\n", "b");
    SPLIT("afmoe", "a", "1", "234", "567", " b", ZH, "x", "89");
    SPLIT("youtu", ZH KANA, "\xef\xbc\x81", "camelCase's", "1", "2", "//\n");
}

static void test_o200k(void **state) {
    (void)state;
    SPLIT("gpt-4o", "get", "URLName's", " ", "123", "45", " HTTPServer'LL", " //\n/", "x");
    SPLIT("llama4", "my", "Var", " IPhone", "\xe2\x82\xac" E_ACUTE CAPITAL_E_ACUTE); /* no case beyond ASCII */
    SPLIT("tekken", "get", "URLName", "'s", " ", "1", "2", "//\n");
    SPLIT("granite-embed-multi-97m", HINDI, " e" ACUTE "x", "Y", "123", "4");
    SPLIT("tiny_aya", "x", "1", "234", "567", " camelCase's", HINDI);
    SPLIT("kimi-k2", ZH, "abc's", ZH, " ", "123", "4", " !?\n", "\xe3\x81\x82");
    SPLIT("exaone-moe", "one two three", " ", " four");
    SPLIT("superbpe", "ab ", "12", "345");
}

static void test_characters(void **state) {
    (void)state;
    SPLIT("gemma4", "a b  c", "\n\n", " d");
    SPLIT("sarvam-moe", "\n", "a b");
    assert_true(cf__pretokenizer_find("gemma4")->raw);
    assert_null(cf__pretokenizer_find("martian"));
}

/* Every family on long texts of one kind: in time, and nothing is lost. */
static void test_long_texts(void **state) {
    (void)state;
    static const char *const patterns[] = {
        " ", "a", "A", "aB", "1", "\n", "'", "!", " \n", "a ", ZH, HINDI, NBSP, "/", SQUARED};
    char names[1024], *text = malloc(LONG);
    assert_non_null(text);
    cf__pretokenizer_names(names, sizeof names);
    for (char *rest = NULL, *name = strtok_r(names, ", ", &rest); name; name = strtok_r(NULL, ", ", &rest)) {
        struct cf__words *w = words_of(name);
        for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
            size_t n = strlen(patterns[p]), length = LONG / n * n;
            for (size_t i = 0; i < length; i++)
                text[i] = patterns[p][i % n];
            text[length - n] = n == 1 ? 'x' : text[length - n]; /* behind a long run comes something else */
            struct cf__cutter c;
            struct cf_error e;
            clock_t begin = clock();
            if (cf__cutter_open(&c, w, length, &e) || cf__cutter_cut(&c, text, length, &e))
                fail_msg("%s on \"%s\": %s", name, patterns[p], e.text);
            double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
            if (seconds > MAX_SECONDS) fail_msg("%s on \"%s\" took %.1f s", name, patterns[p], seconds);
            assert_int_equal(c.cuts.ends[c.cuts.n - 1], length);
            cf__cutter_close(&c);
        }
        cf__words_free(w);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama3_and_qwen2),
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_deepseek),
        cmocka_unit_test(test_o200k),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
