/* The front process: `coffer run` without mpirun on a machine of several nodes starts mpirun itself and stays in front
 * of it. It owns the terminal: copies the text of rank 0 to stdout, draws the progress that rank 0 reports
 * (terminal.h), turns Ctrl-C into "end the text" and then into "kill", and leaves no process behind, however it ends.
 *
 * In a talk (chat) it also reads the user's lines, with editing and history, whenever rank 0 asks for one. A Ctrl-C
 * then ends the answer, a second one before the answer has ended kills, and one at an empty prompt ends the talk.
 *
 * SIGTERM ends the text after the token in hand, too, and then everything, with status 143; a second one at once.
 *
 * Call it before any MPI call and before any thread is started: it forks.
 */
#ifndef COFFER_COORDINATOR_CLI_FRONT_H
#define COFFER_COORDINATOR_CLI_FRONT_H

#include <stdbool.h>
#include <stddef.h>

#include "coordinator/supervise/supervisor.h"

struct cf_front_options {
    int ranks;
    int argc; /* our own command line, from argv[0] on: the ranks get argv[1..] */
    char **argv;
    const char *mpirun; /* with options if need be, parted by spaces; NULL: $COFFER_MPIRUN, else "mpirun" */
    bool oversubscribe; /* more ranks than mpirun sees slots */
    /* A talk (terminal.h): stdin is a terminal; the ranks ask for lines, which libedit reads here (console.h). */
    bool talk;
    bool direct;              /* one rank, started without mpirun */
    const char *const *words; /* more for mpirun, ends with NULL; or NULL */
    /* Starts again after a failure (supervise/supervisor.h), and says then how many ranks and which words. NULL: the
     * first failure is the end. */
    struct cf_supervisor *supervisor;
    bool asks;         /* under a supervisor: the ranks ask for lines of stdin, as in a talk, but from a pipe or file */
    const char *input; /* [n_input], under a supervisor in place of stdin where they do not ask */
    size_t n_input;
    /* Takes the text in place of stdout, in pieces of any size; NULL: stdout. Returns -1 to end the run: with errno
     * EPIPE as one whose reader is gone, else with status 1, and the caller knows why. */
    int (*text)(void *ctx, const char *bytes, size_t n);
    void *ctx;
};

/* Runs `mpirun -n RANKS ... /proc/self/exe argv...` to its end. Returns the exit status: what rank 0 reported; 130
 * after Ctrl-C, 128 + signal if the front was told to end, 141 if the reader of stdout is gone, 1 if a rank died (said
 * on stderr). Returns -1 if mpirun could not be started. */
int cf_front_launch(const struct cf_front_options *o, struct cf_error *e);

#endif
