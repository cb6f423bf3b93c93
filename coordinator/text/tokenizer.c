/* The public face of tokenizing: picks the kind by tokenizer.ggml.model, cuts the text at special tokens and hands the
 * rest to the kind. See tokenizer.h.
 */
#include "coordinator/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/text/vocab.h"

static const struct cf__tokenizer_kind *const kinds[] = {
    &cf__tokenizer_spm, &cf__tokenizer_bpe, &cf__tokenizer_gemma4, &cf__tokenizer_unigram};
enum { N_KINDS = sizeof kinds / sizeof *kinds, MAX_TEXT = 1 << 30 };

static int pick_kind(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const char *model = NULL;
    if (cf_gguf_str(g, "tokenizer.ggml.model", true, &model, e)) return -1;
    char list[128] = "";
    for (size_t i = 0; i < N_KINDS; i++) {
        if (!strcmp(kinds[i]->model, model)) {
            t->kind = kinds[i];
            return 0;
        }
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", kinds[i]->model);
    }
    return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: tokenizer.ggml.model \"%.64s\" is not supported (these are: %s)",
        cf_gguf_path(g), model, list);
}

int cf_tokenizer_new(struct cf_tokenizer **out, const struct cf_gguf *g, struct cf_error *e) {
    *out = NULL;
    struct cf_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return cf_fail(e, CF_ERR_MEMORY, "no memory for a tokenizer");
    if (pick_kind(t, g, e) || cf__vocab_load(t, g, e) || cf__special_index(t, e)) {
        cf_tokenizer_free(t);
        return -1;
    }
    *out = t;
    return 0;
}

void cf_tokenizer_free(struct cf_tokenizer *t) {
    if (!t) return;
    if (t->kind && t->kind->unload) t->kind->unload(t);
    cf__vocab_unload(t);
    free(t);
}

uint32_t cf_tokenizer_n_vocab(const struct cf_tokenizer *t) {
    return t->n_tokens;
}
int32_t cf_tokenizer_bos(const struct cf_tokenizer *t) {
    return t->bos;
}
int32_t cf_tokenizer_eos(const struct cf_tokenizer *t) {
    return t->eos;
}
bool cf_tokenizer_adds_bos(const struct cf_tokenizer *t) {
    return t->add_bos;
}
bool cf_tokenizer_adds_eos(const struct cf_tokenizer *t) {
    return t->add_eos;
}
const char *cf_tokenizer_note(const struct cf_tokenizer *t) {
    return *t->note ? t->note : NULL;
}
bool cf_tokenizer_is_end(const struct cf_tokenizer *t, uint32_t id) {
    return id < t->n_tokens && t->tokens[id].end;
}

static int encode_all(const struct cf_tokenizer *t, const char *text, const struct cf__fragment *fragments, size_t n,
    struct cf__ids *out, struct cf_error *e) {
    bool after_special = true;
    for (size_t i = 0; i < n; i++) {
        const struct cf__fragment *f = &fragments[i];
        bool is_text = f->id == CF__NO_TOKEN;
        if (is_text ? t->kind->encode(t, text + f->start, f->length, after_special, out, e)
                    : cf__ids_push(out, f->id, e))
            return -1;
        after_special = !is_text;
    }
    return 0;
}

int cf_tokenize(const struct cf_tokenizer *t, const char *text, size_t length, bool add_special, bool special,
    uint32_t **ids, size_t *n, struct cf_error *e) {
    *ids = NULL;
    *n = 0;
    if (length > MAX_TEXT)
        return cf_fail(e, CF_ERR_LIMIT, "a text of %zu bytes is too long; %d are possible", length, MAX_TEXT);
    struct cf__ids out = {0};
    struct cf__fragment *fragments = NULL;
    size_t n_fragments = 0;
    int rc = 0;
    if (add_special && t->add_bos) rc = cf__ids_push(&out, (uint32_t)t->bos, e);
    if (!rc && length) rc = cf__special_split(t, text, length, special, &fragments, &n_fragments, e);
    if (!rc) rc = encode_all(t, text, fragments, n_fragments, &out, e);
    if (!rc && add_special && t->add_eos) rc = cf__ids_push(&out, (uint32_t)t->eos, e);
    free(fragments);
    if (rc) {
        free(out.ids);
        return -1;
    }
    *ids = out.ids;
    *n = out.n;
    return 0;
}
