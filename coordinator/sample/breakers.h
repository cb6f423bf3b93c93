/* Sequence breakers of DRY: strings at which a repetition counts as interrupted ("\n", ":", ...). A breaker may lie
 * inside a token, or begin in one and go on in the next: so each is turned into the tokens that contain it, and the
 * tokens that end with its beginning together with the ids of the rest, as llama.cpp does it.
 */
#ifndef COFFER_COORDINATOR_SAMPLE_BREAKERS_H
#define COFFER_COORDINATOR_SAMPLE_BREAKERS_H

#include "coordinator/text/tokenizer.h"

enum { CF_BREAKER_TAIL = 20, CF_BREAKER_BYTES = 40 }; /* ids and bytes at most; the rest is not looked at */

struct cf_breaker {
    uint32_t head, n_tail;
    uint32_t tail[CF_BREAKER_TAIL]; /* [n_tail] ids that follow the head; none: the head alone breaks */
};

struct cf_breakers {
    uint32_t n_vocab;
    uint32_t *first; /* [n_vocab + 1]: breakers first[id] to first[id + 1] have the head id */
    struct cf_breaker *at;
    size_t n, room;
};

/* strings[n]. Freed by cf_breakers_free (NULL is fine). */
int cf_breakers_new(
    struct cf_breakers **out, const struct cf_tokenizer *t, const char *const *strings, size_t n, struct cf_error *e);
void cf_breakers_free(struct cf_breakers *b);

/* Does this token alone break a sequence? b may be NULL. */
bool cf_breakers_single(const struct cf_breakers *b, uint32_t id);

#endif
