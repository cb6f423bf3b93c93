/* The front's side of a talk (terminal.h): takes apart the one stream of text and events that comes from rank 0,
 * colours thinking, and has the user's lines read (console.h) and sent. Part of front.c's loop, which calls it.
 */
#ifndef COFFER_COORDINATOR_CLI_TALK_H
#define COFFER_COORDINATOR_CLI_TALK_H

#include "coordinator/cli/console.h"
#include "coordinator/cli/launcher.h"
#include "coordinator/cli/spawn.h"

struct cf_talk {
    struct cf_console *console; /* NULL: this is no talk */
    bool reading;               /* a line, just now */
    bool colours, is_dim;
    size_t n;
    char raw[16384]; /* [n], from rank 0, not yet looked at */
};

/* talk false: an object that does nothing. wait: see console.h. */
int cf_talk_open(struct cf_talk *t, bool talk, int (*wait)(void *ctx, int fd), void *ctx, struct cf_error *e);
void cf_talk_close(struct cf_talk *t);

/* Reads what has come. Returns false at the end of the stream. */
bool cf_talk_fill(struct cf_talk *t, int fd);

/* Acts upon events up to the next text, of which it returns at most `size` bytes. 0: there is none, or a line is asked
 * for first. */
size_t cf_talk_next(struct cf_talk *t, struct cf_launcher_lines *l, char *text, size_t size);

/* Reads one line and sends it, or what stands for a Ctrl-C (terminal.h). At the end of input the ranks' stdin is
 * closed.
 */
void cf_talk_answer(struct cf_talk *t, struct cf_launcher_lines *l, struct cf_launcher_process *p);

void cf_talk_redraw(struct cf_talk *t);

#endif
