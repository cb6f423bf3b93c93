/* The vocabulary behind a tokenizer: private to coordinator/text.
 *
 * vocab.c reads it from the tokenizer.* keys of a GGUF file and finds tokens by their text, names.c knows what some
 * names mean; spm.c, bpe/ and unigram.c turn text into ids with it; special.c cuts the text at the names of special
 * tokens; detok.c goes the other way. Everything is read-only once cf_tokenizer_new() has returned, so any number of
 * threads may share a tokenizer.
 */
#ifndef COFFER_COORDINATOR_TEXT_VOCAB_H
#define COFFER_COORDINATOR_TEXT_VOCAB_H

#include "coordinator/text/tokenizer.h"

#define CF__NO_TOKEN UINT32_MAX

/* tokenizer.ggml.token_type, numbers as in the GGUF specification. */
enum cf__token_type {
    CF__TOKEN_NORMAL = 1,
    CF__TOKEN_UNKNOWN = 2,
    CF__TOKEN_CONTROL = 3,
    CF__TOKEN_USER = 4, /* user-defined: matched in any text, before all else */
    CF__TOKEN_UNUSED = 5,
    CF__TOKEN_BYTE = 6,
};

struct cf__token {
    const char *text; /* as the file has it: SentencePiece with U+2581, byte-level BPE with its byte letters */
    uint32_t length;
    float score;
    int32_t type;
    bool end;            /* ends generation */
    bool lstrip, rstrip; /* in a text it takes the white space before it, behind it, with it */
};

/* A growing list of ids. */
struct cf__ids {
    uint32_t *ids;
    size_t n, room;
};

int cf__ids_push(struct cf__ids *list, uint32_t id, struct cf_error *e);

struct cf__bpe;     /* merges and pre-tokenizer: bpe/bpe.c */
struct cf__unigram; /* normaliser: unigram.c */

/* What differs from one tokenizer.ggml.model to the next: one row in tokenizer.c. */
struct cf__tokenizer_kind {
    const char *model;
    /* Values used when the file says nothing; -1: none. */
    int32_t bos, eos, unknown;
    bool add_bos, add_eos, add_space_prefix;
    /* After the vocabulary is read. */
    int (*load)(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e);
    void (*unload)(struct cf_tokenizer *t);
    /* Appends the ids of text[length], in which no special token is left. after_special: the text stands at the very
     * beginning or behind a special token. */
    int (*encode)(const struct cf_tokenizer *t, const char *text, size_t length, bool after_special,
        struct cf__ids *out, struct cf_error *e);
    /* The bytes of a normal token: writes at most size, returns how many there are. */
    size_t (*bytes)(const struct cf_tokenizer *t, const struct cf__token *token, char *buf, size_t size);
};

extern const struct cf__tokenizer_kind cf__tokenizer_spm, cf__tokenizer_bpe, cf__tokenizer_gemma4,
    cf__tokenizer_unigram;

struct cf_tokenizer {
    const struct cf__tokenizer_kind *kind;
    struct cf__token *tokens; /* [n_tokens] */
    uint32_t n_tokens;
    uint32_t max_length; /* bytes of the longest token */
    char *pool;          /* all token texts, each with a NUL behind it */
    uint32_t *index;     /* [index_mask + 1] ids by hash of their text */
    uint32_t index_mask;
    uint32_t *specials; /* [n_specials] ids of control, unknown and user-defined tokens, in order of their bytes */
    uint32_t n_specials;
    int32_t bos, eos, unknown;
    bool add_bos, add_eos, add_space_prefix;
    bool always_bos;     /* add_bos whatever the file says */
    uint32_t bytes[256]; /* the token of each byte; the unknown token or CF__NO_TOKEN where the vocabulary has none */
    struct cf__bpe *bpe; /* NULL for other kinds */
    struct cf__unigram *unigram;
    char note[256]; /* what the user should hear about the file's tokenizer; may be empty */
};

/* vocab.c. Reads tokens, types, scores, special ids; names.c has its say. t->kind is set. */
int cf__vocab_load(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e);
void cf__vocab_unload(struct cf_tokenizer *t);
/* The id of this very text, or CF__NO_TOKEN. */
uint32_t cf__vocab_find(const struct cf_tokenizer *t, const char *text, size_t length);
/* The same in steps, for all beginnings of a text: hash = cf__vocab_hash_step(hash, byte), from CF__VOCAB_HASH on. */
#define CF__VOCAB_HASH UINT64_C(0xcbf29ce484222325)
static inline uint64_t cf__vocab_hash_step(uint64_t hash, char byte) {
    return (hash ^ (unsigned char)byte) * UINT64_C(0x100000001b3); /* FNV-1a */
}
uint32_t cf__vocab_find_hashed(const struct cf_tokenizer *t, const char *text, size_t length, uint64_t hash);
/* Fills t->bytes with "<0x00>" to "<0xFF>"; other: what stands for a byte that has no such token, if it is no
 * character that is a token. */
void cf__vocab_byte_tokens(struct cf_tokenizer *t, uint32_t other);
/* An id from the file; *id stays what it is if the file has none. -1 in the file (as 32 bits) says "none". */
int cf__vocab_id(struct cf_tokenizer *t, const struct cf_gguf *g, const char *key, int32_t *id, struct cf_error *e);
/* Appends a sentence to t->note. */
void cf__vocab_note(struct cf_tokenizer *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* An array value of the wanted element kind: NULL if it is absent (then 0) or of another kind (then -1). */
int cf__vocab_array(const struct cf_gguf *g, const char *key, enum cf_gguf_kind element, const struct cf_gguf_value **v,
    struct cf_error *e);

/* names.c: which tokens are control tokens, end generation, are always shown, or strip white space, by their names. */
int cf__names_apply(struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e);

/* spaces.c: U+2581 for spaces. Of the text, one in front if prefix; malloc'ed, NULL without memory. */
char *cf__spaces_escape(const char *text, size_t length, bool prefix, size_t *escaped);
/* A cf__tokenizer_kind.bytes. */
size_t cf__spaces_bytes(const struct cf_tokenizer *t, const struct cf__token *token, char *buf, size_t size);

/* special.c: the text cut at special tokens. */
struct cf__fragment {
    size_t start, length; /* of a piece of text */
    uint32_t id;          /* the special token, or CF__NO_TOKEN for text */
};
int cf__special_index(struct cf_tokenizer *t, struct cf_error *e);
/* *fragments is malloc'ed. special: control tokens match too. */
int cf__special_split(const struct cf_tokenizer *t, const char *text, size_t length, bool special,
    struct cf__fragment **fragments, size_t *n, struct cf_error *e);

#endif
