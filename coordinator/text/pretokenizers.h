/* Pre-tokenizers of byte-level BPE: how a text is cut into words before merging. Private to coordinator/text.
 *
 * One row of the table in pretokenizers.c per family; the names are those of tokenizer.ggml.pre.
 */
#ifndef COFFER_COORDINATOR_TEXT_PRETOKENIZERS_H
#define COFFER_COORDINATOR_TEXT_PRETOKENIZERS_H

#include <stdbool.h>
#include <stddef.h>

enum { CF__MAX_NAMES = 12, CF__MAX_EXPRESSIONS = 6 };

struct cf__pretokenizer {
    const char *names[CF__MAX_NAMES + 1]; /* ends with NULL */
    /* PCRE2 expressions, applied one after the other to the pieces that the one before has left: each match is a piece,
     * and so is what lies between two matches. Ends with NULL. */
    const char *expressions[CF__MAX_EXPRESSIONS + 1];
    bool ignore_merges; /* a word that is a token as it stands is not built up by merges */
    bool add_bos;       /* if the file does not say */
};

/* NULL if unknown. */
const struct cf__pretokenizer *cf__pretokenizer_find(const char *name);
/* All names, separated by ", ", cut off where buf ends. */
void cf__pretokenizer_names(char *buf, size_t size);

#endif
