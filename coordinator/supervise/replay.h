/* Rank 0's side of a journal: what happened before a failure comes back on stdin, before anything else, and is read
 * here record by record, in order. Where there was no failure it is empty.
 */
#ifndef COFFER_COORDINATOR_SUPERVISE_REPLAY_H
#define COFFER_COORDINATOR_SUPERVISE_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

enum { CF_REPLAY_STATE = 5 }; /* words of a sampler's state */

struct cf_replay {
    char *bytes; /* [n] */
    size_t n, at;
};

/* Takes "journal N\n" and N bytes from the descriptor, and not one more. */
int cf_replay_read(struct cf_replay *r, int fd, struct cf_error *e);
void cf_replay_free(struct cf_replay *r);

/* Has all been read? */
bool cf_replay_over(const struct cf_replay *r);

/* The user's line, if that is the next record: line[n], valid as long as r. NULL otherwise. */
const char *cf_replay_line(struct cf_replay *r, size_t *n);

/* A text that came in pieces ("more" and "load" records), if that is next: malloc'ed. NULL otherwise. */
char *cf_replay_text(struct cf_replay *r, size_t *n);

/* What was generated in one go. */
struct cf_replayed {
    uint32_t *ids; /* [n] */
    size_t n, room;
    uint64_t state[CF_REPLAY_STATE]; /* of the sampler behind the last id; n 0: none */
    bool ended;                      /* and what follows is known: */
    int status;                      /* 0, or it was interrupted */
    int64_t n_cached;                /* positions that the cache held then; -1: one less than there were tokens */
};

/* The next tokens up to their end or to that of the journal. Freed by cf_replayed_free. */
int cf_replay_tokens(struct cf_replay *r, struct cf_replayed *t, struct cf_error *e);
void cf_replayed_free(struct cf_replayed *t);

/* Is there a record that this prompt is answered? Looks at all of them. */
bool cf_replay_answered(const struct cf_replay *r, uint32_t index);

/* The texts of "token", "end" and "answered" records. A token that was cut anywhere is not taken, nor is any of them
 * with something behind it. */
enum { CF_REPLAY_TOKEN_BYTES = 16 + 17 * CF_REPLAY_STATE };
void cf_replay_print_token(char text[CF_REPLAY_TOKEN_BYTES], uint32_t id, const uint64_t state[CF_REPLAY_STATE]);
bool cf_replay_token(const char *text, size_t n, uint32_t *id, uint64_t state[CF_REPLAY_STATE]);
bool cf_replay_end(const char *text, size_t n, int *status, int64_t *n_cached);
bool cf_replay_index(const char *text, size_t n, uint32_t *index);

#endif
