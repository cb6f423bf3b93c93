/* Who may write what where. stdout carries the text alone; everything else goes to stderr. Only rank 0 writes.
 *
 * Three roles. IN PLACE: one process, it owns the terminal and draws the progress bar. BEHIND A FRONT: mpirun was
 * started by our own front process (front.h, COFFER_FRONT=1); isatty lies under mpirun, so nothing is drawn here:
 * progress, notes and the exit status travel as event lines on stderr and the front acts on them. PLAIN: a user's own
 * mpirun or srun; plain lines only.
 *
 * An event line is the byte 0x1e (record separator), a word, its text and a newline, in one write:
 *     \x1eprogress 0.4300 loading        \x1enote rank 1: ...        \x1elast load 0.4 s        \x1estatus 130
 *
 * In a TALK (chat in a terminal, COFFER_TALK=1) and under a supervisor (COFFER_SUPERVISED=1) text and events must stay
 * in one order, so all of it goes through stdout as events, and there are more of them: `text BYTES` (a backslash and
 * control bytes as \\ \n \xHH; whole or not at all, whatever dies), `ask PROMPT`, answered by a line on stdin, `style
 * dim` or `style plain` for the text behind it. Those of the supervisor are listed in coordinator/supervise/README.md.
 */
#ifndef COFFER_COORDINATOR_CLI_TERMINAL_H
#define COFFER_COORDINATOR_CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

#include "coordinator/cli/bar.h"
#include "proto/error.h"

#define CF_EVENT_MARK '\x1e'

/* In a talk these come as a line in place of one that was given up by Ctrl-C, in its middle or at its beginning. */
#define CF_TALK_FORGET "\x03"
#define CF_TALK_NOTHING "\x03\x03"

enum cf_terminal_role { CF_TERMINAL_IN_PLACE, CF_TERMINAL_BEHIND_FRONT, CF_TERMINAL_PLAIN };

struct cf_terminal {
    enum cf_terminal_role role;
    bool is_rank0; /* all others are silent */
    bool closing;  /* the text is over: the front shows notes from now on after the last of it */
    bool in_line;  /* stdout, if it is a terminal, stands in the middle of a line: notes begin with a newline */
    bool text_on_terminal;
    bool talk;   /* a user sits at a terminal behind the front */
    bool stream; /* events go through stdout, between the text: a talk, or a supervisor listens */
    bool deaf;   /* who reads stdout has been waited for in vain, after a request to stop */
    bool quiet;  /* what happens now has been said before a failure: no notes */
    struct cf_bar bar;
};

/* The role, from the environment alone (before any MPI call). */
enum cf_terminal_role cf_terminal_role(void);

/* This process's rank as the launcher wrote it into the environment (Open MPI, PMIx, PMI, Slurm); -1 without one. */
int cf_terminal_env_rank(void);

/* May this process print what every rank would print alike, such as a usage error? True without a launcher, and in rank
 * 0. */
bool cf_terminal_speaks(void);

void cf_terminal_open(struct cf_terminal *t, enum cf_terminal_role role, bool is_rank0);

/* How far the phase `label` ("loading") is, 0..1; 1 ends it. May be called often: it draws ten times a second at most.
 * For what a label may be see bar.h. */
void cf_terminal_progress(struct cf_terminal *t, double fraction, const char *label);

/* One line on stderr; the newline is added. Rank 0 only: others are silent. */
void cf_terminal_note(struct cf_terminal *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* bytes[n] to stdout, at once; in a launcher of the user's own that has asked us to stop and takes no more, not at all.
 * Returns -1 with CF_ERR_FILE if they cannot be written (the disk is full), and with
 * CF_ERR_INTERRUPTED if the reader is gone and SIGPIPE is ignored (else the signal ends the process, as it should). */
int cf_terminal_text(struct cf_terminal *t, const char *bytes, size_t n, struct cf_error *e);

/* Is there a supervisor (coordinator/supervise), from the environment alone? */
bool cf_terminal_supervised(void);

/* One event of the supervisor's to it; nothing where there is none. The text must fit a line (about 2000 bytes). */
void cf_terminal_event(struct cf_terminal *t, const char *word, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Where the front reads lines: has it read one from the user, which then comes on stdin. Nothing elsewhere. */
void cf_terminal_ask(struct cf_terminal *t, const char *prompt);

/* In a talk: how the text from now on looks, if it is seen on a terminal. Nothing elsewhere. */
void cf_terminal_dim(struct cf_terminal *t, bool dim);

/* Tells the front how the program ends: call it last, with the exit status. Elsewhere it only takes the bar away. */
void cf_terminal_status(struct cf_terminal *t, int exit_status);

#endif
