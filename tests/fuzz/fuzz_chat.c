/* Fuzz target: hostile templates, conversations and answers.
 *
 * The first byte picks the form, the second the flags (bit 0: BOS); the rest is cut at 0x1f into messages, whose first
 * byte is the role. Checked: the parts are all of the text; the ids are the text; and people's words are never special
 * tokens: there are exactly as many as in the same conversation without words. The same bytes are then a Jinja text to
 * recognise, and an answer, which must be read alike in one piece and in many.
 */
#include <stdint.h>
#include <stdlib.h>

#include "coordinator/chat/answer.h"
#include "coordinator/chat/render.h"
#include "tests/unit/vocabulary.h"

enum { MAX_FORMS = 128, MAX_MESSAGES = 64, SEPARATOR = 0x1f };

struct world {
    struct cf_tokenizer *plain, *with_bos;
    const struct cf_chat_form *forms[MAX_FORMS];
    size_t n_forms;
    uint32_t first_special, first_user;
};

static struct cf_tokenizer *make(bool bos, uint32_t *first_special, uint32_t *first_user) {
    static const char *const controls[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "[INST]",
        "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<|start|>", "<|end|>", "<|channel|>", "<|message|>",
        "<|return|>", "<|user|>", "<|assistant|>", "<|system|>", "[gMASK]", "<sop>", "<|eot_id|>",
        "<|start_header_id|>", "<|end_header_id|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"};
    static const char *const users[] = {"<start_of_turn>", "<end_of_turn>", "\n\n"}; /* as some files have them */
    struct vocabulary v = {.model = "gpt2"};
    struct cf_tokenizer *t;
    struct cf_error e;
    vocabulary_letters(&v);
    vocabulary_merge(&v, "a", "b");
    vocabulary_merge(&v, "<", "|");
    *first_special = v.n;
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
        vocabulary_add(&v, controls[i], 3, 0);
    *first_user = v.n;
    for (size_t i = 0; i < sizeof users / sizeof *users; i++)
        vocabulary_add(&v, users[i], 4, 0);
    v.bos = *first_special;
    v.add_bos = bos ? 1 : -1;
    if (!vocabulary_load(&v, &t, &e)) return t;
    fprintf(stderr, "%s\n", e.text);
    abort();
}

static void prepare(struct world *w) {
    static char names[2048];
    char *rest = NULL;
    cf_chat_form_names(names, sizeof names);
    for (char *name = strtok_r(names, ", ", &rest); name && w->n_forms < MAX_FORMS; name = strtok_r(NULL, ", ", &rest))
        w->forms[w->n_forms++] = cf_chat_form_by_name(name);
    w->plain = make(false, &w->first_special, &w->first_user);
    w->with_bos = make(true, &w->first_special, &w->first_user);
}

/* words false: the same roles with nothing said. */
static struct cf_chat read_chat(const uint8_t *data, size_t size, bool words) {
    struct cf_chat c = {0};
    struct cf_error e;
    while (size && c.n < MAX_MESSAGES) {
        const uint8_t *end = memchr(data, SEPARATOR, size);
        size_t n = end ? (size_t)(end - data) : size;
        if (n && cf_chat_add(
                     &c, (enum cf_chat_role)(data[0] % CF_CHAT_ROLES), (const char *)data + 1, words ? n - 1 : 0, &e))
            abort();
        data += n + (end ? 1 : 0);
        size -= n + (end ? 1 : 0);
    }
    return c;
}

/* How many special tokens the conversation became. Anybody may write a user-defined one, unless it is a marker. */
static size_t count(
    const struct world *w, const struct cf_chat_form *form, const struct cf_tokenizer *t, const struct cf_chat *c) {
    struct cf_chat_text text;
    struct cf_error e;
    uint32_t *ids = NULL;
    size_t n = 0, special = 0, at = 0, used = 0;
    if (cf_chat_render(form, c, true, &text, &e) || cf_chat_tokens(form, t, &text, &ids, &n, &e)) abort();
    for (size_t i = 0; i < text.n_parts; at += text.parts[i++].length)
        if (text.parts[i].start != at || !text.parts[i].length) abort();
    if (at != text.n) abort();
    bool has_bos = text.n_parts && text.parts[0].special && text.n >= 3 && !memcmp(text.text, "<s>", 3);
    char *back = malloc(text.n + 64);
    if (!back) abort();
    for (size_t i = 0; i < n; i++) {
        char name[64];
        size_t length = cf_token_bytes(t, ids[i], true, name, sizeof name);
        bool added = i == 0 && !has_bos && (int32_t)ids[0] == cf_tokenizer_bos(t);
        if (length > sizeof name || used + length > text.n + 3) abort();
        if (!added) memcpy(back + used, name, length), used += length;
        bool user = ids[i] >= w->first_user, marker = !strcmp(form->name, "gemma") && name[0] == '<';
        special += ids[i] >= w->first_special && (!user || marker);
    }
    if (used != text.n || (used && memcmp(back, text.text, used) != 0)) abort();
    free(back);
    free(ids);
    cf_chat_text_free(&text);
    return special;
}

static struct cf_chat_answer read_answer(const struct cf_chat_form *form, const char *text, size_t n, size_t step) {
    struct cf_chat_answer a = {.end = "<|im_end|>"};
    struct cf_error e;
    cf_chat_answer_begin(&a, form);
    for (size_t i = 0; i < n; i += step)
        if (cf_chat_answer_text(&a, text + i, n - i < step ? n - i : step, &e)) abort();
    static const char *const tokens[] = {"<|channel|>", "<|message|>", "<|end|>", "<think>", "</think>"};
    for (size_t i = 0; i < 5 && n; i++)
        if ((uint8_t)text[0] >> i & 1 && cf_chat_answer_token(&a, tokens[i], strlen(tokens[i]), &e)) abort();
    if (n && cf_chat_answer_text(&a, text, n, &e)) abort();
    if (cf_chat_answer_end(&a, &e)) abort();
    if (a.content.n + a.thinking.n > 2 * n) abort();
    return a;
}

static bool same(const struct cf_chat_buffer *a, const struct cf_chat_buffer *b) {
    return a->n == b->n && (!a->n || !memcmp(a->text, b->text, a->n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct world w;
    if (!w.n_forms) prepare(&w);
    if (size < 2) return 0;
    const struct cf_chat_form *form = w.forms[data[0] % w.n_forms];
    const struct cf_tokenizer *t = data[1] & 1 ? w.with_bos : w.plain;
    data += 2, size -= 2;
    struct cf_chat said = read_chat(data, size, true), silent = read_chat(data, size, false);
    if (count(&w, form, t, &said) != count(&w, form, t, &silent)) abort();
    cf_chat_clear(&said);
    cf_chat_clear(&silent);
    cf_chat_recognise((const char *)data, size);
    struct cf_chat_answer one = read_answer(form, (const char *)data, size, size ? size : 1);
    struct cf_chat_answer many = read_answer(form, (const char *)data, size, 1 + size % 5);
    if (!same(&one.content, &many.content) || !same(&one.thinking, &many.thinking) || one.ended != many.ended) abort();
    cf_chat_answer_free(&one);
    cf_chat_answer_free(&many);
    return 0;
}
