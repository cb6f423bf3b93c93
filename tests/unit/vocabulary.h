/* Small vocabularies for tests: written with the GGUF writer into a temporary file, read back as a tokenizer, deleted.
 *
 *     struct vocabulary v = {.model = "llama"};
 *     vocabulary_add(&v, "ab", 1, -2.0f);       id = v.n - 1
 *     struct cf_tokenizer *t; vocabulary_load(&v, &t, &e);
 */
#ifndef COFFER_TESTS_VOCABULARY_H
#define COFFER_TESTS_VOCABULARY_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/text/tokenizer.h"
#include "node/gguf/write.h"

enum { VOCABULARY_MAX = 1024 };

struct vocabulary {
    const char *model, *pre, *name; /* NULL: the file does not say */
    const char *architecture;       /* NULL: llama */
    const char *chat_template;      /* NULL: the file has none */
    char texts[VOCABULARY_MAX][64];
    float scores[VOCABULARY_MAX];
    int32_t types[VOCABULARY_MAX];
    uint32_t n;
    char merges[VOCABULARY_MAX][64];
    uint32_t n_merges;
    int add_bos, add_eos, add_space_prefix, merge_spaces; /* 0: the file does not say; else 1 true, -1 false */
    uint32_t bos, eos;                                    /* 0: the file does not say */
    const char *id_key;                                   /* a further key with an id */
    uint32_t id;
    const uint8_t *charsmap;
    size_t n_charsmap;
    bool wrong_tokens;   /* tokens are an array of numbers */
    uint32_t lost_types; /* so many entries are missing */
};

static inline uint32_t vocabulary_add(struct vocabulary *v, const char *text, int32_t type, float score) {
    if (v->n == VOCABULARY_MAX) abort();
    snprintf(v->texts[v->n], sizeof v->texts[v->n], "%s", text);
    v->types[v->n] = type;
    v->scores[v->n] = score;
    return v->n++;
}

static inline uint32_t vocabulary_find(const struct vocabulary *v, const char *text) {
    for (uint32_t i = 0; i < v->n; i++)
        if (!strcmp(v->texts[i], text)) return i;
    return UINT32_MAX;
}

/* "left right": the merge, and the token of both if it is not there yet. */
static inline void vocabulary_merge(struct vocabulary *v, const char *left, const char *right) {
    char whole[64], merge[64];
    if (v->n_merges == VOCABULARY_MAX) abort();
    if ((size_t)snprintf(whole, sizeof whole, "%s%s", left, right) >= sizeof whole) abort();
    if ((size_t)snprintf(merge, sizeof merge, "%s %s", left, right) >= sizeof merge) abort();
    for (uint32_t i = 0; i < v->n_merges; i++)
        if (!strcmp(v->merges[i], merge)) return;
    memcpy(v->merges[v->n_merges++], merge, sizeof merge);
    if (vocabulary_find(v, whole) == UINT32_MAX) vocabulary_add(v, whole, 1, 0);
}

/* The letter of a byte in byte-level BPE, by the rule of GPT-2's bytes_to_unicode: 256 + its place among those bytes
 * that are not printable. */
static inline const char *vocabulary_letter(unsigned byte, char out[3]) {
    unsigned letter = byte, n = 0;
    for (unsigned b = 0; b <= byte; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
        if (!printable && b == byte) letter = 256 + n;
        n += !printable;
    }
    memset(out, 0, 3);
    if (letter < 0x80) {
        out[0] = (char)letter;
    } else {
        out[0] = (char)(0xc0 | letter >> 6);
        out[1] = (char)(0x80 | (letter & 0x3f));
    }
    return out;
}

/* The 256 letters, the id of each being its byte. */
static inline void vocabulary_letters(struct vocabulary *v) {
    char letter[3];
    for (unsigned b = 0; b < 256; b++)
        vocabulary_add(v, vocabulary_letter(b, letter), 1, 0);
}

/* Unknown, BOS, EOS (0, 1, 2), then the 256 byte tokens (3 to 258). */
static inline void vocabulary_bytes(struct vocabulary *v) {
    vocabulary_add(v, "<unk>", 2, 0);
    vocabulary_add(v, "<s>", 3, 0);
    vocabulary_add(v, "</s>", 3, 0);
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        vocabulary_add(v, name, 6, 0);
    }
}

