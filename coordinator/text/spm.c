/* SentencePiece BPE, tokenizer.ggml.model = "llama" (Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226).
 *
 * Spaces become U+2581; then the neighbours whose joined text is the token of the highest score are merged, again and
 * again. What ends up as no token is written byte by byte ("<0x0A>"). Nothing else is normalised.
 */
#include <stdlib.h>

#include "coordinator/text/merge.h"
#include "coordinator/text/utf8.h"
#include "coordinator/text/vocab.h"

static int load(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    (void)g, (void)e;
    cf__vocab_byte_tokens(t, t->unknown >= 0 ? (uint32_t)t->unknown : CF__NO_TOKEN);
    return 0;
}

struct context {
    const struct cf_tokenizer *t;
    const char *text;
};

static bool join(const void *context, const struct cf__symbol *left, const struct cf__symbol *right, double *priority,
    uint32_t *id) {
    const struct context *c = context;
    *id = cf__vocab_find(c->t, c->text + left->start, (size_t)left->length + right->length);
    if (*id == CF__NO_TOKEN) return false;
    *priority = (double)c->t->tokens[*id].score;
    return true;
}

/* The symbols to begin with: characters; a byte that belongs to none stands alone and ends up as a byte token. */
static int split(const struct context *c, size_t length, struct cf__merger *m, struct cf_error *e) {
    for (size_t i = 0; i < length;) {
        int step = cf__utf8_step((const unsigned char *)c->text + i, length - i);
        uint32_t n = step > 0 ? (uint32_t)step : 1;
        if (cf__merge_symbol(m, (uint32_t)i, n, cf__vocab_find(c->t, c->text + i, n), e)) return -1;
        i += n;
    }
    return 0;
}

static int emit(const struct context *c, const struct cf__merger *m, struct cf__ids *out, struct cf_error *e) {
    for (uint32_t i = 0; i != UINT32_MAX; i = m->symbols[i].next) {
        const struct cf__symbol *s = &m->symbols[i];
        if (s->id != CF__NO_TOKEN) {
            if (cf__ids_push(out, s->id, e)) return -1;
            continue;
        }
        for (uint32_t j = 0; j < s->length; j++) {
            uint32_t id = c->t->bytes[(unsigned char)c->text[s->start + j]];
            if (id != CF__NO_TOKEN && cf__ids_push(out, id, e)) return -1;
        }
    }
    return 0;
}

static int encode(const struct cf_tokenizer *t, const char *text, size_t length, bool after_special,
    struct cf__ids *out, struct cf_error *e) {
    size_t escaped;
    char *copy = cf__spaces_escape(text, length, t->add_space_prefix && after_special, &escaped);
    if (!copy) return cf_fail(e, CF_ERR_MEMORY, "no memory to tokenize %zu bytes", length);
    struct context c = {t, copy};
    struct cf__merger m = {0};
    int rc = split(&c, escaped, &m, e);
    if (!rc) rc = cf__merge_run(&m, join, &c, e);
    if (!rc && m.n_symbols) rc = emit(&c, &m, out, e);
    cf__merge_free(&m);
    free(copy);
    return rc;
}

const struct cf__tokenizer_kind cf__tokenizer_spm = {
    .model = "llama",
    .bos = 1,
    .eos = 2,
    .unknown = 0,
    .add_bos = true,
    .add_space_prefix = true,
    .load = load,
    .encode = encode,
    .bytes = cf__spaces_bytes,
};
