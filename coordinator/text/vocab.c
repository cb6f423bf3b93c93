/* Reading the vocabulary from the tokenizer.* keys, and finding tokens by their text. See vocab.h.
 *
 * Which tokens end generation is, as in llama.cpp, partly told by keys (eos, eot, eom) and partly known by name, since
 * many files lack the keys.
 */
#include "coordinator/text/vocab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 1 << 24 };

/* Tokens that are control tokens whatever type the file gives them, and those that end generation. */
static const struct {
    const char *text;
    bool end;
} known[] = {
    {"<|eot_id|>", true},
    {"<|im_end|>", true},
    {"<|end|>", true},
    {"<end_of_turn>", true},
    {"<|endoftext|>", true},
    {"<|end_of_text|>", true},
    {"<|eom_id|>", true},
    {"</s>", true},
    {"<EOT>", true},
    {"_<EOT>", true},
    {"[EOT]", true},
    {"[EOS]", true},
    {"<end_of_utterance>", true},
    {"<\xef\xbd\x9c"
     "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
        true}, /* DeepSeek */
    /* Fill in the middle: padding and separators end a text, the rest does not. */
    {"<|fim_pad|>", true},
    {"<fim-pad>", true},
    {"<fim_pad>", true},
    {"<|fim_repo|>", true},
    {"<|repo_name|>", true},
    {"<fim-repo>", true},
    {"<reponame>", true},
    {"<|file_sep|>", true},
    {"<|fim_prefix|>", false},
    {"<fim-prefix>", false},
    {"<fim_prefix>", false},
    {"<|fim_suffix|>", false},
    {"<fim-suffix>", false},
    {"<fim_suffix>", false},
    {"<|fim_middle|>", false},
    {"<fim-middle>", false},
    {"<fim_middle>", false},
    {"<\xef\xbd\x9c"
     "fim\xe2\x96\x81"
     "begin\xef\xbd\x9c>",
        false},
    {"<\xef\xbd\x9c"
     "fim\xe2\x96\x81hole\xef\xbd\x9c>",
        false},
    {"<\xef\xbd\x9c"
     "fim\xe2\x96\x81"
     "end\xef\xbd\x9c>",
        false},
};

int cf__ids_push(struct cf__ids *list, uint32_t id, struct cf_error *e) {
    if (list->n == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        uint32_t *bigger = realloc(list->ids, room * sizeof *bigger);
        if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu token ids", room);
        list->ids = bigger;
        list->room = room;
    }
    list->ids[list->n++] = id;
    return 0;
}

int cf__vocab_array(const struct cf_gguf *g, const char *key, enum cf_gguf_kind element, const struct cf_gguf_value **v,
    struct cf_error *e) {
    *v = cf_gguf_value(g, key);
    if (!*v || ((*v)->kind == CF_GGUF_ARRAY && (*v)->element == element)) return 0;
    *v = NULL;
    return cf_fail(e, CF_ERR_FORMAT, "%s: %s is not an array of %s", cf_gguf_path(g), key,
        element == CF_GGUF_STRING ? "strings" : "numbers of the expected type");
}

/* FNV-1a, then mixed so that the low bits depend on all bytes. */
static uint32_t hash(const char *text, size_t length) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

uint32_t cf__vocab_find(const struct cf_tokenizer *t, const char *text, size_t length) {
    if (!length || length > t->max_length) return CF__NO_TOKEN;
    for (uint32_t i = hash(text, length);; i++) {
        uint32_t id = t->index[i & t->index_mask];
        if (id == CF__NO_TOKEN) return id;
        if (t->tokens[id].length == length && !memcmp(t->tokens[id].text, text, length)) return id;
    }
}

/* Of tokens with the same text the first is found; empty texts are never found. */
static int build_index(struct cf_tokenizer *t, struct cf_error *e) {
    uint32_t size = 16;
    while (size < t->n_tokens * 2)
        size *= 2;
    t->index = malloc(size * sizeof *t->index);
    if (!t->index) return cf_fail(e, CF_ERR_MEMORY, "no memory for an index of %u tokens", t->n_tokens);
    memset(t->index, 0xff, size * sizeof *t->index);
    t->index_mask = size - 1;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        const struct cf__token *token = &t->tokens[id];
        if (!token->length || cf__vocab_find(t, token->text, token->length) != CF__NO_TOKEN) continue;
        uint32_t i = hash(token->text, token->length);
        while (t->index[i & t->index_mask] != CF__NO_TOKEN)
            i++;
        t->index[i & t->index_mask] = id;
    }
    return 0;
}