static inline int vocabulary_strings(
    struct cf_gguf_writer *w, const char *key, char (*texts)[64], uint32_t n, struct cf_error *e) {
    struct cf_gguf_string strings[VOCABULARY_MAX];
    for (uint32_t i = 0; i < n; i++)
        strings[i] = (struct cf_gguf_string){texts[i], strlen(texts[i])};
    return cf_gguf_add_strings(w, key, strings, n, e);
}

static inline int vocabulary_values(struct vocabulary *v, struct cf_gguf_writer *w, struct cf_error *e) {
    int rc = cf_gguf_add_str(w, "general.architecture", v->architecture ? v->architecture : "llama", e);
    if (v->chat_template) rc |= cf_gguf_add_str(w, "tokenizer.chat_template", v->chat_template, e);
    if (v->name) rc |= cf_gguf_add_str(w, "general.name", v->name, e);
    if (v->model) rc |= cf_gguf_add_str(w, "tokenizer.ggml.model", v->model, e);
    if (v->pre) rc |= cf_gguf_add_str(w, "tokenizer.ggml.pre", v->pre, e);
    if (v->wrong_tokens)
        rc |= cf_gguf_add_numbers(w, "tokenizer.ggml.tokens", CF_GGUF_F32, v->scores, v->n, e);
    else
        rc |= vocabulary_strings(w, "tokenizer.ggml.tokens", v->texts, v->n, e);
    rc |= cf_gguf_add_numbers(w, "tokenizer.ggml.scores", CF_GGUF_F32, v->scores, v->n, e);
    rc |= cf_gguf_add_numbers(w, "tokenizer.ggml.token_type", CF_GGUF_I32, v->types, v->n - v->lost_types, e);
    if (v->n_merges) rc |= vocabulary_strings(w, "tokenizer.ggml.merges", v->merges, v->n_merges, e);
    if (v->add_bos) rc |= cf_gguf_add_bool(w, "tokenizer.ggml.add_bos_token", v->add_bos > 0, e);
    if (v->add_space_prefix) rc |= cf_gguf_add_bool(w, "tokenizer.ggml.add_space_prefix", v->add_space_prefix > 0, e);
    if (v->add_eos) rc |= cf_gguf_add_bool(w, "tokenizer.ggml.add_eos_token", v->add_eos > 0, e);
    if (v->merge_spaces) rc |= cf_gguf_add_bool(w, "tokenizer.ggml.remove_extra_whitespaces", v->merge_spaces > 0, e);
    if (v->id_key) rc |= cf_gguf_add_u32(w, v->id_key, v->id, e);
    if (v->charsmap)
        rc |= cf_gguf_add_numbers(w, "tokenizer.ggml.precompiled_charsmap", CF_GGUF_U8, v->charsmap, v->n_charsmap, e);
    if (v->bos) rc |= cf_gguf_add_u32(w, "tokenizer.ggml.bos_token_id", v->bos, e);
    if (v->eos) rc |= cf_gguf_add_u32(w, "tokenizer.ggml.eos_token_id", v->eos, e);
    return rc;
}

/* As cf_tokenizer_new. */
static inline int vocabulary_load(struct vocabulary *v, struct cf_tokenizer **t, struct cf_error *e) {
    char path[] = "/tmp/coffer-vocabulary-XXXXXX";
    int fd = mkstemp(path);
    *t = NULL;
    if (fd < 0) return cf_fail(e, CF_ERR_FILE, "no temporary file");
    close(fd);
    struct cf_gguf_writer *w;
    struct cf_gguf *g = NULL;
    int rc = cf_gguf_writer_open(&w, path, e);
    if (!rc) {
        rc = vocabulary_values(v, w, e) || cf_gguf_begin_data(w, e);
        rc = cf_gguf_writer_close(w, !rc, e) || rc ? -1 : 0;
    }
    if (!rc) rc = cf_gguf_open(&g, path, e);
    if (!rc) rc = cf_tokenizer_new(t, g, e);
    cf_gguf_close(g);
    unlink(path);
    return rc;
}

#endif
