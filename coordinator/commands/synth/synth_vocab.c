/* A vocabulary of any size for `coffer synth`: any text can be tokenized and comes back the same.
 *
 * Pieces are common English words, then words made of syllables, each with and without the mark of a leading space.
 * With every piece all its beginnings are pieces too, and pieces with the mark rank before those without: so a word is
 * built up letter by letter, and every word of the list is reached by merging. The rank of a piece is its place in the
 * list; SentencePiece sees it as a score, byte-level BPE as the order of merges.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "coordinator/commands/synth/synth.h"

static const char words[] =
    "the of and to in is was that he for it with as his on be at by had not are but from or have an they which one you "
    "were "
    "her all she there would their we him been has when who will more no if out so said what up its about into than "
    "them can "
    "only other new some could time these two may then do first any my now such like our over man me even most made "
    "after "
    "also did many before must through back years where much your way well down should because each just those people "
    "how "
    "too little state good very make world still own see men work long get here between both life being under never "
    "day same "
    "another know while last might us great old year off come since against go came right used take three once upon "
    "girl boy "
    "house small water found thought went say part few every place around however home found mother father big tree "
    "dog cat "
    "play happy friend smile sun garden bird river stone hand eye night door light name head side again few always "
    "away "
    "something fact though less put think almost enough far took yet better told why going city want need ask children "
    "number school open until week book room story learn form face help begin money answer large often run important "
    "walk "
    "white sea begin grow letter second later idea watch leave red list talk able music color final green oh quick "
    "develop "
    "sleep warm free minute strong special mind behind clear tail produce street inch nothing course stay wheel full "
    "force "
    "blue object decide surface deep moon island foot yes system busy test record boat common gold possible plane dry "
    "wonder "
    "laugh thousand ago ran check game shape hot miss brought heat snow bed bring sit perhaps fill east weight "
    "language";

static const char endings[] =
    "ing ed er es ly ion tion al ent en ment ness ous ive able est ful less ity ic ate ize ise ry "
    "an ar as at ea ch ck ll on or ou ow ou nd nt re se st th ve ge le in is it un pre dis con com";

static const char letters[] =
    "etaoinsrhldcumfpgwybvkxjqz.,'\"-!?ETAOINSRHLDCUMFPGWYBVKXJQZ0123456789:;()/_*&%$#@+=<>[]{}|\\~^`";

enum { MAX_PIECE = 24 };

struct piece {
    char text[MAX_PIECE];
    uint8_t length, before; /* bytes; bytes without the last letter */
};

/* Pieces under way: found[0] without the mark of a space, found[1] with it. */
struct pieces {
    const char *mark;
    size_t wanted, n;
    struct piece *found[2];
    size_t n_found[2];
    const struct piece **seen; /* hash table, n_slots is a power of two above 2 * wanted */
    size_t n_slots;
};

static bool is_new(struct pieces *p, const struct piece *x) {
    size_t slot = XXH64(x->text, x->length, 0) & (p->n_slots - 1);
    while (p->seen[slot]) {
        if (!strcmp(p->seen[slot]->text, x->text)) return false;
        slot = (slot + 1) & (p->n_slots - 1);
    }
    p->seen[slot] = x;
    return true;
}

/* All beginnings of word[length] that are not pieces yet. */
static void add_word(struct pieces *p, const char *word, size_t length, bool marked) {
    size_t mark = marked ? strlen(p->mark) : 0;
    for (size_t n = marked ? 1 : 2; n <= length && p->n < p->wanted && mark + n < MAX_PIECE; n++) {
        struct piece *x = &p->found[marked][p->n_found[marked]];
        *x = (struct piece){.length = (uint8_t)(mark + n), .before = (uint8_t)(mark + n - 1)};
        memcpy(x->text, p->mark, mark);
        memcpy(x->text + mark, word, n);
        if (!is_new(p, x)) continue;
        p->n_found[marked]++;
        p->n++;
    }
}

/* The next word of a list with spaces between; false at its end. */
static bool next_word(const char **list, const char **word, size_t *length) {
    *word = *list;
    *length = strcspn(*list, " ");
    *list += *length;
    *list += **list == ' ';
    return *length > 0;
}

static void add_english(struct pieces *p) {
    const char *list = words, *ends = endings, *word;
    size_t length;
    while (next_word(&list, &word, &length)) {
        add_word(p, word, length, true);
        if (next_word(&ends, &word, &length)) add_word(p, word, length, false);
    }
    for (list = words; next_word(&list, &word, &length);) {
        char capital[MAX_PIECE];
        memcpy(capital, word, length);
        capital[0] = (char)(capital[0] - 'a' + 'A');
        add_word(p, capital, length, true);
        add_word(p, word, length, false);
    }
}

