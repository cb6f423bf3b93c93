/* A command that was started alone becomes many ranks: `coffer run` and `coffer bench` start mpirun by themselves, on
 * this host or on several, and some of them under a supervisor (coordinator/supervise).
 *
 * Call it before any MPI call and before any thread is started: it forks (cli/front.h).
 */
#ifndef COFFER_COORDINATOR_DECODE_LAUNCH_H
#define COFFER_COORDINATOR_DECODE_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

/* On which hosts, and who watches: what the command line says (commands/shared/supervision.h). */
struct cf_watch {
    const char *hostfile, *host; /* or NULL */
    bool always, never;          /* a supervisor; neither: where mpirun is started */
    int64_t max_restarts;
    const char *journal; /* path, or NULL */
};

struct cf_launch {
    int64_t ranks;   /* as --ranks says; 0: a slot each of hosts that are named; else one per NUMA node with cores,
                        or per node that the map names; without a map so many on each host of an allocation */
    const char *map; /* --map, or NULL */
    bool talk;       /* cf_front_options.talk: then there is a front for a single rank, too */
    const char *const *more; /* words behind our own command line for the ranks, ends with NULL; or NULL: none */
    /* Takes the text of the ranks in place of stdout, see cf_front_options; then a single rank is started, too. */
    int (*text)(void *ctx, const char *bytes, size_t n);
    void *ctx;

    /* Who can be supervised says how (coordinator/supervise/supervisor.h). NULL: there is no supervisor. */
    const struct cf_watch *watch;
    double timeout;    /* as --timeout says; 0: default */
    bool asks;         /* rank 0 asks for lines of stdin */
    const char *reads; /* a file, "-" stdin, that rank 0 reads to its end: the front reads it, once, and rank 0 finds
                          it on its stdin; NULL: none */
    int (*read)(const char *path, char **bytes, size_t *n, struct cf_error *e); /* does that; bytes are malloc'ed */
    bool whole;         /* text counts once a piece of it is whole */
    bool draws_seed;    /* nobody has chosen a seed: one is drawn here and handed on, as --seed */
    const char *output; /* a file that gets the text in place of stdout; NULL: stdout */
};

/* In the environment: the journal of a run that is resumed (commands/run/resume.c). */
#define CF_LAUNCH_RESUMES "COFFER_RESUMES"

/* Starts mpirun if there shall be several ranks and nobody has started us as ranks, and stays in front of it to its
 * end. Returns the exit status (with *e set if there is something left to say), or -1: go on in place. */
int cf_launch(const struct cf_launch *l, struct cf_error *e);

#endif
