/* Fuzz target: any bytes through the tokenizers and back.
 *
 * The first byte picks the vocabulary (bits 0 and 1: SentencePiece, llama-bpe, qwen2, default) and the flags (bit 2
 * BOS, bit 3 special); the rest is the text. Checked: ids are in range, and the bytes of the ids are the text (but for
 * the space that SentencePiece puts in front of a fragment).
 */
#include <stdint.h>
#include <stdlib.h>

#include "tests/unit/vocabulary.h"

enum { N_KINDS = 4 };

static struct cf_tokenizer *make(int kind) {
    static const char *const pres[N_KINDS] = {NULL, "llama-bpe", "qwen2", "default"};
    struct vocabulary v = {.model = kind ? "gpt2" : "llama", .pre = pres[kind], .add_space_prefix = -1};
    if (kind) {
        vocabulary_letters(&v);
        static const char *const pairs[][2] = {{"a", "a"}, {"aa", "aa"}, {"a", "b"}, {"\xc4\xa0", "a"},
            {"\xc4\xa0", "\xc4\xa0"}, {"\xc3\xa2", "\xc4\xb8"}, {"\xc4\x8a", "\xc4\x8a"}, {"'", "s"}, {"1", "2"}};
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
            vocabulary_merge(&v, pairs[i][0], pairs[i][1]);
    } else {
        vocabulary_bytes(&v);
        static const char *const texts[] = {"\xe2\x96\x81", "a", "b", "aa", "ab", "aaaa", "\xe2\x96\x81\x61",
            "\xe2\x96\x81\xe2\x96\x81", "\xc3\xa9", "\xf0\x9f\x92\xa9"};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            vocabulary_add(&v, texts[i], 1, -(float)i);
    }
    v.bos = vocabulary_add(&v, "<b>", 3, 0);
    v.add_bos = 1;
    vocabulary_add(&v, "<u>", 4, 0);
    vocabulary_add(&v, "<u><u>", 4, 0);
    struct cf_tokenizer *t;
    struct cf_error e;
    if (!vocabulary_load(&v, &t, &e)) return t;
    fprintf(stderr, "%s\n", e.text);
    abort();
}

/* SentencePiece cannot tell U+2581 from a space. */
static bool same(int kind, const char *a, const char *b, size_t n_a, size_t n_b) {
    size_t i = 0, j = 0;
    for (; i < n_a; i++, j++) {
        if (j >= n_b) return false;
        if (!kind && a[i] == '\xe2' && n_a - i >= 3 && !memcmp(a + i, "\xe2\x96\x81", 3) && b[j] == ' ')
            i += 2;
        else if (a[i] != b[j])
            return false;
    }
    return j == n_b;
}

static void stream(const struct cf_tokenizer *t, const uint32_t *ids, size_t n) {
    struct cf_detok d = {0};
    char out[1024];
    for (size_t i = 0; i < n; i++)
        if (cf_detok_push(&d, t, ids[i], true, out, sizeof out) > sizeof out || d.n_held > 3) abort();
    if (cf_detok_flush(&d, out, sizeof out) > 3) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct cf_tokenizer *tokenizers[N_KINDS];
    if (!size) return 0;
    int kind = data[0] % N_KINDS;
    bool bos = data[0] & 4, special = data[0] & 8;
    if (!tokenizers[kind]) tokenizers[kind] = make(kind);
    const struct cf_tokenizer *t = tokenizers[kind];
    const char *text = (const char *)data + 1;
    size_t length = size - 1, n = 0, used = 0;
    uint32_t *ids = NULL;
    struct cf_error e;
    if (cf_tokenize(t, text, length, bos, special, &ids, &n, &e)) abort();
    char *back = malloc(length + 64);
    if (!back) abort();
    for (size_t i = bos ? 1 : 0; i < n; i++) {
        if (ids[i] >= cf_tokenizer_n_vocab(t)) abort();
        used += cf_token_bytes(t, ids[i], true, back + used, length + 64 - used);
        if (used > length) abort();
    }
    if (!same(kind, text, back, length, used)) abort();
    stream(t, ids, n);
    free(back);
    free(ids);
    return 0;
}
