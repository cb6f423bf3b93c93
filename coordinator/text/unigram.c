/* SentencePiece with a unigram model, tokenizer.ggml.model = "t5" (Kudo 2018, https://arxiv.org/abs/1804.10959).
 *
 * text -> normalised (charsmap.h; spaces become U+2581) -> the division into tokens whose scores have the greatest sum,
 * found by Viterbi's algorithm from left to right. A character that no token covers costs more than any token, and a
 * run of them becomes one unknown token.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/text/charsmap.h"
#include "coordinator/text/utf8.h"
#include "coordinator/text/vocab.h"

#define SPACE "\xe2\x96\x81" /* U+2581 */
enum { UNKNOWN_PENALTY = 10 };

struct cf__unigram {
    struct cf__charsmap map;
    bool merge_spaces;
    double unknown_score;
};

static int load(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    struct cf__unigram *u = t->unigram = calloc(1, sizeof *u);
    if (!u) return cf_fail(e, CF_ERR_MEMORY, "no memory for a tokenizer");
    float lowest = HUGE_VALF;
    for (uint32_t i = 0; i < t->n_tokens; i++)
        if (t->tokens[i].type == CF__TOKEN_NORMAL && t->tokens[i].score < lowest) lowest = t->tokens[i].score;
    u->unknown_score = (double)(isinf(lowest) ? 0 : lowest) - UNKNOWN_PENALTY;
    if (cf_gguf_bool(g, "tokenizer.ggml.remove_extra_whitespaces", false, &u->merge_spaces, e)) return -1;
    return cf__charsmap_load(&u->map, g, e);
}

static void unload(struct cf_tokenizer *t) {
    if (t->unigram) cf__charsmap_free(&t->unigram->map);
    free(t->unigram);
}

/* --- Normalising ------------------------------------------------------------------------------------------------- */

struct normalised {
    char *text;
    size_t n, room;
    bool in_word, begun; /* the last character was no space; a space stands at the beginning */
};

static int append(struct normalised *o, const char *text, size_t length, struct cf_error *e) {
    if (o->n + length > o->room) {
        size_t room = (o->n + length) * 2;
        char *bigger = realloc(o->text, room);
        if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory to tokenize %zu bytes", room);
        o->text = bigger;
        o->room = room;
    }
    memcpy(o->text + o->n, text, length);
    o->n += length;
    return 0;
}

static int append_with_spaces(
    const struct cf_tokenizer *t, struct normalised *o, const char *text, size_t length, struct cf_error *e) {
    bool merge = t->unigram->merge_spaces;
    for (size_t i = 0; i < length; i++) {
        bool space = text[i] == ' ';
        bool word_begins = !space && !o->in_word;
        o->in_word = !space;
        if (word_begins && (merge || (t->add_space_prefix && !o->begun))) {
            if (append(o, SPACE, strlen(SPACE), e)) return -1;
            o->begun = true;
        }
        if (space ? !merge && append(o, SPACE, strlen(SPACE), e) : append(o, text + i, 1, e)) return -1;
    }
    return 0;
}

static int normalise(
    const struct cf_tokenizer *t, const char *text, size_t length, struct normalised *o, struct cf_error *e) {
    for (size_t i = 0; i < length;) {
        const char *with = text + i;
        size_t n = cf__charsmap_find(&t->unigram->map, text + i, length - i, &with), n_with = n ? strlen(with) : 0;
        if (!n) {
            int step = cf__utf8_step((const unsigned char *)text + i, length - i);
            n = step > 0 ? (size_t)step : 1;
            with = step > 0 ? text + i : CF__REPLACEMENT;
            n_with = step > 0 ? n : strlen(CF__REPLACEMENT);
        }
        if (append_with_spaces(t, o, with, n_with, e)) return -1;
        i += n;
    }
    return 0;
}

/* --- The best division ------------------------------------------------------------------------------------------- */

/* The best way to a place in the text. */
struct step {
    double score;
    uint32_t from, id; /* CF__NO_TOKEN: one character that is unknown */
};