static void add_syllables(struct pieces *p) {
    static const char onsets[20][3] = {
        "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "h", "j", "w", "ch", "sh", "th"};
    for (uint64_t count = 100, syllables = 1; p->n < p->wanted && syllables <= 4; count *= 100, syllables++) {
        for (uint64_t i = 0; i < count && p->n < p->wanted; i++) {
            char word[MAX_PIECE];
            size_t length = 0;
            for (uint64_t k = 0, rest = i; k < syllables; k++, rest /= 100) {
                length += (size_t)snprintf(
                    word + length, sizeof word - length, "%s%c", onsets[rest % 100 / 5], "aeiou"[rest % 5]);
            }
            add_word(p, word, length, true);
            add_word(p, word, length, false);
        }
    }
}

static void free_pieces(struct pieces *p) {
    free(p->found[0]);
    free(p->found[1]);
    free(p->seen);
}

static int make_pieces(struct pieces *p, const char *mark, size_t wanted, struct cf_error *e) {
    *p = (struct pieces){.mark = mark, .wanted = wanted, .n_slots = 64};
    while (p->n_slots < 2 * wanted + 2)
        p->n_slots *= 2;
    p->found[0] = malloc((wanted + 1) * sizeof **p->found);
    p->found[1] = malloc((wanted + 1) * sizeof **p->found);
    p->seen = calloc(p->n_slots, sizeof *p->seen);
    if (!p->found[0] || !p->found[1] || !p->seen) return cf_fail(e, CF_ERR_MEMORY, "no memory for the vocabulary");
    add_english(p);
    add_syllables(p);
    if (p->n < wanted) return cf_fail(e, CF_ERR_USAGE, "--vocab: only %zu pieces can be made, not %zu", p->n, wanted);
    return 0;
}

/* Piece by rank: those with the mark first. */
static const struct piece *ranked(const struct pieces *p, size_t rank) {
    return rank < p->n_found[1] ? &p->found[1][rank] : &p->found[0][rank - p->n_found[1]];
}

/* ---- a list of tokens ---- */

enum token_type { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 }; /* as tokenizer.ggml.token_type counts them */

struct tokens {
    size_t n;
    struct cf_gguf_string *text;
    float *score;
    int32_t *type;
    char small[512][8]; /* texts that no one else owns */
    size_t n_small;
};

static int new_tokens(struct tokens *t, uint32_t n_vocab, struct cf_error *e) {
    *t = (struct tokens){.text = calloc(n_vocab, sizeof *t->text),
        .score = calloc(n_vocab, sizeof *t->score),
        .type = calloc(n_vocab, sizeof *t->type)};
    return t->text && t->score && t->type ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for the vocabulary");
}

static void free_tokens(struct tokens *t) {
    free(t->text);
    free(t->score);
    free(t->type);
}

static void add_token(struct tokens *t, const char *text, enum token_type type, float score) {
    t->text[t->n] = (struct cf_gguf_string){text, strlen(text)};
    t->score[t->n] = score;
    t->type[t->n++] = (int32_t)type;
}

static void add_pieces(struct tokens *t, const struct pieces *p) {
    for (size_t i = 0; i < p->n; i++)
        add_token(t, ranked(p, i)->text, NORMAL, -(float)i);
}

static int write_tokens(struct cf_gguf_writer *w, const struct tokens *t, struct cf_error *e) {
    return cf_gguf_add_strings(w, "tokenizer.ggml.tokens", t->text, t->n, e) ||
                   cf_gguf_add_numbers(w, "tokenizer.ggml.token_type", CF_GGUF_I32, t->type, t->n, e)
               ? -1
               : 0;
}

static int write_ids(struct cf_gguf_writer *w, uint32_t bos, uint32_t eos, struct cf_error *e) {
    return cf_gguf_add_u32(w, "tokenizer.ggml.bos_token_id", bos, e) ||
                   cf_gguf_add_u32(w, "tokenizer.ggml.eos_token_id", eos, e) ||
                   cf_gguf_add_bool(w, "tokenizer.ggml.add_bos_token", true, e) ||
                   cf_gguf_add_bool(w, "tokenizer.ggml.add_eos_token", false, e)
               ? -1
               : 0;
}

/* ---- SentencePiece ---- */

static const char lower_block[] = "\xe2\x96\x81"; /* U+2581, the mark of a space */

static int llama_vocab(
    struct cf_gguf_writer *w, struct tokens *t, struct pieces *p, size_t n_vocab, struct cf_error *e) {
    add_token(t, "<unk>", UNKNOWN, 0);
    add_token(t, "<s>", CONTROL, 0);
    add_token(t, "</s>", CONTROL, 0);
    for (unsigned b = 0; b < 256; b++) {
        char *text = t->small[t->n_small++];
        snprintf(text, sizeof *t->small, "<0x%02X>", b);
        add_token(t, text, BYTE, 0);
    }
    size_t n_letters = strlen(letters) + 1, left = n_vocab - t->n;
    if (make_pieces(p, lower_block, left > n_letters ? left - n_letters : 0, e)) return -1;
    add_pieces(t, p);
    for (size_t i = 0; i < n_letters && t->n < n_vocab; i++) {
        char *text = t->small[t->n_small++];
        snprintf(text, sizeof *t->small, "%.*s", i ? 1 : 3, i ? &letters[i - 1] : lower_block);
        add_token(t, text, NORMAL, -(float)(p->n + i));
    }
    return cf_gguf_add_str(w, "tokenizer.ggml.model", "llama", e) ||
                   cf_gguf_add_str(w, "tokenizer.ggml.pre", "default", e) || write_tokens(w, t, e) ||
                   cf_gguf_add_numbers(w, "tokenizer.ggml.scores", CF_GGUF_F32, t->score, t->n, e) ||
                   write_ids(w, 1, 2, e) || cf_gguf_add_u32(w, "tokenizer.ggml.unknown_token_id", 0, e) ||
                   cf_gguf_add_bool(w, "tokenizer.ggml.add_space_prefix", true, e)
               ? -1
               : 0;
}

/* ---- byte-level BPE ---- */

/* The character that stands for a byte: itself where it is visible in Latin-1, else one from U+0100 on. */
static unsigned byte_character(unsigned b, unsigned *next) {
    bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    return visible ? b : (*next)++;
}

static int write_merges(struct cf_gguf_writer *w, const struct pieces *p, struct cf_error *e) {
    struct cf_gguf_string *merges = calloc(p->n + 1, sizeof *merges);
    char *text = malloc((p->n + 1) * (MAX_PIECE + 1)), *at = text;
    int status = merges && text ? 0 : cf_fail(e, CF_ERR_MEMORY, "no memory for the vocabulary");
    for (size_t i = 0; i < p->n && !status; i++) {
        const struct piece *x = ranked(p, i);
        merges[i] = (struct cf_gguf_string){at, x->length + 1u};
        memcpy(at, x->text, x->before);
        at[x->before] = ' ';
        memcpy(at + x->before + 1, x->text + x->before, (size_t)(x->length - x->before));
        at += x->length + 1;
    }
    if (!status) status = cf_gguf_add_strings(w, "tokenizer.ggml.merges", merges, p->n, e);
    free(merges);
    free(text);
    return status;
}

static int gpt2_vocab(
    struct cf_gguf_writer *w, struct tokens *t, struct pieces *p, size_t n_vocab, struct cf_error *e) {
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
        unsigned c = byte_character(b, &next);
        char *text = t->small[t->n_small++];
        if (c < 128)
            snprintf(text, sizeof *t->small, "%c", (int)c);
        else
            snprintf(text, sizeof *t->small, "%c%c", (int)(0xc0 | c >> 6), (int)(0x80 | (c & 63)));
        add_token(t, text, NORMAL, 0);
    }
    if (make_pieces(p, "\xc4\xa0", n_vocab - t->n - 2, e)) return -1; /* U+0120 stands for the space */
    add_pieces(t, p);
    add_token(t, "<|begin_of_text|>", CONTROL, 0);
    add_token(t, "<|end_of_text|>", CONTROL, 0);
    return cf_gguf_add_str(w, "tokenizer.ggml.model", "gpt2", e) ||
                   cf_gguf_add_str(w, "tokenizer.ggml.pre", "llama-bpe", e) || write_tokens(w, t, e) ||
                   write_merges(w, p, e) || write_ids(w, (uint32_t)t->n - 2, (uint32_t)t->n - 1, e)
               ? -1
               : 0;
}

int cf__synth_vocab(struct cf_gguf_writer *w, const char *model, uint32_t n_vocab, struct cf_error *e) {
    struct tokens *t = malloc(sizeof *t);
    struct pieces p = {0};
    if (!t) return cf_fail(e, CF_ERR_MEMORY, "no memory for the vocabulary");
    int status = new_tokens(t, n_vocab, e);
    if (!status) status = (!strcmp(model, "gpt2") ? gpt2_vocab : llama_vocab)(w, t, &p, n_vocab, e);
    free_pieces(&p);
    free_tokens(t);
    free(t);
    return status;
}
