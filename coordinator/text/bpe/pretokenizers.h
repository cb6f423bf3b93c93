/* Pre-tokenizers of BPE: how a text is cut into words before merging. Private to coordinator/text.
 *
 * One row of the table in pretokenizers.c per family; the names are those of tokenizer.ggml.pre.
 */
#ifndef COFFER_COORDINATOR_TEXT_BPE_PRETOKENIZERS_H
#define COFFER_COORDINATOR_TEXT_BPE_PRETOKENIZERS_H

#include <stdbool.h>
#include <stddef.h>

enum { CF__MAX_NAMES = 24, CF__MAX_EXPRESSIONS = 6 };

struct cf__expression {
    const char *pattern; /* PCRE2 */
    bool threes; /* a match is cut into threes from its end, and what stands before it goes with its first part */
};

struct cf__pretokenizer {
    const char *names[CF__MAX_NAMES + 1]; /* ends with NULL */
    /* Applied one after the other to the pieces that the one before has left: each match is a piece, and so is what
     * lies between two matches. Ends with NULL. */
    struct cf__expression expressions[CF__MAX_EXPRESSIONS + 1];
    bool ignore_merges; /* a word that is a token as it stands is not built up by merges */
    bool add_bos;       /* if the file does not say */
    bool always_bos;    /* whatever the file says */
    bool raw;           /* symbols are characters, spaces U+2581, bytes "<0x0A>"; else byte letters */
    bool newline_runs;  /* a run of newlines that is a token as it stands is not built up by merges */
};

/* NULL if unknown. */
const struct cf__pretokenizer *cf__pretokenizer_find(const char *name);
/* The first name of each row, separated by ", ", cut off where buf ends. */
void cf__pretokenizer_names(char *buf, size_t size);

#endif
