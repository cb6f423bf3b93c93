/* What of an answer is thinking, with the answer arriving in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/chat/answer.h"

struct shown {
    char text[512]; /* content as it is, thinking in braces */
    size_t n;
    enum cf_chat_kind kind;
};

static void put(struct shown *s, const char *bytes, size_t n) {
    assert_true(s->n + n < sizeof s->text);
    memcpy(s->text + s->n, bytes, n);
    s->text[s->n += n] = '\0';
}

static int on_piece(void *ctx, enum cf_chat_kind kind, const char *bytes, size_t n, struct cf_error *e) {
    struct shown *s = ctx;
    (void)e;
    assert_true(n > 0);
    if (kind != s->kind) put(s, kind == CF_CHAT_THINKING ? "{" : "}", 1);
    s->kind = kind;
    put(s, bytes, n);
    return 0;
}

/* Control tokens stand in the text between two $. */
static void feed(struct cf_chat_answer *a, const char *text, size_t step) {
    struct cf_error e;
    while (*text) {
        size_t n = strcspn(text, "$");
        if (*text == '$') {
            n = strcspn(text + 1, "$");
            assert_int_equal(cf_chat_answer_token(a, text + 1, n, &e), 0);
            text += n + 2;
            continue;
        }
        if (n > step) n = step;
        assert_int_equal(cf_chat_answer_text(a, text, n, &e), 0);
        text += n;
    }
    assert_int_equal(cf_chat_answer_end(a, &e), 0);
}

struct wanted {
    const char *form, *end, *text, *shown, *content, *thinking;
    bool marked, ended, raw;
};

static void check(const struct wanted *w) {
    for (size_t step = 1; step < 70; step++) {
        struct shown s = {.kind = CF_CHAT_CONTENT};
        struct cf_chat_answer a = {.end = w->end, .raw = w->raw, .piece = on_piece, .ctx = &s};
        cf_chat_answer_begin(&a, cf_chat_form_by_name(w->form));
        feed(&a, w->text, step);
        if (strcmp(s.text, w->shown) != 0)
            fail_msg("%s in steps of %zu shows %s, not %s", w->text, step, s.text, w->shown);
        assert_string_equal(a.content.n ? a.content.text : "", w->content);
        assert_string_equal(a.thinking.n ? a.thinking.text : "", w->thinking);
        assert_int_equal(a.marked, w->marked);
        assert_int_equal(a.ended, w->ended);
        cf_chat_answer_free(&a);
    }
}

static const struct wanted blocks[] = {
    {.form = "chatml", .text = " Hello \n", .shown = " Hello \n", .content = " Hello \n", .thinking = ""},
    {.form = "chatml",
        .text = "<think>\nLet me see.\n\nYes.\n</think>\n\nHi <think>x</think>\n",
        .shown = "{Let me see.\n\nYes.}Hi <think>x</think>\n",
        .content = "Hi <think>x</think>\n",
        .thinking = "Let me see.\n\nYes.",
        .marked = true},
    {.form = "chatml", .text = "\n <think></think> ok", .shown = "ok", .content = "ok", .thinking = "", .marked = true},
    {.form = "chatml",
        .text = "<think>never ends ",
        .shown = "{never ends",
        .content = "",
        .thinking = "never ends",
        .marked = true},
    {.form = "chatml",
        .text = "<think>a</thin</think>b",
        .shown = "{a</thin}b",
        .content = "b",
        .thinking = "a</thin",
        .marked = true},
    {.form = "chatml", .text = "<thinker>", .shown = "<thinker>", .content = "<thinker>", .thinking = ""},
    {.form = "chatml", .text = "<thi", .shown = "<thi", .content = "<thi", .thinking = ""},
    {.form = "chatml", .text = "  ", .shown = "  ", .content = "  ", .thinking = ""},
    {.form = "chatml", .text = "x <think>y", .shown = "x <think>y", .content = "x <think>y", .thinking = ""},
    {.form = "mistral-v7-tekken",
        .text = "[THINK]a[/THINK]b",
        .shown = "{a}b",
        .content = "b",
        .thinking = "a",
        .marked = true},
    {.form = "seed_oss",
        .text = "<seed:think>a</seed:think>b",
        .shown = "{a}b",
        .content = "b",
        .thinking = "a",
        .marked = true},
    {.form = "command-r",
        .text = "$<|START_THINKING|>$a $<|END_THINKING|>$$<|START_RESPONSE|>$b",
        .shown = "{a}b",
        .content = "b",
        .thinking = "a",
        .marked = true},
    {.form = "bailing-think", .text = "a</think>b", .shown = "{a}b", .content = "b", .thinking = "a", .marked = true},
    {.form = "chatml", .text = "$<|x|>$hi$<|y|>$", .shown = "hi", .content = "hi", .thinking = ""},
    {.form = "chatml",
        .text = "<think>a</think>b",
        .raw = true,
        .shown = "<think>a</think>b",
        .content = "<think>a</think>b",
        .thinking = ""},
    {.form = "chatml",
        .text = "                                                                                hi",
        .shown = "                                                                                hi",
        .content = "                                                                                hi",
        .thinking = ""},
};

