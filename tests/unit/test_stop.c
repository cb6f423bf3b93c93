/* Stop strings across tokens: what comes out, and when. Also against the plain way, on random texts cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/sample/stop.h"
#include "tests/random.h"

struct text {
    char bytes[4096];
    size_t n;
};

static int collect(void *ctx, const char *bytes, size_t n, struct cf_error *e) {
    struct text *t = ctx;
    (void)e;
    assert_true(n > 0 && n < sizeof t->bytes - t->n);
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
    t->bytes[t->n] = '\0';
    return 0;
}

static struct cf_stop *make(const char *const *strings, size_t n) {
    struct cf_stop *s;
    struct cf_error e;
    if (cf_stop_new(&s, strings, n, &e)) fail_msg("%s", e.text);
    return s;
}

/* Pushes, and says what has come out by then. */
static const char *push(struct cf_stop *s, struct text *t, const char *bytes) {
    struct cf_error e;
    assert_int_equal(cf_stop_push(s, bytes, strlen(bytes), collect, t, &e), 0);
    return t->bytes;
}

static void test_across_tokens(void **state) {
    (void)state;
    struct cf_stop *s = make((const char *const[]){"\nUser:", "</s>"}, 2);
    struct text t = {0};
    struct cf_error e;
    assert_string_equal(push(s, &t, "Hello"), "Hello");
    assert_string_equal(push(s, &t, ".\nUs"), "Hello.");
    assert_string_equal(push(s, &t, "eful"), "Hello.\nUseful"); /* it was none */
    assert_string_equal(push(s, &t, "<"), "Hello.\nUseful");
    assert_string_equal(push(s, &t, "<"), "Hello.\nUseful<"); /* the first cannot be it any more */
    assert_string_equal(push(s, &t, "/\nUser"), "Hello.\nUseful<</");
    assert_null(cf_stop_met(s));
    assert_string_equal(push(s, &t, ": and more"), "Hello.\nUseful<</");
    assert_string_equal(cf_stop_met(s), "\nUser:");
    assert_string_equal(push(s, &t, "ignored"), "Hello.\nUseful<</");
    assert_int_equal(cf_stop_flush(s, collect, &t, &e), 0);
    assert_string_equal(t.bytes, "Hello.\nUseful<</");
    cf_stop_reset(s);
    t.n = 0, t.bytes[0] = '\0';
    push(s, &t, "end </");
    assert_string_equal(t.bytes, "end ");
    assert_int_equal(cf_stop_flush(s, collect, &t, &e), 0); /* the text ends there */
    assert_string_equal(t.bytes, "end </");
    assert_null(cf_stop_met(s));
    cf_stop_free(s);
}

static void test_overlaps(void **state) {
    (void)state;
    struct text t = {0};
    struct cf_stop *s = make((const char *const[]){"aab"}, 1);
    assert_string_equal(push(s, &t, "aaaa"), "aa"); /* the last two may still become it */
    assert_string_equal(push(s, &t, "b"), "aa");
    assert_non_null(cf_stop_met(s));
    cf_stop_free(s);
    s = make((const char *const[]){"bc", "abcd", "abc"}, 3); /* two end at the c: the longer one counts */
    t.n = 0, t.bytes[0] = '\0';
    assert_string_equal(push(s, &t, "xabcd"), "x");
    assert_string_equal(cf_stop_met(s), "abc");
    cf_stop_free(s);
    s = make((const char *const[]){"abcd", "bce"}, 2); /* one dies, the other goes on inside it */
    t.n = 0, t.bytes[0] = '\0';
    assert_string_equal(push(s, &t, "abc"), "");
    assert_string_equal(push(s, &t, "e"), "a");
    cf_stop_free(s);
    s = make(NULL, 0);
    t.n = 0;
    assert_string_equal(push(s, &t, "all of it"), "all of it");
    cf_stop_free(s);
    cf_stop_free(NULL);
}

static void test_refusals(void **state) {
    (void)state;
    struct cf_stop *s;
    struct cf_error e;
    assert_int_equal(cf_stop_new(&s, (const char *const[]){"a", ""}, 2, &e), -1);
    assert_int_equal(e.code, CF_ERR_USAGE);
    assert_null(s);
}

/* The first end of any string; of those the longest. */
static size_t plain(const char *text, const char *const *strings, size_t n) {
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n; i++) {
            size_t length = strlen(strings[i]);
            if (length <= end && !memcmp(text + end - length, strings[i], length) && length > longest) longest = length;
        }
        if (longest) return end - longest;
    }
    return strlen(text);
}

static void test_random(void **state) {
    (void)state;
    uint64_t r = 3;
    for (int round = 0; round < 3000; round++) {
        char words[3][8], text[64] = "";
        const char *strings[3];
        for (int i = 0; i < 3; i++) {
            size_t length = 1 + cf_random_below(&r, 6);
            for (size_t k = 0; k < length; k++)
                words[i][k] = (char)('a' + cf_random_below(&r, 2));
            words[i][length] = '\0';
            strings[i] = words[i];
        }
        size_t n = 1 + cf_random_below(&r, 3), length = cf_random_below(&r, 60);
        for (size_t k = 0; k < length; k++)
            text[k] = (char)('a' + cf_random_below(&r, round % 2 ? 2 : 3));
        struct cf_stop *s = make(strings, n);
        struct cf_error e;
        struct text t = {0};
        for (size_t at = 0; at < length;) {
            size_t part = 1 + cf_random_below(&r, 5);
            if (part > length - at) part = length - at;
            assert_int_equal(cf_stop_push(s, text + at, part, collect, &t, &e), 0);
            at += part;
        }
        assert_int_equal(cf_stop_flush(s, collect, &t, &e), 0);
        size_t want = plain(text, strings, n);
        assert_int_equal(t.n, want);
        assert_memory_equal(t.bytes, text, want);
        assert_int_equal(cf_stop_met(s) != NULL, want < length);
        cf_stop_free(s);
    }
}

/* More than a piece at once. */
static void test_long(void **state) {
    (void)state;
    static struct text t;
    static char text[3001];
    memset(text, 'x', 3000);
    struct cf_stop *s = make((const char *const[]){"xy"}, 1);
    push(s, &t, text);
    assert_int_equal(t.n, 2999);
    cf_stop_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_across_tokens), cmocka_unit_test(test_overlaps),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_random), cmocka_unit_test(test_long)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
