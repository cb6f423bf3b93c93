/* A text cut into words by the expressions of a pre-tokenizer. Private to coordinator/text. */
#ifndef COFFER_COORDINATOR_TEXT_BPE_WORDS_H
#define COFFER_COORDINATOR_TEXT_BPE_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "coordinator/text/bpe/pretokenizers.h"
#include "proto/error.h"

struct cf__words; /* the compiled expressions: read-only, for any number of threads */

int cf__words_new(struct cf__words **out, const struct cf__pretokenizer *pre, struct cf_error *e);
void cf__words_free(struct cf__words *w);

/* The ends of the words, ascending; the last is the length of the text. */
struct cf__cuts {
    uint32_t *ends;
    size_t n, room;
};

/* What one thread needs while it cuts. */
struct cf__cutter {
    const struct cf__words *words;
    struct cf__cuts cuts, spare;
    void *data, *context; /* PCRE2's */
};

/* length: the longest text to come. On failure nothing is left to close. */
int cf__cutter_open(struct cf__cutter *c, const struct cf__words *w, size_t length, struct cf_error *e);
void cf__cutter_close(struct cf__cutter *c);
/* text: valid UTF-8, not empty. The words are in c->cuts until the next call. */
int cf__cutter_cut(struct cf__cutter *c, const char *text, size_t length, struct cf_error *e);

#endif
