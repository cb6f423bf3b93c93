/* The front's side of a talk (terminal.h): takes apart the one stream of text and events that comes from rank 0,
 * colours thinking, and reads the user's lines, at a terminal (console.h) or from a pipe. Part of front.c's loop, which
 * calls it. Of any other stream under a supervisor it is the same without lines.
 */
#ifndef COFFER_COORDINATOR_CLI_TALK_H
#define COFFER_COORDINATOR_CLI_TALK_H

#include "coordinator/cli/console.h"
#include "coordinator/cli/launcher.h"

struct cf_talk {
    struct cf_console *console; /* NULL: nobody sits at a terminal */
    int (*wait)(void *ctx, int fd);
    void *ctx;
    char *input; /* [n_input] from a pipe, not yet a line; the first `used` of them are the last one */
    size_t n_input, room_input, used;
    bool at_end;
    bool reading; /* a line, just now */
    bool colours, is_dim;
    size_t n;
    char raw[16384]; /* [n], from rank 0, not yet looked at */
};

/* talk: a user sits at a terminal. wait: see console.h. */
int cf_talk_open(struct cf_talk *t, bool talk, int (*wait)(void *ctx, int fd), void *ctx, struct cf_error *e);
void cf_talk_close(struct cf_talk *t);

/* Reads what has come. Returns false at the end of the stream. */
bool cf_talk_fill(struct cf_talk *t, int fd);

/* Acts upon events up to the next text, of which it returns at most `size` bytes. 0: there is none, or a line is asked
 * for first. */
size_t cf_talk_next(struct cf_talk *t, struct cf_launcher_lines *l, char *text, size_t size);

/* Reads one line, or what stands for a Ctrl-C at a terminal (terminal.h): line[n], valid until the next call. NULL: the
 * input is at its end, or `wait` has given up. */
const char *cf_talk_line(struct cf_talk *t, struct cf_launcher_lines *l, size_t *n);

void cf_talk_redraw(struct cf_talk *t);

#endif
