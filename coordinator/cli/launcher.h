/* What comes out of mpirun's stderr, taken apart line by line: event lines of rank 0 (terminal.h), mpirun's own blocks
 * between two rows of dashes, and lines of the ranks. Events are acted upon, lines are passed on to our stderr, and
 * mpirun's verdicts ("Primary job terminated normally, but ...") are held back until the end, when it is known whether
 * rank 0 has already said the same in one line.
 *
 * Does no reading and knows no process: front.c pushes the bytes.
 */
#ifndef COFFER_COORDINATOR_CLI_LAUNCHER_H
#define COFFER_COORDINATOR_CLI_LAUNCHER_H

#include <stdbool.h>
#include <stddef.h>

#include "coordinator/cli/bar.h"

struct cf_launcher_lines {
    struct cf_bar bar;
    bool text_mid_line; /* the text on our terminal stands in the middle of a line: set by whoever writes it */
    bool spoke;         /* rank 0 has sent an event */
    bool has_status;    /* rank 0 sent its exit status ... */
    int status;         /* ... and this is it */
    bool asked;         /* rank 0 wants a line from the user; whoever reads it takes this back */
    char prompt[32];
    /* Told of events that are not known here. NULL: they are dropped. */
    void (*other)(void *ctx, const char *word, const char *text);
    void *ctx;
    bool dim;          /* the text from now on is to look so */
    bool passed_block; /* a block of mpirun's that is no verdict went to stderr */
    bool unstarted;    /* mpirun could not start its daemons */
    char verdict[320]; /* mpirun's reason in one line of ours; empty: none was seen */
    bool in_block;
    size_t n_line, n_block;
    char *last; /* lines for after the text, malloc'ed; cf_launcher_end shows and frees them */
    size_t n_last;
    char line[4096];
    char block[16384];
};

void cf_launcher_open(struct cf_launcher_lines *l);
/* Another launcher is about to speak: forgets what the last one has said of its end. */
void cf_launcher_begin(struct cf_launcher_lines *l);
void cf_launcher_push(struct cf_launcher_lines *l, const char *bytes, size_t n);

/* Both streams have ended: passes on what is still held back, except verdicts; takes the bar away. */
void cf_launcher_end(struct cf_launcher_lines *l);

#endif
