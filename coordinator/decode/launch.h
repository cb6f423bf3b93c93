/* A command that was started alone becomes many ranks: `coffer run` and `coffer bench` start mpirun by themselves.
 *
 * Call it before any MPI call and before any thread is started: it forks (cli/front.h).
 */
#ifndef COFFER_COORDINATOR_DECODE_LAUNCH_H
#define COFFER_COORDINATOR_DECODE_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct cf_launch {
    int64_t ranks;           /* as --ranks says; 0: one per NUMA node with cores, or per node that the map names */
    const char *map;         /* --map, or NULL */
    bool talk;               /* cf_front_options.talk: then there is a front for a single rank, too */
    const char *const *more; /* words behind our own command line for the ranks, ends with NULL; or NULL: none */
    /* Takes the text of the ranks in place of stdout, see cf_front_options; then a single rank is started, too. */
    int (*text)(void *ctx, const char *bytes, size_t n);
    void *ctx;
};

/* Starts mpirun if there shall be several ranks and nobody has started us as ranks, and stays in front of it to its
 * end. Returns the exit status (with *e set if there is something left to say), or -1: go on in place. */
int cf_launch(const struct cf_launch *l, struct cf_error *e);

#endif
