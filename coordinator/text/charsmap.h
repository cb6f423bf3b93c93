/* The normaliser of SentencePiece, tokenizer.ggml.precompiled_charsmap: beginnings of a text and what replaces them.
 * Private to coordinator/text.
 */
#ifndef COFFER_COORDINATOR_TEXT_CHARSMAP_H
#define COFFER_COORDINATOR_TEXT_CHARSMAP_H

#include <stddef.h>
#include <stdint.h>

#include "node/gguf/gguf.h"

struct cf__charsmap {
    uint32_t *nodes; /* [n_nodes] a double array, see charsmap.c */
    size_t n_nodes;
    char *texts; /* [n_texts] the replacements, each with a NUL behind it */
    size_t n_texts;
};

/* *m becomes empty if the file has none. */
int cf__charsmap_load(struct cf__charsmap *m, const struct cf_gguf *g, struct cf_error *e);
void cf__charsmap_free(struct cf__charsmap *m);
/* The longest beginning of text[length) that is replaced: returns its length, *with is the replacement; 0: none. */
size_t cf__charsmap_find(const struct cf__charsmap *m, const char *text, size_t length, const char **with);

#endif