static int load_texts(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const char *key = "tokenizer.ggml.tokens";
    const struct cf_gguf_value *v;
    if (cf__vocab_array(g, key, CF_GGUF_STRING, &v, e)) return -1;
    if (!v || !v->count) return cf_fail(e, CF_ERR_FORMAT, "%s: %s is missing or empty", cf_gguf_path(g), key);
    if (v->count > MAX_TOKENS)
        return cf_fail(e, CF_ERR_LIMIT, "%s: %s has %zu tokens, at most %d are possible", cf_gguf_path(g), key,
            v->count, MAX_TOKENS);
    const struct cf_gguf_string *texts = v->array;
    size_t total = 0;
    for (size_t i = 0; i < v->count; i++) {
        if (texts[i].length >= UINT32_MAX / 4)
            return cf_fail(e, CF_ERR_LIMIT, "%s: token %zu is %zu bytes long", cf_gguf_path(g), i, texts[i].length);
        total += texts[i].length + 1;
    }
    t->tokens = calloc(v->count, sizeof *t->tokens);
    t->pool = malloc(total);
    if (!t->tokens || !t->pool) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu tokens", v->count);
    t->n_tokens = (uint32_t)v->count;
    char *p = t->pool;
    for (size_t i = 0; i < v->count; i++) {
        uint32_t length = (uint32_t)texts[i].length;
        t->tokens[i] = (struct cf__token){.text = p, .length = length, .type = CF__TOKEN_NORMAL};
        if (length > t->max_length) t->max_length = length;
        if (length) memcpy(p, texts[i].text, length);
        p[length] = '\0';
        p += length + 1;
    }
    return build_index(t, e);
}

static int too_few(const struct cf_gguf *g, const char *key, const struct cf_gguf_value *v,
    const struct cf_tokenizer *t, struct cf_error *e) {
    if (v->count >= t->n_tokens) return 0;
    return cf_fail(
        e, CF_ERR_FORMAT, "%s: %s has %zu entries for %u tokens", cf_gguf_path(g), key, v->count, t->n_tokens);
}

static int load_scores(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const char *key = "tokenizer.ggml.scores";
    const struct cf_gguf_value *v;
    if (cf__vocab_array(g, key, CF_GGUF_F32, &v, e)) return -1;
    if (!v) return 0;
    if (too_few(g, key, v, t, e)) return -1;
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        t->tokens[i].score = ((const float *)v->array)[i];
        if (isnan(t->tokens[i].score))
            return cf_fail(e, CF_ERR_FORMAT, "%s: %s[%u] is not a number", cf_gguf_path(g), key, i);
    }
    return 0;
}

static int load_types(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const char *key = "tokenizer.ggml.token_type";
    const struct cf_gguf_value *v = cf_gguf_value(g, key);
    if (!v) return 0;
    /* Both signs are in use; the values are the same. */
    enum cf_gguf_kind element = v->element == CF_GGUF_U32 ? CF_GGUF_U32 : CF_GGUF_I32;
    if (cf__vocab_array(g, key, element, &v, e) || too_few(g, key, v, t, e)) return -1;
    for (uint32_t i = 0; i < t->n_tokens; i++)
        t->tokens[i].type = ((const int32_t *)v->array)[i];
    return 0;
}

/* An id from the file, or what *id is already; the default goes if the vocabulary does not reach it. */
static int load_id(struct cf_tokenizer *t, const struct cf_gguf *g, const char *key, int32_t *id, struct cf_error *e) {
    if (*id >= 0 && (uint32_t)*id >= t->n_tokens) *id = -1;
    if (!cf_gguf_value(g, key)) return 0;
    uint32_t v = 0;
    if (cf_gguf_u32(g, key, true, &v, e)) return -1;
    if (v >= t->n_tokens)
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s is %u, but there are %u tokens", cf_gguf_path(g), key, v, t->n_tokens);
    *id = (int32_t)v;
    return 0;
}

static int load_specials(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    t->bos = t->kind->bos;
    t->eos = t->kind->eos;
    t->unknown = t->kind->unknown;
    if (load_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, e)) return -1;
    if (load_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, e)) return -1;
    if (load_id(t, g, "tokenizer.ggml.unknown_token_id", &t->unknown, e)) return -1;
    if (t->eos >= 0) t->tokens[t->eos].end = true;
    static const char *const ends[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
        "tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int32_t id = -1;
        if (load_id(t, g, ends[i], &id, e)) return -1;
        if (id >= 0) t->tokens[id].end = true;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t id = cf__vocab_find(t, known[i].text, strlen(known[i].text));
        if (id == CF__NO_TOKEN) continue;
        t->tokens[id].type = CF__TOKEN_CONTROL;
        if (known[i].end) t->tokens[id].end = true;
    }
    return 0;
}

static int load_flags(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const char *key = "tokenizer.ggml.add_bos_token";
    if (cf_gguf_bool(g, key, false, &t->add_bos, e)) return -1;
    if (t->add_bos && t->bos < 0) {
        if (cf_gguf_value(g, key))
            return cf_fail(
                e, CF_ERR_FORMAT, "%s: %s is true, but there is no tokenizer.ggml.bos_token_id", cf_gguf_path(g), key);
        t->add_bos = false;
    }
    return cf_gguf_bool(g, "tokenizer.ggml.add_space_prefix", false, &t->add_space_prefix, e);
}

int cf__vocab_load(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    t->add_bos = t->kind->add_bos;
    t->add_space_prefix = t->kind->add_space_prefix;
    memset(t->bytes, 0xff, sizeof t->bytes);
    if (load_texts(t, g, e) || load_scores(t, g, e) || load_types(t, g, e) || load_specials(t, g, e)) return -1;
    if (t->kind->load(t, g, e)) return -1; /* may change the default of add_bos */
    return load_flags(t, g, e);
}

void cf__vocab_unload(struct cf_tokenizer *t) {
    free(t->tokens);
    free(t->pool);
    free(t->index);
    free(t->specials);
}