static void improve(struct step *there, double score, size_t from, uint32_t id) {
    if (score > there->score) *there = (struct step){score, (uint32_t)from, id};
}

/* All tokens that begin at `from`, where a character of n bytes stands. */
static void extend(
    const struct cf_tokenizer *t, const char *text, size_t length, size_t from, size_t n, struct step *steps) {
    uint64_t hash = CF__VOCAB_HASH;
    bool covered = false;
    size_t most = length - from < t->max_length ? length - from : t->max_length;
    double score = steps[from].score;
    for (size_t i = 1; i <= most; i++) {
        hash = cf__vocab_hash_step(hash, text[from + i - 1]);
        if (i < most && ((unsigned char)text[from + i] & 0xc0) == 0x80) continue;
        uint32_t id = cf__vocab_find_hashed(t, text + from, i, hash);
        if (id == CF__NO_TOKEN) continue;
        const struct cf__token *token = &t->tokens[id];
        bool user = token->type == CF__TOKEN_USER;
        if (!user && token->type != CF__TOKEN_NORMAL && token->type != CF__TOKEN_UNUSED) continue;
        improve(&steps[from + i], score + (user ? 0 : (double)token->score), from, id);
        covered = covered || i == n;
    }
    if (!covered) improve(&steps[from + n], score + t->unigram->unknown_score, from, CF__NO_TOKEN);
}

/* Backwards along the best way, then turned round. A run of unknown characters is one token. */
static int emit(
    const struct cf_tokenizer *t, const struct step *steps, size_t length, struct cf__ids *out, struct cf_error *e) {
    size_t first = out->n;
    bool after_unknown = false;
    for (size_t at = length; at; at = steps[at].from) {
        uint32_t id = steps[at].id == CF__NO_TOKEN && t->unknown >= 0 ? (uint32_t)t->unknown : steps[at].id;
        bool unknown = steps[at].id == CF__NO_TOKEN;
        if (id != CF__NO_TOKEN && !(unknown && after_unknown) && cf__ids_push(out, id, e)) return -1;
        after_unknown = unknown;
    }
    for (size_t i = first, j = out->n; i + 1 < j; i++) {
        uint32_t swap = out->ids[i];
        out->ids[i] = out->ids[--j];
        out->ids[j] = swap;
    }
    return 0;
}

static int divide(
    const struct cf_tokenizer *t, const char *text, size_t length, struct cf__ids *out, struct cf_error *e) {
    if (!length) return 0;
    if (length >= UINT32_MAX) return cf_fail(e, CF_ERR_LIMIT, "a text of %zu bytes is too long", length);
    struct step *steps = malloc((length + 1) * sizeof *steps);
    if (!steps) return cf_fail(e, CF_ERR_MEMORY, "no memory to tokenize %zu bytes", length);
    for (size_t i = 0; i <= length; i++)
        steps[i] = (struct step){i ? -HUGE_VAL : 0, 0, CF__NO_TOKEN};
    for (size_t i = 0; i < length;) {
        int step = cf__utf8_step((const unsigned char *)text + i, length - i);
        size_t n = step > 0 ? (size_t)step : 1;
        extend(t, text, length, i, n, steps);
        i += n;
    }
    int rc = emit(t, steps, length, out, e);
    free(steps);
    return rc;
}

static int encode(const struct cf_tokenizer *t, const char *text, size_t length, bool after_special,
    struct cf__ids *out, struct cf_error *e) {
    (void)after_special;
    struct normalised o = {0};
    int rc = normalise(t, text, length, &o, e);
    if (!rc) rc = divide(t, o.text, o.n, out, e);
    free(o.text);
    return rc;
}

const struct cf__tokenizer_kind cf__tokenizer_unigram = {
    .model = "t5",
    .bos = -1,
    .eos = 1,
    .unknown = 2,
    .add_eos = true,
    .load = load,
    .unload = unload,
    .encode = encode,
    .bytes = cf__spaces_bytes,
};
