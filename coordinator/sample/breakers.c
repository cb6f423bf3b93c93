/* See breakers.h. */
#include "coordinator/sample/breakers.h"

#include <stdlib.h>
#include <string.h>

enum { TOKEN_BYTES = 4096 };

static int add(struct cf_breakers *b, const struct cf_breaker *k, struct cf_error *e) {
    for (size_t i = b->n; i-- > b->first[k->head];) {
        const struct cf_breaker *old = &b->at[i];
        if (old->n_tail == k->n_tail && !memcmp(old->tail, k->tail, k->n_tail * sizeof *k->tail)) return 0;
    }
    if (b->n == b->room) {
        size_t room = b->room ? 2 * b->room : 64;
        struct cf_breaker *more = realloc(b->at, room * sizeof *more);
        if (!more) return cf_fail(e, CF_ERR_MEMORY, "no memory for sequence breakers");
        b->at = more;
        b->room = room;
    }
    b->at[b->n++] = *k;
    return 0;
}

/* The token ends with the first `done` bytes of the string: the rest must follow. */
static int add_tail(struct cf_breakers *b, const struct cf_tokenizer *t, uint32_t head, const char *string, size_t done,
    size_t length, struct cf_error *e) {
    struct cf_breaker k = {.head = head};
    uint32_t *ids;
    size_t n;
    if (cf_tokenize(t, string + done, length - done, false, false, &ids, &n, e)) return -1;
    k.n_tail = n < CF_BREAKER_TAIL ? (uint32_t)n : CF_BREAKER_TAIL;
    if (k.n_tail) memcpy(k.tail, ids, k.n_tail * sizeof *ids);
    free(ids);
    return add(b, &k, e);
}

static int look(struct cf_breakers *b, const struct cf_tokenizer *t, uint32_t id, const char *word, size_t n,
    const char *string, size_t length, struct cf_error *e) {
    if (memmem(word, n, string, length)) return add(b, &(struct cf_breaker){.head = id}, e);
    for (size_t i = n < length ? 0 : n - length + 1; i < n; i++)
        if (!memcmp(word + i, string, n - i) && add_tail(b, t, id, string, n - i, length, e)) return -1;
    return 0;
}

int cf_breakers_new(
    struct cf_breakers **out, const struct cf_tokenizer *t, const char *const *strings, size_t n, struct cf_error *e) {
    struct cf_breakers *b = calloc(1, sizeof *b);
    char word[TOKEN_BYTES];
    int rc = 0;
    *out = NULL;
    if (b) b->n_vocab = cf_tokenizer_n_vocab(t), b->first = calloc((size_t)b->n_vocab + 1, sizeof *b->first);
    if (!b || !b->first) rc = cf_fail(e, CF_ERR_MEMORY, "no memory for sequence breakers");
    for (uint32_t id = 0; !rc && id < b->n_vocab; id++) {
        size_t length = cf_token_bytes(t, id, true, word, sizeof word);
        if (length > sizeof word) length = sizeof word;
        b->first[id] = (uint32_t)b->n;
        for (size_t i = 0; !rc && i < n; i++)
            if (*strings[i]) rc = look(b, t, id, word, length, strings[i], strnlen(strings[i], CF_BREAKER_BYTES), e);
    }
    if (rc) {
        cf_breakers_free(b);
        return -1;
    }
    b->first[b->n_vocab] = (uint32_t)b->n;
    *out = b;
    return 0;
}

void cf_breakers_free(struct cf_breakers *b) {
    if (!b) return;
    free(b->first);
    free(b->at);
    free(b);
}

bool cf_breakers_single(const struct cf_breakers *b, uint32_t id) {
    if (!b || id >= b->n_vocab) return false;
    for (uint32_t i = b->first[id]; i < b->first[id + 1]; i++)
        if (!b->at[i].n_tail) return true;
    return false;
}