static const struct wanted channels[] = {
    {.form = "gpt-oss",
        .text = "$<|channel|>$analysis$<|message|>$Let me "
                "see.$<|end|>$$<|start|>$assistant$<|channel|>$final$<|message|>$Hi",
        .shown = "{Let me see.}Hi",
        .content = "Hi",
        .thinking = "Let me see.",
        .marked = true},
    {.form = "gpt-oss",
        .text =
            "$<|channel|>$commentary to=f$<|constrain|>$json$<|message|>$1$<|end|>$$<|start|>$assistant$<|message|>$2",
        .shown = "{1}2",
        .content = "2",
        .thinking = "1",
        .marked = true},
    {.form = "gpt-oss", .text = "$<|message|>$Hi", .shown = "Hi", .content = "Hi", .thinking = "", .marked = true},
    {.form = "gpt-oss",
        .text =
            "$<|channel|>$analysis$<|message|>$Hm. <|end|>$<|start|>$assistant$<|channel|>$final$<|message|>$Hi <|en",
        .shown = "{Hm.}Hi <|en",
        .content = "Hi <|en",
        .thinking = "Hm.",
        .marked = true},
    {.form = "gpt-oss", .text = "Hi <think>", .shown = "Hi <think>", .content = "Hi <think>", .thinking = ""},
};

static const struct wanted ends[] = {
    {.form = "chatml",
        .end = "<|im_end|>",
        .text = "Hi<|im_end|> more",
        .shown = "Hi",
        .content = "Hi",
        .thinking = "",
        .ended = true},
    {.form = "chatml",
        .end = "<|im_end|>",
        .text = "Hi<|im_<|im_en<|im_end|>x",
        .shown = "Hi<|im_<|im_en",
        .content = "Hi<|im_<|im_en",
        .thinking = "",
        .ended = true},
    {.form = "chatml",
        .end = "<|im_end|>",
        .text = "Hi<|im_end|",
        .shown = "Hi<|im_end|",
        .content = "Hi<|im_end|",
        .thinking = ""},
    {.form = "chatml",
        .end = "aab",
        .text = "caaaabd",
        .shown = "caa",
        .content = "caa",
        .thinking = "",
        .ended = true},
};

#define TEST(table)                                                                                                    \
    static void test_##table(void **state) {                                                                           \
        (void)state;                                                                                                   \
        for (size_t i = 0; i < sizeof table / sizeof *table; i++)                                                      \
            check(&table[i]);                                                                                          \
    }
TEST(blocks)
TEST(channels)
TEST(ends)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks), cmocka_unit_test(test_channels), cmocka_unit_test(test_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
