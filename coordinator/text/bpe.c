/* Byte-level BPE, tokenizer.ggml.model = "gpt2" (Radford et al. 2019; https://github.com/openai/gpt-2/blob/master/src/
 * encoder.py for the letters that stand for bytes).
 *
 * text -> words (pretokenizers.h) -> one symbol per byte -> merges, the lowest rank first. Bytes that are not UTF-8
 * stand between words and become the tokens of single bytes.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <limits.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/text/merge.h"
#include "coordinator/text/pretokenizers.h"
#include "coordinator/text/utf8.h"
#include "coordinator/text/vocab.h"

struct merge {
    uint32_t left, right; /* tokens; left is CF__NO_TOKEN in a free place */
    uint32_t rank;        /* the lower, the earlier */
    uint32_t whole;       /* token */
};

struct cf__bpe {
    const struct cf__pretokenizer *pre;
    pcre2_code *codes[CF__MAX_EXPRESSIONS];
    size_t n_codes;
    struct merge *merges; /* [mask + 1], by hash of left and right */
    uint32_t mask;
};

/* --- Letters that stand for bytes ----------------------------------------------------------------------------------
 */

/* Printable bytes stand for themselves. The others, in ascending order, are U+0100 onwards: 00 to 20, 7F to A0, AD. */
static unsigned letter_of(unsigned byte) {
    if (byte <= 0x20) return 0x100 + byte;
    if (byte >= 0x7f && byte <= 0xa0) return 0x121 + byte - 0x7f;
    return byte == 0xad ? 0x143 : byte;
}

/* -1: no letter. */
static int byte_of(unsigned letter) {
    if (letter >= 0x100 && letter <= 0x120) return (int)letter - 0x100;
    if (letter >= 0x121 && letter <= 0x142) return (int)letter - 0x121 + 0x7f;
    if (letter == 0x143) return 0xad;
    return letter < 0x100 && letter_of(letter) == letter ? (int)letter : -1;
}

/* All letters are below U+0800. */
static size_t put_letter(unsigned letter, char *out) {
    if (letter < 0x80) return out[0] = (char)letter, 1;
    out[0] = (char)(0xc0 | letter >> 6);
    out[1] = (char)(0x80 | (letter & 0x3f));
    return 2;
}

/* Other characters than the letters are given out as they are. */
static size_t bytes(const struct cf__token *token, char *buf, size_t size) {
    const unsigned char *s = (const unsigned char *)token->text;
    size_t n = 0;
    for (uint32_t i = 0; i < token->length;) {
        int step = cf__utf8_step(s + i, token->length - i);
        unsigned letter = step == 1 ? s[i] : step == 2 ? (s[i] & 0x1fu) << 6 | (s[i + 1] & 0x3fu) : UINT_MAX;
        int byte = byte_of(letter);
        uint32_t length = step > 0 ? (uint32_t)step : 1;
        for (uint32_t j = 0; j < (byte >= 0 ? 1 : length); j++, n++)
            if (n < size) buf[n] = byte >= 0 ? (char)byte : (char)s[i + j];
        i += length;
    }
    return n;
}

/* --- Merges --------------------------------------------------------------------------------------------------------
 */

static struct merge *find_merge(const struct cf__bpe *b, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    for (uint32_t i = (uint32_t)(h >> 32);; i++) {
        struct merge *m = &b->merges[i & b->mask];
        if (m->left == CF__NO_TOKEN || (m->left == left && m->right == right)) return m;
    }
}

/* "left right"; the space is one at the earliest behind the first byte. Of two equal merges the first counts. */
static int add_merge(struct cf_tokenizer *t, const struct cf_gguf_string *s, uint32_t rank) {
    const char *space = s->length > 1 ? memchr(s->text + 1, ' ', s->length - 1) : NULL;
    if (!space) return -1;
    size_t n_left = (size_t)(space - s->text), n_right = s->length - n_left - 1;
    uint32_t left = cf__vocab_find(t, s->text, n_left), right = cf__vocab_find(t, space + 1, n_right);
    char whole[512];
    if (left == CF__NO_TOKEN || right == CF__NO_TOKEN || n_left + n_right > sizeof whole) return -1;
    memcpy(whole, s->text, n_left);
    memcpy(whole + n_left, space + 1, n_right);
    uint32_t id = cf__vocab_find(t, whole, n_left + n_right);
    if (id == CF__NO_TOKEN) return -1;
    struct merge *m = find_merge(t->bpe, left, right);
    if (m->left == CF__NO_TOKEN) *m = (struct merge){left, right, rank, id};
    return 0;
}

