/* Merging neighbours, best pair first: what SentencePiece BPE and byte-level BPE have in common. Private to this
 * folder.
 *
 * A list of symbols (each a run of the text) shrinks by joining the pair of neighbours with the highest priority, the
 * leftmost of equals, until no pair can be joined. A binary heap holds the candidates, so that n symbols take
 * O(n log n), also when the text is a megabyte of one letter.
 */
#ifndef COFFER_COORDINATOR_TEXT_MERGE_H
#define COFFER_COORDINATOR_TEXT_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct cf__symbol {
    uint32_t start, length; /* bytes of the text; length 0: joined to its left neighbour */
    uint32_t id;            /* its token, or CF__NO_TOKEN */
    uint32_t prev, next;    /* neighbours; UINT32_MAX at the ends */
};

struct cf__pair {
    double priority;
    uint32_t left, right; /* symbols */
    uint32_t length;      /* of both when the pair was found: another length means that the pair is out of date */
    uint32_t id;          /* of the joined symbol */
};

/* Room that is reused from word to word. Begin with {0}; end with cf__merge_free. */
struct cf__merger {
    struct cf__symbol *symbols;
    size_t n_symbols, symbols_room;
    struct cf__pair *heap;
    size_t n_heap, heap_room;
};

/* May these neighbours be joined? Sets the priority and the id of the whole. */
typedef bool cf__join_fn(
    const void *context, const struct cf__symbol *left, const struct cf__symbol *right, double *priority, uint32_t *id);

/* Appends a symbol at the right end (set n_symbols = 0 to begin). */
int cf__merge_symbol(struct cf__merger *m, uint32_t start, uint32_t length, uint32_t id, struct cf_error *e);
/* Joins all that can be joined. What remains: walk from symbol 0 along next. */
int cf__merge_run(struct cf__merger *m, cf__join_fn *join, const void *context, struct cf_error *e);
void cf__merge_free(struct cf__merger *m);

#endif
