/* BPE by merges, tokenizer.ggml.model = "gpt2" (byte-level, Radford et al. 2019) and "gemma4" (characters, with byte
 * fallback).
 *
 * text -> words (words.h) -> symbols, one per byte or per character -> merges, the lowest rank first (ranks.h). Bytes
 * that are not UTF-8 stand between words and become the tokens of single bytes.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/text/bpe/letters.h"
#include "coordinator/text/bpe/ranks.h"
#include "coordinator/text/bpe/words.h"
#include "coordinator/text/merge.h"
#include "coordinator/text/utf8.h"

struct cf__bpe {
    const struct cf__pretokenizer *pre;
    struct cf__words *words;
    struct cf__ranks *ranks;
    uint32_t letters[256]; /* the symbol of each byte */
};

/* --- Loading ----------------------------------------------------------------------------------------------------- */

static int pick_pretokenizer(struct cf_tokenizer *t, const struct cf_gguf *g, const char *pre, struct cf_error *e) {
    if (!pre && cf_gguf_str(g, "tokenizer.ggml.pre", false, &pre, e)) return -1;
    if (!pre || !*pre) {
        cf__vocab_note(t, "the file does not name its pre-tokenizer (tokenizer.ggml.pre): \"default\" is used, and the "
                          "model may do worse than it could");
        pre = "default";
    }
    t->bpe->pre = cf__pretokenizer_find(pre);
    if (t->bpe->pre) return 0;
    char names[384];
    cf__pretokenizer_names(names, sizeof names);
    return cf_fail(e, CF_ERR_UNSUPPORTED,
        "%s: tokenizer.ggml.pre \"%.64s\" is not supported (these and their kin are: %s)", cf_gguf_path(g), pre, names);
}

static void load_letters(struct cf_tokenizer *t) {
    for (unsigned b = 0; b < 256; b++) {
        char letter[2];
        size_t length = cf__put_letter(b, letter);
        t->bytes[b] = cf__vocab_find(t, letter, length);
        t->bpe->letters[b] = cf__ranks_symbol(t->bpe->ranks, letter, length);
    }
}

static int load_as(struct cf_tokenizer *t, const struct cf_gguf *g, const char *pre, struct cf_error *e) {
    struct cf__bpe *b = t->bpe = calloc(1, sizeof *t->bpe);
    if (!b) return cf_fail(e, CF_ERR_MEMORY, "no memory for a tokenizer");
    if (pick_pretokenizer(t, g, pre, e)) return -1;
    t->add_bos = b->pre->add_bos;
    t->always_bos = b->pre->always_bos;
    if (cf__words_new(&b->words, b->pre, e) || cf__ranks_new(&b->ranks, t, g, e)) return -1;
    if (b->pre->raw)
        cf__vocab_byte_tokens(t, CF__NO_TOKEN);
    else
        load_letters(t);
    return 0;
}

static int load(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    return load_as(t, g, NULL, e);
}

static int load_gemma4(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    return load_as(t, g, "gemma4", e);
}

static void unload(struct cf_tokenizer *t) {
    if (!t->bpe) return;
    cf__words_free(t->bpe->words);
    cf__ranks_free(t->bpe->ranks);
    free(t->bpe);
}

/* --- Encoding ---------------------------------------------------------------------------------------------------- */

struct work {
    const struct cf_tokenizer *t;
    struct cf__cutter cutter;
    struct cf__merger merger;
    struct cf__ids *out;
};

static bool join(const void *context, const struct cf__symbol *left, const struct cf__symbol *right, double *priority,
    uint32_t *id) {
    const struct cf__ranks *ranks = context;
    uint32_t rank;
    if (left->id == CF__NO_TOKEN || right->id == CF__NO_TOKEN) return false;
    if (!cf__ranks_find(ranks, left->id, right->id, &rank, id)) return false;
    *priority = -(double)rank;
    return true;
}

/* The token that is this word as it stands, or CF__NO_TOKEN. */
static uint32_t whole_word(const struct cf_tokenizer *t, const char *word, size_t length) {
    char letters[512];
    size_t n = 0;
    if (t->bpe->pre->raw) return cf__vocab_find(t, word, length);
    if (length > sizeof letters / 2 || length > t->max_length) return CF__NO_TOKEN;
    for (size_t i = 0; i < length; i++)
        n += cf__put_letter((unsigned char)word[i], letters + n);
    return cf__vocab_find(t, letters, n);
}

static bool may_stay_whole(const struct cf__pretokenizer *pre, const char *word, size_t length) {
    if (!pre->newline_runs) return pre->ignore_merges;
    for (size_t i = 0; i < length; i++)
        if (word[i] != '\n') return false;
    return true;
}

/* A byte that the vocabulary does not have is lost. */
static int push_bytes(struct work *w, const char *text, size_t length, struct cf_error *e) {
    for (size_t i = 0; i < length; i++) {
        uint32_t id = w->t->bytes[(unsigned char)text[i]];
        if (id != CF__NO_TOKEN && cf__ids_push(w->out, id, e)) return -1;
    }
    return 0;
}