static int load_merges(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const char *key = "tokenizer.ggml.merges";
    const struct cf_gguf_value *v;
    if (cf__vocab_array(g, key, CF_GGUF_STRING, &v, e)) return -1;
    if (!v) return cf_fail(e, CF_ERR_FORMAT, "%s: %s is missing", cf_gguf_path(g), key);
    if (v->count > 1 << 26) return cf_fail(e, CF_ERR_LIMIT, "%s: %s has %zu entries", cf_gguf_path(g), key, v->count);
    uint32_t size = 16;
    while (size < v->count * 2)
        size *= 2;
    t->bpe->merges = malloc(size * sizeof *t->bpe->merges);
    if (!t->bpe->merges) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu merges", v->count);
    memset(t->bpe->merges, 0xff, size * sizeof *t->bpe->merges);
    t->bpe->mask = size - 1;
    const struct cf_gguf_string *texts = v->array;
    for (size_t i = 0; i < v->count; i++)
        if (add_merge(t, &texts[i], (uint32_t)i))
            return cf_fail(e, CF_ERR_FORMAT,
                "%s: %s[%zu] \"%.64s\" is not two tokens that the vocabulary has, and their join", cf_gguf_path(g), key,
                i, texts[i].length ? texts[i].text : "");
    return 0;
}

/* --- Loading -------------------------------------------------------------------------------------------------------
 */

static int compile(struct cf__bpe *b, struct cf_error *e) {
    for (const char *const *x = b->pre->expressions; *x; x++) {
        int code;
        PCRE2_SIZE at;
        pcre2_code *c = pcre2_compile((PCRE2_SPTR)*x, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
        if (!c)
            return cf_fail(e, CF_ERR_SYSTEM, "pre-tokenizer %s: PCRE2 refuses its expression with error %d at %zu",
                b->pre->names[0], code, (size_t)at);
        pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* where there is no JIT, the interpreter serves */
        b->codes[b->n_codes++] = c;
    }
    return 0;
}

static int load(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    const char *pre = "default";
    if (cf_gguf_str(g, "tokenizer.ggml.pre", false, &pre, e)) return -1;
    t->bpe = calloc(1, sizeof *t->bpe);
    if (!t->bpe) return cf_fail(e, CF_ERR_MEMORY, "no memory for a tokenizer");
    t->bpe->pre = cf__pretokenizer_find(pre);
    if (!t->bpe->pre) {
        char names[384];
        cf__pretokenizer_names(names, sizeof names);
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: tokenizer.ggml.pre \"%.64s\" is not supported (these are: %s)",
            cf_gguf_path(g), pre, names);
    }
    t->add_bos = t->bpe->pre->add_bos;
    for (unsigned b = 0; b < 256; b++) {
        char letter[2];
        t->bytes[b] = cf__vocab_find(t, letter, put_letter(letter_of(b), letter));
        if (t->bytes[b] == CF__NO_TOKEN && t->unknown >= 0) t->bytes[b] = (uint32_t)t->unknown;
    }
    return compile(t->bpe, e) || load_merges(t, g, e) ? -1 : 0;
}

static void unload(struct cf_tokenizer *t) {
    if (!t->bpe) return;
    for (size_t i = 0; i < t->bpe->n_codes; i++)
        pcre2_code_free(t->bpe->codes[i]);
    free(t->bpe->merges);
    free(t->bpe);
}

/* --- Words ---------------------------------------------------------------------------------------------------------
 */

/* The ends of the pieces, ascending; the last is the length of the text. */
struct cuts {
    uint32_t *ends;
    size_t n, room;
};

static int push_cut(struct cuts *c, size_t end, struct cf_error *e) {
    if (c->n && c->ends[c->n - 1] == end) return 0;
    if (c->n == c->room) {
        size_t room = c->room ? c->room * 2 : 64;
        uint32_t *bigger = realloc(c->ends, room * sizeof *bigger);
        if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu words", room);
        c->ends = bigger;
        c->room = room;
    }
    c->ends[c->n++] = (uint32_t)end;
    return 0;
}

struct matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
};

/* Where does `code` match next in text[length) from `from` on? 1: *start, *end; 0: nowhere. The text is valid UTF-8. */
static int match(const struct matcher *m, const pcre2_code *code, const char *text, size_t length, size_t from,
    size_t *start, size_t *end, struct cf_error *e) {
    int rc = pcre2_match(code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, m->data, m->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->context);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) return cf_fail(e, CF_ERR_LIMIT, "the pre-tokenizer gives up on this text (PCRE2 error %d)", rc);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);
    *start = at[0];
    *end = at[1];
    return *end > *start;
}

/* Cuts the piece [begin, end) of the text at the matches of one expression. */
static int cut(const struct matcher *m, const pcre2_code *code, const char *text, size_t begin, size_t end,
    struct cuts *out, struct cf_error *e) {
    size_t from = 0, start = 0, stop = 0;
    for (int hit; from < end - begin; from = stop) {
        hit = match(m, code, text + begin, end - begin, from, &start, &stop, e);
        if (hit < 0) return -1;
        if (!hit) break;
        if ((begin + start && push_cut(out, begin + start, e)) || push_cut(out, begin + stop, e)) return -1;
    }
    return push_cut(out, end, e);
}

