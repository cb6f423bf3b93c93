/* Tokenizing a text that several hands wrote: in some parts the names of special tokens are those tokens, in others
 * they are only text. Words are not cut at the border of two parts, so that text without such names becomes the same
 * ids as if it were one part.
 */
#ifndef COFFER_COORDINATOR_TEXT_PARTS_H
#define COFFER_COORDINATOR_TEXT_PARTS_H

#include "coordinator/text/tokenizer.h"

struct cf_text_part {
    size_t start, length; /* bytes of the text */
    bool special;         /* names of control tokens are those tokens here */
};

/* parts[n]: each begins where the one before it ends. guarded[n_guarded]: ids that are text in parts that are not
 * special even if the vocabulary has them as user-defined tokens, which elsewhere match in any text. *ids is malloc'ed
 * (caller frees), *n_ids its length; no BOS. */
int cf_tokenize_parts(const struct cf_tokenizer *t, const char *text, const struct cf_text_part *parts, size_t n,
    const uint32_t *guarded, size_t n_guarded, uint32_t **ids, size_t *n_ids, struct cf_error *e);

#endif
