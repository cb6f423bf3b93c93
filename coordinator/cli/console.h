/* Reading lines from the terminal with editing and history (libedit). The one who waits stays in charge: whenever a key
 * is wanted, `wait` is called, so that the front process goes on serving its ranks meanwhile (front.c).
 */
#ifndef COFFER_COORDINATOR_CLI_CONSOLE_H
#define COFFER_COORDINATOR_CLI_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/error.h"

enum cf_console_end {
    CF_CONSOLE_LINE,      /* a line is there */
    CF_CONSOLE_INTERRUPT, /* wait said so */
    CF_CONSOLE_EOF,       /* Ctrl-D on an empty line, or the terminal is gone */
};

struct cf_console_options {
    /* Waits until fd can be read. Returns 1; 0: the line is interrupted (Ctrl-C); -1: give up. */
    int (*wait)(void *ctx, int fd);
    void *ctx;
};

struct cf_console;

/* Draws on stdout, or on stderr if stdout is no terminal. */
int cf_console_open(struct cf_console **out, const struct cf_console_options *o, struct cf_error *e);
void cf_console_close(struct cf_console *c);

/* One line without its newline; *line is valid until the next call. *empty: nothing had been typed when it ended. */
enum cf_console_end cf_console_read(struct cf_console *c, const char *prompt, const char **line, bool *empty);

/* The window has another size, or something else has been written over the line: draws it again. */
void cf_console_redraw(struct cf_console *c);

#endif
