/* What the front has to say to the ranks on their stdin: a queue that is written as they read, so that neither side
 * ever waits for the other. */
#ifndef COFFER_COORDINATOR_CLI_FEED_H
#define COFFER_COORDINATOR_CLI_FEED_H

#include <stdbool.h>
#include <stddef.h>

struct cf_feed {
    char *bytes; /* [n], from `at` on not yet written */
    size_t n, at, room;
    bool end; /* nothing follows: their stdin is closed behind it */
};

/* -1: no memory. */
int cf_feed_add(struct cf_feed *f, const char *bytes, size_t n);
/* Nothing of it is wanted any more. */
void cf_feed_clear(struct cf_feed *f);
void cf_feed_free(struct cf_feed *f);

/* Does it want to write? */
bool cf_feed_waits(const struct cf_feed *f);
/* Writes what the descriptor takes now. False: it is done and at its end, or nobody reads. */
bool cf_feed_write(struct cf_feed *f, int fd);

#endif
