/* Fuzz target: any bytes through the tokenizers and back.
 *
 * The first byte picks the vocabulary (bits 0, 1, 4 to 6: a row of the table) and the flags (bit 2 BOS, bit 3 special);
 * the rest is the text. Checked: ids are in range, and the bytes of the ids are the text (but for the space that
 * SentencePiece puts in front of a fragment, and the unigram model, which normalises). With all bits set the rest is
 * the normaliser of a unigram model instead, and a text for it.
 */
#include <stdint.h>
#include <stdlib.h>

#include "coordinator/text/charsmap.h"
#include "tests/unit/vocabulary.h"

static const struct {
    const char *model, *pre;
} kinds[] = {
    {"llama", NULL},
    {"gpt2", "llama-bpe"},
    {"gpt2", "qwen2"},
    {"gpt2", "default"},
    {"gpt2", "deepseek-llm"},
    {"gpt2", "deepseek-v3"},
    {"gpt2", "gpt-4o"},
    {"gpt2", "falcon"},
    {"gpt2", "tiny_aya"},
    {"gpt2", "kimi-k2"},
    {"gpt2", "exaone-moe"},
    {"gpt2", "jais-2"},
    {"gemma4", NULL},
    {"t5", NULL},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds, ALL_BITS = 31 };

static void add_letters(struct vocabulary *v) {
    vocabulary_letters(v);
    static const char *const pairs[][2] = {{"a", "a"}, {"aa", "aa"}, {"a", "b"}, {"\xc4\xa0", "a"},
        {"\xc4\xa0", "\xc4\xa0"}, {"\xc3\xa2", "\xc4\xb8"}, {"\xc4\x8a", "\xc4\x8a"}, {"'", "s"}, {"1", "2"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        vocabulary_merge(v, pairs[i][0], pairs[i][1]);
}

static void add_characters(struct vocabulary *v) {
    vocabulary_bytes(v);
    static const char *const texts[] = {"\xe2\x96\x81", "a", "b", "aa", "ab", "aaaa", "\xe2\x96\x81\x61",
        "\xe2\x96\x81\xe2\x96\x81", "\xc3\xa9", "\xf0\x9f\x92\xa9", "\n\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        vocabulary_add(v, texts[i], 1, -(float)i);
    vocabulary_merge(v, "a", "\xe2\x96\x81");
}

static struct cf_tokenizer *make(int kind) {
    struct vocabulary v = {.model = kinds[kind].model, .pre = kinds[kind].pre, .add_space_prefix = -1};
    if (!strcmp(v.model, "gpt2"))
        add_letters(&v);
    else
        add_characters(&v);
    v.bos = vocabulary_add(&v, "<b>", 3, 0);
    v.add_bos = 1;
    v.add_eos = -1;
    vocabulary_add(&v, "<u>", 4, 0);
    vocabulary_add(&v, "<u><u>", 4, 0);
    struct cf_tokenizer *t;
    struct cf_error e;
    if (!vocabulary_load(&v, &t, &e)) return t;
    fprintf(stderr, "%s\n", e.text);
    abort();
}

/* SentencePiece cannot tell U+2581 from a space. */
static bool same(bool letters, const char *a, const char *b, size_t n_a, size_t n_b) {
    size_t i = 0, j = 0;
    for (; i < n_a; i++, j++) {
        if (j >= n_b) return false;
        if (!letters && a[i] == '\xe2' && n_a - i >= 3 && !memcmp(a + i, "\xe2\x96\x81", 3) && b[j] == ' ')
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

/* The first half of the data are nodes, the second half are replacements; all of it is the text. */
static int try_map(const uint8_t *data, size_t size) {
    struct cf__charsmap map = {.n_nodes = size / 8, .n_texts = size - size / 2 + 1};
    map.nodes = malloc(map.n_nodes * 4 + 1);
    map.texts = malloc(map.n_texts);
    if (!map.nodes || !map.texts) abort();
    memcpy(map.nodes, data, map.n_nodes * 4);
    memcpy(map.texts, data + size / 2, size - size / 2);
    map.texts[map.n_texts - 1] = '\0';
    for (size_t i = 0; i < size; i++) {
        const char *with = "";
        size_t n = cf__charsmap_find(&map, (const char *)data + i, size - i, &with);
        if (n > size - i || strlen(with) >= map.n_texts) abort();
    }
    cf__charsmap_free(&map);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct cf_tokenizer *tokenizers[N_KINDS];
    if (!size) return 0;
    int kind = (data[0] & 3) | (data[0] >> 2 & 28);
    if (kind == ALL_BITS) return try_map(data + 1, size - 1);
    kind %= N_KINDS;
    bool bos = data[0] & 4, special = data[0] & 8, letters = !strcmp(kinds[kind].model, "gpt2");
    if (!tokenizers[kind]) tokenizers[kind] = make(kind);
    const struct cf_tokenizer *t = tokenizers[kind];
    const char *text = (const char *)data + 1;
    size_t length = size - 1, n = 0, used = 0;
    uint32_t *ids = NULL;
    struct cf_error e;
    if (cf_tokenize(t, text, length, bos, special, &ids, &n, &e)) abort();
    bool exact = strcmp(kinds[kind].model, "t5");
    char *back = malloc(length + 64);
    if (!back) abort();
    for (size_t i = bos ? 1 : 0; i < n; i++) {
        if (ids[i] >= cf_tokenizer_n_vocab(t)) abort();
        if (!exact) continue;
        used += cf_token_bytes(t, ids[i], true, back + used, length + 64 - used);
        if (used > length) abort();
    }
    if (exact && !same(letters, text, back, length, used)) abort();
    stream(t, ids, n);
    free(back);
    free(ids);
    return 0;
}