/* text: valid UTF-8. spare: room for every second pass. */
static int split(const struct cf__bpe *b, const struct matcher *m, const char *text, size_t length, struct cuts *words,
    struct cuts *spare, struct cf_error *e) {
    words->n = 0;
    if (push_cut(words, length, e)) return -1;
    for (size_t x = 0; x < b->n_codes; x++) {
        spare->n = 0;
        size_t begin = 0;
        for (size_t i = 0; i < words->n; begin = words->ends[i++])
            if (cut(m, b->codes[x], text, begin, words->ends[i], spare, e)) return -1;
        struct cuts swap = *words;
        *words = *spare;
        *spare = swap;
    }
    return 0;
}

/* --- Encoding ------------------------------------------------------------------------------------------------------
 */

struct work {
    const struct cf_tokenizer *t;
    struct matcher matcher;
    struct cuts words, spare;
    struct cf__merger merger;
    struct cf__ids *out;
};

static bool join(const void *context, const struct cf__symbol *left, const struct cf__symbol *right, double *priority,
    uint32_t *id) {
    const struct cf_tokenizer *t = context;
    if (left->id == CF__NO_TOKEN || right->id == CF__NO_TOKEN) return false;
    const struct merge *m = find_merge(t->bpe, left->id, right->id);
    *priority = -(double)m->rank;
    *id = m->whole;
    return m->left != CF__NO_TOKEN;
}

/* The token that is this word as it stands, or CF__NO_TOKEN. */
static uint32_t whole_word(const struct cf_tokenizer *t, const char *word, size_t length) {
    char letters[512];
    size_t n = 0;
    if (length > sizeof letters / 2 || length > t->max_length) return CF__NO_TOKEN;
    for (size_t i = 0; i < length; i++)
        n += put_letter(letter_of((unsigned char)word[i]), letters + n);
    return cf__vocab_find(t, letters, n);
}

/* A byte that the vocabulary does not have, and that it has no unknown token for, is lost. */
static int push_known(struct work *w, uint32_t id, struct cf_error *e) {
    return id == CF__NO_TOKEN ? 0 : cf__ids_push(w->out, id, e);
}

static int encode_word(struct work *w, const char *word, size_t length, struct cf_error *e) {
    if (w->t->bpe->pre->ignore_merges) {
        uint32_t id = whole_word(w->t, word, length);
        if (id != CF__NO_TOKEN) return cf__ids_push(w->out, id, e);
    }
    struct cf__merger *m = &w->merger;
    m->n_symbols = 0;
    for (size_t i = 0; i < length; i++)
        if (cf__merge_symbol(m, (uint32_t)i, 1, w->t->bytes[(unsigned char)word[i]], e)) return -1;
    if (cf__merge_run(m, join, w->t, e)) return -1;
    for (uint32_t i = 0; i != UINT32_MAX; i = m->symbols[i].next)
        if (push_known(w, m->symbols[i].id, e)) return -1;
    return 0;
}

static int encode_valid(struct work *w, const char *text, size_t length, struct cf_error *e) {
    if (!length) return 0;
    if (split(w->t->bpe, &w->matcher, text, length, &w->words, &w->spare, e)) return -1;
    size_t begin = 0;
    for (size_t i = 0; i < w->words.n; begin = w->words.ends[i++])
        if (encode_word(w, text + begin, w->words.ends[i] - begin, e)) return -1;
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
        if (encode_valid(w, text + begin, i - begin, e)) return -1;
        for (size_t j = 0; j < bad; j++)
            if (push_known(w, w->t->bytes[(unsigned char)text[i + j]], e)) return -1;
        begin = i += bad;
    }
    return encode_valid(w, text + begin, length - begin, e);
}

static int encode(const struct cf_tokenizer *t, const char *text, size_t length, bool after_special,
    struct cf__ids *out, struct cf_error *e) {
    (void)after_special;
    struct work w = {.t = t, .out = out};
    w.matcher.data = pcre2_match_data_create(1, NULL);
    w.matcher.context = pcre2_match_context_create(NULL);
    int rc = -1;
    if (!w.matcher.data || !w.matcher.context) {
        cf_fail(e, CF_ERR_MEMORY, "no memory for PCRE2");
    } else {
        /* A long run of spaces is walked back once; more than some steps per byte means trouble. */
        size_t limit = 1000000 + 64 * length;
        pcre2_set_match_limit(w.matcher.context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
        rc = encode_runs(&w, text, length, e);
    }
    pcre2_match_data_free(w.matcher.data);
    pcre2_match_context_free(w.matcher.context);
    cf__merge_free(&w.merger);
    free(w.words.ends);
    free(w.spare.ends);
    return rc;
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
