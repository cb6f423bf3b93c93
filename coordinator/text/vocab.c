/* Reading the vocabulary from the tokenizer.* keys, and finding tokens by their text. See vocab.h. */
#include "coordinator/text/vocab.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 1 << 24 };

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

/* Mixed so that the low bits depend on all bytes. */
static uint32_t fold(uint64_t hash) {
    return (uint32_t)(hash ^ hash >> 32);
}

static uint64_t hash_of(const char *text, size_t length) {
    uint64_t h = CF__VOCAB_HASH;
    for (size_t i = 0; i < length; i++)
        h = cf__vocab_hash_step(h, text[i]);
    return h;
}

uint32_t cf__vocab_find_hashed(const struct cf_tokenizer *t, const char *text, size_t length, uint64_t hash) {
    if (!length || length > t->max_length) return CF__NO_TOKEN;
    for (uint32_t i = fold(hash);; i++) {
        uint32_t id = t->index[i & t->index_mask];
        if (id == CF__NO_TOKEN) return id;
        if (t->tokens[id].length == length && !memcmp(t->tokens[id].text, text, length)) return id;
    }
}

uint32_t cf__vocab_find(const struct cf_tokenizer *t, const char *text, size_t length) {
    return length > t->max_length ? CF__NO_TOKEN : cf__vocab_find_hashed(t, text, length, hash_of(text, length));
}

void cf__vocab_byte_tokens(struct cf_tokenizer *t, uint32_t other) {
    for (unsigned b = 0; b < 256; b++) {
        static const char digits[] = "0123456789ABCDEF";
        char name[] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'}, letter = (char)b;
        uint32_t id = cf__vocab_find(t, name, sizeof name);
        if (id == CF__NO_TOKEN) id = cf__vocab_find(t, &letter, 1);
        t->bytes[b] = id == CF__NO_TOKEN ? other : id;
    }
}

void cf__vocab_note(struct cf_tokenizer *t, const char *format, ...) {
    size_t used = strlen(t->note);
    if (used && used + 2 < sizeof t->note) used += (size_t)snprintf(t->note + used, sizeof t->note - used, "; ");
    va_list args;
    va_start(args, format);
    vsnprintf(t->note + used, sizeof t->note - used, format, args);
    va_end(args);
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
        uint32_t i = fold(hash_of(token->text, token->length));
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
    const struct cf_gguf_value *v = cf_gguf_value(g, key);
    if (!v) return 0;
    bool whole = v->kind == CF_GGUF_ARRAY && v->element == CF_GGUF_I32; /* some files have whole numbers */
    if (cf__vocab_array(g, key, whole ? CF_GGUF_I32 : CF_GGUF_F32, &v, e) || too_few(g, key, v, t, e)) return -1;
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        t->tokens[i].score = whole ? (float)((const int32_t *)v->array)[i] : ((const float *)v->array)[i];
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

int cf__vocab_id(struct cf_tokenizer *t, const struct cf_gguf *g, const char *key, int32_t *id, struct cf_error *e) {
    const struct cf_gguf_value *value = cf_gguf_value(g, key);
    bool none = value && value->kind == CF_GGUF_I32 && value->i == -1;
    uint32_t v = 0;
    if (!value || none) return 0;
    if (cf_gguf_u32(g, key, true, &v, e)) return -1;
    if (v == UINT32_MAX) return 0;
    if (v >= t->n_tokens)
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s is %u, but there are %u tokens", cf_gguf_path(g), key, v, t->n_tokens);
    *id = (int32_t)v;
    return 0;
}

static int load_specials(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const struct {
        const char *key;
        int32_t *id, other;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &t->bos, t->kind->bos},
        {"tokenizer.ggml.eos_token_id", &t->eos, t->kind->eos},
        {"tokenizer.ggml.unknown_token_id", &t->unknown, t->kind->unknown},
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        *ids[i].id = ids[i].other >= 0 && (uint32_t)ids[i].other < t->n_tokens ? ids[i].other : -1;
        if (cf__vocab_id(t, g, ids[i].key, ids[i].id, e)) return -1;
    }
    return 0;
}

/* Shall every text begin or end with this token? Then there must be one. */
static int load_add(
    const struct cf_gguf *g, const char *key, const char *id_key, int32_t id, bool *add, struct cf_error *e) {
    if (cf_gguf_bool(g, key, false, add, e)) return -1;
    if (!*add || id >= 0) return 0;
    if (cf_gguf_value(g, key))
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s is true, but there is no %s", cf_gguf_path(g), key, id_key);
    *add = false;
    return 0;
}

static int load_flags(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    if (load_add(g, "tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", t->bos, &t->add_bos, e) ||
        load_add(g, "tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", t->eos, &t->add_eos, e))
        return -1;
    if (t->always_bos && t->bos >= 0) t->add_bos = true;
    return cf_gguf_bool(g, "tokenizer.ggml.add_space_prefix", false, &t->add_space_prefix, e);
}

int cf__vocab_load(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    t->add_bos = t->kind->add_bos;
    t->add_eos = t->kind->add_eos;
    t->add_space_prefix = t->kind->add_space_prefix;
    memset(t->bytes, 0xff, sizeof t->bytes);
    if (load_texts(t, g, e) || load_scores(t, g, e) || load_types(t, g, e) || load_specials(t, g, e) ||
        cf__names_apply(t, g, e))
        return -1;
    if (t->kind->load(t, g, e)) return -1; /* may change the default of add_bos */
    return load_flags(t, g, e);
}

void cf__vocab_unload(struct cf_tokenizer *t) {
    free(t->tokens);
    free(t->pool);
    free(t->index);
    free(t->specials);
}
