/* The unigram model of SentencePiece ("t5"), on a vocabulary and a normaliser made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/vocabulary.h"

#define SP "\xe2\x96\x81"

struct unigram {
    struct vocabulary v;
    uint32_t space, a, b, ab, aab, user;
};

static struct unigram unigram(void) {
    struct unigram u = {.v = {.model = "t5", .add_eos = -1}};
    vocabulary_add(&u.v, "<pad>", 3, 0);
    vocabulary_add(&u.v, "</s>", 3, 0);
    vocabulary_add(&u.v, "<unk>", 2, 0);
    u.space = vocabulary_add(&u.v, SP, 1, -2);
    u.a = vocabulary_add(&u.v, "a", 1, -2);
    u.b = vocabulary_add(&u.v, "b", 1, -2);
    u.ab = vocabulary_add(&u.v, "ab", 1, -2.5f);
    u.aab = vocabulary_add(&u.v, "aab", 1, -5);
    u.user = vocabulary_add(&u.v, "bb", 4, -100);
    return u;
}

static struct cf_tokenizer *load(struct vocabulary *v) {
    struct cf_tokenizer *t;
    struct cf_error e;
    if (vocabulary_load(v, &t, &e)) fail_msg("%s", e.text);
    return t;
}

static void expect_ids(
    const struct cf_tokenizer *t, const char *text, bool add, const uint32_t *expected, size_t n_expected) {
    uint32_t *ids;
    size_t n;
    struct cf_error e;
    if (cf_tokenize(t, text, strlen(text), add, false, &ids, &n, &e)) fail_msg("%s", e.text);
    bool same = n == n_expected && (!n || !memcmp(ids, expected, n * sizeof *ids));
    if (!same) fail_msg("\"%s\" became %zu tokens, the first %u", text, n, n ? ids[0] : 0);
    free(ids);
}
#define EXPECT(t, text, ...)                                                                                           \
    expect_ids(t, text, false, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

static void test_division(void **state) {
    (void)state;
    struct unigram u = unigram();
    struct cf_tokenizer *t = load(&u.v);
    EXPECT(t, "ab", u.ab);
    EXPECT(t, "aab", u.a, u.ab); /* -4.5 is more than -5 */
    EXPECT(t, "aaab", u.a, u.a, u.ab);
    EXPECT(t, "a b", u.a, u.space, u.b);
    EXPECT(t, "a  b", u.a, u.space, u.space, u.b);
    EXPECT(t, "axyb", u.a, 2, u.b); /* a run that is unknown is one token */
    EXPECT(t, "x", 2);
    EXPECT(t, "abb", u.a, u.user); /* matched before all else, whatever its score */
    EXPECT(t, "a\xff", u.a, 2);
    expect_ids(t, "", false, NULL, 0);
    cf_tokenizer_free(t);
    u.v.add_eos = 0; /* the default of this kind */
    t = load(&u.v);
    expect_ids(t, "a", true, (const uint32_t[]){u.a, 1}, 2);
    cf_tokenizer_free(t);
}

static void test_spaces(void **state) {
    (void)state;
    struct unigram u = unigram();
    u.v.add_space_prefix = 1;
    struct cf_tokenizer *t = load(&u.v);
    EXPECT(t, "a", u.space, u.a);
    EXPECT(t, "a b", u.space, u.a, u.space, u.b);
    cf_tokenizer_free(t);
    u.v.merge_spaces = 1; /* remove_extra_whitespaces */
    t = load(&u.v);
    EXPECT(t, "  a   b  ", u.space, u.a, u.space, u.b);
    cf_tokenizer_free(t);
}

/* A double array with three entries: "A" becomes "a", "AB" becomes "b" and "C" becomes nothing. Node 0 is the root, its
 * children lie at 256 xor their byte; the node of "A" has its value at 1280 and its child at 1280 xor 'B'. */
static void put(uint8_t *map, uint32_t node, uint32_t value) {
    for (int i = 0; i < 4; i++)
        map[4 + node * 4 + (uint32_t)i] = (uint8_t)(value >> 8 * i);
}

enum { NODES = 2048, LEAF = 1 << 8, VALUE = 1u << 31 };

static size_t make_map(uint8_t *map) {
    static const char texts[] = "a\0b\0"; /* and a NUL: places 0, 2 and 4 */
    uint32_t a = 256 ^ 'A', below_a = 1280, ab = below_a ^ 'B', c = 256 ^ 'C';
    uint32_t value_ab = 1600, value_c = 1700;
    memset(map, 0, 4 + NODES * 4);
    map[0] = (uint8_t)(NODES * 4 & 0xff), map[1] = NODES * 4 >> 8;
    put(map, 0, 256u << 10);
    put(map, a, (a ^ below_a) << 10 | LEAF | 'A');
    put(map, below_a, VALUE | 0);
    put(map, ab, (ab ^ value_ab) << 10 | LEAF | 'B');
    put(map, value_ab, VALUE | 2);
    put(map, c, (c ^ value_c) << 10 | LEAF | 'C');
    put(map, value_c, VALUE | 4);
    memcpy(map + 4 + NODES * 4, texts, sizeof texts);
    return 4 + NODES * 4 + sizeof texts;
}

static void test_normaliser(void **state) {
    (void)state;
    static uint8_t map[4 + NODES * 4 + 8];
    struct unigram u = unigram();
    u.v.charsmap = map;
    u.v.n_charsmap = make_map(map);
    struct cf_tokenizer *t = load(&u.v);
    EXPECT(t, "AxAB", u.a, 2, u.b); /* the longest beginning */
    EXPECT(t, "aCbA", u.ab, u.a);
    cf_tokenizer_free(t);
    struct cf_error e;
    map[u.v.n_charsmap - 1] = 'x'; /* the last text has no end */
    assert_int_equal(vocabulary_load(&u.v, &t, &e), -1);
    assert_non_null(strstr(e.text, "precompiled_charsmap"));
    map[u.v.n_charsmap - 1] = 0, map[3] = 1; /* more nodes than there are bytes */
    assert_int_equal(vocabulary_load(&u.v, &t, &e), -1);
    map[3] = 0;
    put(map, 256 ^ 'A', 0x7ffffc00 | LEAF | 'A'); /* a way out of the array */
    put(map, 1700, VALUE | 1000);                 /* and one out of the texts */
    t = load(&u.v);
    EXPECT(t, "AC", 2);
    cf_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_division),
        cmocka_unit_test(test_spaces),
        cmocka_unit_test(test_normaliser),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
