/* Cutting a text at the names of special tokens, in the order that llama.cpp uses: the longest name first, and each
 * name from left to right in what is still text. User-defined tokens always count, control and unknown ones only on
 * request.
 *
 * A first walk over the text finds which names occur at all (few, as a rule), so that a vocabulary with thousands of
 * special tokens costs no more than one with two.
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/text/vocab.h"

static int by_bytes(const void *a, const void *b, void *context) {
    const struct cf_tokenizer *t = context;
    const struct cf__token *x = &t->tokens[*(const uint32_t *)a], *y = &t->tokens[*(const uint32_t *)b];
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static int longest_first(const void *a, const void *b, void *context) {
    const struct cf_tokenizer *t = context;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    uint32_t x = t->tokens[i].length, y = t->tokens[j].length;
    return x != y ? (x < y) - (x > y) : (i > j) - (i < j);
}

int cf__special_index(struct cf_tokenizer *t, struct cf_error *e) {
    t->specials = malloc(t->n_tokens * sizeof *t->specials);
    if (!t->specials) return cf_fail(e, CF_ERR_MEMORY, "no memory for the special tokens");
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        const struct cf__token *token = &t->tokens[id];
        if (token->type != CF__TOKEN_CONTROL && token->type != CF__TOKEN_USER && token->type != CF__TOKEN_UNKNOWN)
            continue;
        /* Of tokens with the same name only the one that has the name in the index. */
        if (cf__vocab_find(t, token->text, token->length) == id) t->specials[t->n_specials++] = id;
    }
    qsort_r(t->specials, t->n_specials, sizeof *t->specials, by_bytes, t);
    return 0;
}

/* The first of specials[low, high), which agree in their first `depth` bytes, whose byte there is at least `byte`. */
static uint32_t lower_bound(const struct cf_tokenizer *t, uint32_t low, uint32_t high, uint32_t depth, int byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct cf__token *token = &t->tokens[t->specials[middle]];
        int here = token->length == depth ? -1 : (unsigned char)token->text[depth];
        if (here < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Marks every special token whose name begins at text. */
static void mark(const struct cf_tokenizer *t, const char *text, size_t length, bool *seen) {
    uint32_t low = 0, high = t->n_specials;
    for (uint32_t depth = 0; depth < length && low < high; depth++) {
        int byte = (unsigned char)text[depth];
        low = lower_bound(t, low, high, depth, byte);
        high = lower_bound(t, low, high, depth, byte + 1);
        if (low < high && t->tokens[t->specials[low]].length == depth + 1) seen[low] = true;
    }
}

struct fragments {
    struct cf__fragment *list;
    size_t n, room;
};

static int push(struct fragments *f, struct cf__fragment fragment, struct cf_error *e) {
    if (fragment.id == CF__NO_TOKEN && !fragment.length) return 0;
    if (f->n == f->room) {
        size_t room = f->room ? f->room * 2 : 16;
        struct cf__fragment *bigger = realloc(f->list, room * sizeof *bigger);
        if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu pieces of text", room);
        f->list = bigger;
        f->room = room;
    }
    f->list[f->n++] = fragment;
    return 0;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Cuts one piece of text at every occurrence of one token; white space that the token takes with it disappears. */
static int cut(const struct cf_tokenizer *t, const char *text, struct cf__fragment piece, uint32_t id,
    struct fragments *out, struct cf_error *e) {
    const struct cf__token *token = &t->tokens[id];
    size_t start = piece.start, end = piece.start + piece.length;
    for (const char *hit; (hit = memmem(text + start, end - start, token->text, token->length));) {
        size_t at = (size_t)(hit - text), left = at;
        while (token->lstrip && left > start && is_space(text[left - 1]))
            left--;
        if (push(out, (struct cf__fragment){start, left - start, CF__NO_TOKEN}, e)) return -1;
        if (push(out, (struct cf__fragment){at, token->length, id}, e)) return -1;
        start = at + token->length;
        while (token->rstrip && start < end && is_space(text[start]))
            start++;
    }
    return push(out, (struct cf__fragment){start, end - start, CF__NO_TOKEN}, e);
}

/* The special tokens that occur in the text, longest first. *ids has room for all. */
static uint32_t present(
    const struct cf_tokenizer *t, const char *text, size_t length, bool special, bool *seen, uint32_t *ids) {
    for (size_t i = 0; i < length; i++)
        mark(t, text + i, length - i, seen);
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_specials; i++)
        if (seen[i] && (special || t->tokens[t->specials[i]].type == CF__TOKEN_USER)) ids[n++] = t->specials[i];
    qsort_r(ids, n, sizeof *ids, longest_first, (void *)t);
    return n;
}

int cf__special_split(const struct cf_tokenizer *t, const char *text, size_t length, bool special,
    struct cf__fragment **fragments, size_t *n, struct cf_error *e) {
    struct fragments now = {0}, next = {0};
    bool *seen = calloc(t->n_specials + 1, sizeof *seen);
    uint32_t *ids = malloc((t->n_specials + 1) * sizeof *ids);
    int rc = seen && ids ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for %u special tokens", t->n_specials);
    if (!rc) rc = push(&now, (struct cf__fragment){0, length, CF__NO_TOKEN}, e);
    uint32_t n_ids = rc ? 0 : present(t, text, length, special, seen, ids);
    for (uint32_t i = 0; i < n_ids && !rc; i++) {
        next.n = 0;
        for (size_t j = 0; j < now.n && !rc; j++) {
            if (now.list[j].id == CF__NO_TOKEN)
                rc = cut(t, text, now.list[j], ids[i], &next, e);
            else
                rc = push(&next, now.list[j], e);
        }
        struct fragments swap = now;
        now = next;
        next = swap;
    }
    free(next.list);
    free(seen);
    free(ids);
    if (rc) {
        free(now.list);
        return -1;
    }
    *fragments = now.list;
    *n = now.n;
    return 0;
}
