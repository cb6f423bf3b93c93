/* Text <-> token ids, from the tokenizer.* keys of a GGUF file.
 *
 * Models: "llama" (SentencePiece BPE by score, byte fallback), "gpt2" (byte-level BPE by merges, pre-tokenizers by
 * PCRE2 expressions), "gemma4" (BPE by merges on characters) and "t5" (SentencePiece unigram). The measure of all is
 * llama.cpp: the same file and text give the same ids. A tokenizer copies what it needs; the file may be closed
 * afterwards.
 */
#ifndef COFFER_COORDINATOR_TEXT_TOKENIZER_H
#define COFFER_COORDINATOR_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/gguf/gguf.h"
#include "proto/error.h"

struct cf_tokenizer;

int cf_tokenizer_new(struct cf_tokenizer **out, const struct cf_gguf *g, struct cf_error *e);
void cf_tokenizer_free(struct cf_tokenizer *t);

uint32_t cf_tokenizer_n_vocab(const struct cf_tokenizer *t);
/* -1 where the model has none. */
int32_t cf_tokenizer_bos(const struct cf_tokenizer *t);
int32_t cf_tokenizer_eos(const struct cf_tokenizer *t);
/* Would llama.cpp begin a prompt with BOS (tokenizer.ggml.add_bos_token and its defaults)? */
bool cf_tokenizer_adds_bos(const struct cf_tokenizer *t);
/* The same for EOS at the end (tokenizer.ggml.add_eos_token). */
bool cf_tokenizer_adds_eos(const struct cf_tokenizer *t);
/* What a user should hear about the file's tokenizer, or NULL: e.g. that its pre-tokenizer is not named. */
const char *cf_tokenizer_note(const struct cf_tokenizer *t);
/* Does this token end generation (eos, eot, eom and the like)? */
bool cf_tokenizer_is_end(const struct cf_tokenizer *t, uint32_t id);

/* text[length], any bytes (invalid UTF-8 becomes byte tokens or U+FFFD as the model kind does). add_special: begin
 * with BOS and end with EOS if the model wants them. special: names of control tokens in the text become those tokens;
 * otherwise they are text. *ids is malloc'ed (caller frees), *n its length. */
int cf_tokenize(const struct cf_tokenizer *t, const char *text, size_t length, bool add_special, bool special,
    uint32_t **ids, size_t *n, struct cf_error *e);

/* The bytes of one token as they appear in running text (control tokens: none unless special). Returns the length;
 * writes at most size bytes. A stream drops the one leading space that SentencePiece adds itself: cf_detok does. */
size_t cf_token_bytes(const struct cf_tokenizer *t, uint32_t id, bool special, char *buf, size_t size);

/* A text stream: gives out whole UTF-8 characters only, holding back an incomplete tail. */
struct cf_detok {
    bool special; /* show control tokens by their names */
    bool started;
    unsigned char held[8];
    size_t n_held;
};
/* Appends token `id`; out (>= 1024 bytes or the token's length + 16) gets the bytes that may be shown now; returns how
 * many. `skip_space`: drop SentencePiece's leading space if this is the first token of a text. */
size_t cf_detok_push(
    struct cf_detok *d, const struct cf_tokenizer *t, uint32_t id, bool skip_space, char *out, size_t size);
/* What is still held back, invalid bytes replaced by U+FFFD. */
size_t cf_detok_flush(struct cf_detok *d, char *out, size_t size);

#endif