static int split(struct work *w, const char *word, size_t length, struct cf_error *e) {
    const struct cf__bpe *b = w->t->bpe;
    w->merger.n_symbols = 0;
    for (size_t i = 0, n; i < length; i += n) {
        uint32_t id;
        if (b->pre->raw) {
            n = (size_t)cf__utf8_step((const unsigned char *)word + i, length - i);
            id = cf__ranks_symbol(b->ranks, word + i, n);
        } else {
            n = 1;
            id = b->letters[(unsigned char)word[i]];
        }
        if (cf__merge_symbol(&w->merger, (uint32_t)i, (uint32_t)n, id, e)) return -1;
    }
    return 0;
}

static int encode_word(struct work *w, const char *word, size_t length, struct cf_error *e) {
    const struct cf__bpe *b = w->t->bpe;
    if (may_stay_whole(b->pre, word, length)) {
        uint32_t id = whole_word(w->t, word, length);
        if (id != CF__NO_TOKEN) return cf__ids_push(w->out, id, e);
    }
    struct cf__merger *m = &w->merger;
    if (split(w, word, length, e) || cf__merge_run(m, join, b->ranks, e)) return -1;
    for (uint32_t i = 0; i != UINT32_MAX; i = m->symbols[i].next) {
        const struct cf__symbol *s = &m->symbols[i];
        int rc = s->id < w->t->n_tokens ? cf__ids_push(w->out, s->id, e) : push_bytes(w, word + s->start, s->length, e);
        if (rc) return -1;
    }
    return 0;
}

static int encode_valid(struct work *w, const char *text, size_t length, struct cf_error *e) {
    if (!length) return 0;
    if (cf__cutter_cut(&w->cutter, text, length, e)) return -1;
    const struct cf__cuts *words = &w->cutter.cuts;
    size_t begin = 0;
    for (size_t i = 0; i < words->n; begin = words->ends[i++])
        if (encode_word(w, text + begin, words->ends[i] - begin, e)) return -1;
    return 0;
}

/* Runs of valid UTF-8 in turn with bytes that belong to no character. */
static int encode_runs(struct work *w, const char *text, size_t length, struct cf_error *e) {
    size_t begin = 0;
    for (size_t i = 0; i < length;) {
        int step = cf__utf8_step((const unsigned char *)text + i, length - i);
        if (step > 0) {
            i += (size_t)step;
            continue;
        }
        size_t bad = step ? (size_t)-step : length - i;
        if (encode_valid(w, text + begin, i - begin, e) || push_bytes(w, text + i, bad, e)) return -1;
        begin = i += bad;
    }
    return encode_valid(w, text + begin, length - begin, e);
}

static int encode(const struct cf_tokenizer *t, const char *text, size_t length, bool after_special,
    struct cf__ids *out, struct cf_error *e) {
    (void)after_special;
    struct work w = {.t = t, .out = out};
    char *copy = NULL;
    if (t->bpe->pre->raw) {
        text = copy = cf__spaces_escape(text, length, false, &length);
        if (!copy) return cf_fail(e, CF_ERR_MEMORY, "no memory to tokenize %zu bytes", length);
    }
    int rc = cf__cutter_open(&w.cutter, t->bpe->words, length, e);
    if (!rc) {
        rc = encode_runs(&w, text, length, e);
        cf__cutter_close(&w.cutter);
    }
    cf__merge_free(&w.merger);
    free(copy);
    return rc;
}

/* --- Back to text ------------------------------------------------------------------------------------------------ */

/* Other characters than the letters are given out as they are. */
static size_t bytes(const struct cf_tokenizer *t, const struct cf__token *token, char *buf, size_t size) {
    if (t->bpe->pre->raw) return cf__spaces_bytes(t, token, buf, size);
    const unsigned char *s = (const unsigned char *)token->text;
    size_t n = 0;
    for (uint32_t i = 0; i < token->length;) {
        int step = cf__utf8_step(s + i, token->length - i);
        unsigned letter = step == 1 ? s[i] : step == 2 ? (s[i] & 0x1fu) << 6 | (s[i + 1] & 0x3fu) : UINT_MAX;
        int byte = cf__byte_of(letter);
        uint32_t length = step > 0 ? (uint32_t)step : 1;
        for (uint32_t j = 0; j < (byte >= 0 ? 1 : length); j++, n++)
            if (n < size) buf[n] = byte >= 0 ? (char)byte : (char)s[i + j];
        i += length;
    }
    return n;
}

const struct cf__tokenizer_kind cf__tokenizer_bpe = {
    .model = "gpt2",
    .bos = -1,
    .eos = -1,
    .unknown = -1,
    .load = load,
    .unload = unload,
    .encode = encode,
    .bytes = bytes,
};

const struct cf__tokenizer_kind cf__tokenizer_gemma4 = {
    .model = "gemma4",
    .bos = -1,
    .eos = -1,
    .unknown = -1,
    .load = load_gemma4,
    .unload = unload,
    .encode = encode,
    .bytes = bytes,
};
