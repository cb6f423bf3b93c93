/* The merges of BPE: which two symbols may be joined, and in which order. Private to coordinator/text.
 *
 * A symbol is a token or a text that occurs in merges only (some files have merges whose parts or whole are no tokens);
 * the latter are numbered from n_tokens on.
 */
#ifndef COFFER_COORDINATOR_TEXT_BPE_RANKS_H
#define COFFER_COORDINATOR_TEXT_BPE_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/text/vocab.h"

struct cf__ranks;

/* From tokenizer.ggml.merges; t's vocabulary is loaded and outlives the ranks. */
int cf__ranks_new(struct cf__ranks **out, const struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e);
void cf__ranks_free(struct cf__ranks *r);
/* The symbol of this very text, or CF__NO_TOKEN. */
uint32_t cf__ranks_symbol(const struct cf__ranks *r, const char *text, size_t length);
/* May these two be joined? The lower the rank, the earlier. */
bool cf__ranks_find(const struct cf__ranks *r, uint32_t left, uint32_t right, uint32_t *rank, uint32_t *whole);

#endif
