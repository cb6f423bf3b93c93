/* See words.h. The expressions are applied one after the other to the pieces that the one before has left. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "coordinator/text/bpe/words.h"

#include <pcre2.h>
#include <stdlib.h>

struct cf__words {
    const struct cf__pretokenizer *pre;
    pcre2_code *codes[CF__MAX_EXPRESSIONS];
    size_t n;
};

int cf__words_new(struct cf__words **out, const struct cf__pretokenizer *pre, struct cf_error *e) {
    struct cf__words *w = *out = calloc(1, sizeof *w);
    if (!w) return cf_fail(e, CF_ERR_MEMORY, "no memory for a pre-tokenizer");
    w->pre = pre;
    for (const struct cf__expression *x = pre->expressions; x->pattern; x++) {
        int code;
        PCRE2_SIZE at;
        pcre2_code *c =
            pcre2_compile((PCRE2_SPTR)x->pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
        if (!c)
            return cf_fail(e, CF_ERR_SYSTEM, "pre-tokenizer %s: PCRE2 refuses its expression with error %d at %zu",
                pre->names[0], code, (size_t)at);
        pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* where there is no JIT, the interpreter serves */
        w->codes[w->n++] = c;
    }
    return 0;
}

void cf__words_free(struct cf__words *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n; i++)
        pcre2_code_free(w->codes[i]);
    free(w);
}

int cf__cutter_open(struct cf__cutter *c, const struct cf__words *w, size_t length, struct cf_error *e) {
    *c = (struct cf__cutter){.words = w};
    c->data = pcre2_match_data_create(1, NULL);
    c->context = pcre2_match_context_create(NULL);
    if (!c->data || !c->context) {
        cf__cutter_close(c);
        return cf_fail(e, CF_ERR_MEMORY, "no memory for PCRE2");
    }
    /* A long run of spaces is walked back once; more than some steps per byte means trouble. */
    size_t limit = 1000000 + 64 * length;
    pcre2_set_match_limit(c->context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
    return 0;
}

void cf__cutter_close(struct cf__cutter *c) {
    pcre2_match_data_free(c->data);
    pcre2_match_context_free(c->context);
    free(c->cuts.ends);
    free(c->spare.ends);
    *c = (struct cf__cutter){0};
}

static int push(struct cf__cuts *c, size_t end, struct cf_error *e) {
    if (c->n && c->ends[c->n - 1] == end) return 0;
    if (c->n == c->room) {
        size_t room = c->room ? c->room * 2 : 64;
        uint32_t *bigger = realloc(c->ends, room * sizeof *bigger);
        if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu words", room);
        c->ends = bigger;
        c->room = room;
    }
    c->ends[c->n++] = (uint32_t)end;
    return 0;
}

/* Where does `code` match next in text[length) from `from` on? 1: *start, *end; 0: nowhere. The text is valid UTF-8. */
static int match(const struct cf__cutter *c, const pcre2_code *code, const char *text, size_t length, size_t from,
    size_t *start, size_t *end, struct cf_error *e) {
    int rc = pcre2_match(code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, c->data, c->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, c->data, c->context);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) return cf_fail(e, CF_ERR_LIMIT, "the pre-tokenizer gives up on this text (PCRE2 error %d)", rc);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(c->data);
    *start = at[0];
    *end = at[1];
    return *end > *start;
}

/* Cuts behind every third character of text[start, end), counted from the end. */
static int push_threes(struct cf__cuts *out, const char *text, size_t start, size_t end, struct cf_error *e) {
    size_t left = 0;
    for (size_t i = start; i < end; i++)
        left += ((unsigned char)text[i] & 0xc0) != 0x80;
    for (size_t i = start; i < end; i++) {
        bool last_byte = i + 1 == end || ((unsigned char)text[i + 1] & 0xc0) != 0x80;
        if (last_byte && --left % 3 == 0 && push(out, i + 1, e)) return -1;
    }
    return 0;
}

/* Cuts the piece [begin, end) of the text at the matches of one expression. */
static int cut(const struct cf__cutter *c, size_t expression, const char *text, size_t begin, size_t end,
    struct cf__cuts *out, struct cf_error *e) {
    bool threes = c->words->pre->expressions[expression].threes;
    size_t from = 0, start = 0, stop = 0;
    for (int hit; from < end - begin; from = stop) {
        hit = match(c, c->words->codes[expression], text + begin, end - begin, from, &start, &stop, e);
        if (hit < 0) return -1;
        if (!hit) break;
        if (threes) {
            if (push_threes(out, text, begin + start, begin + stop, e)) return -1;
        } else if ((begin + start && push(out, begin + start, e)) || push(out, begin + stop, e)) {
            return -1;
        }
    }
    return push(out, end, e);
}

int cf__cutter_cut(struct cf__cutter *c, const char *text, size_t length, struct cf_error *e) {
    c->cuts.n = 0;
    if (push(&c->cuts, length, e)) return -1;
    for (size_t x = 0; x < c->words->n; x++) {
        c->spare.n = 0;
        size_t begin = 0;
        for (size_t i = 0; i < c->cuts.n; begin = c->cuts.ends[i++])
            if (cut(c, x, text, begin, c->cuts.ends[i], &c->spare, e)) return -1;
        struct cf__cuts swap = c->cuts;
        c->cuts = c->spare;
        c->spare = swap;
    }
    return 0;
}
