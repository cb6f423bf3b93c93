/* Private to the commands: what every command does that runs a model on ranks, once its options are checked.
 *
 *     mpirun is started if need be (decode/launch.h) -> input is read, on one rank -> terminal -> job (decode/job.h)
 */
#ifndef COFFER_COORDINATOR_COMMANDS_ON_RANKS_H
#define COFFER_COORDINATOR_COMMANDS_ON_RANKS_H

#include "coordinator/cli/options.h"
#include "coordinator/decode/job.h"
#include "coordinator/decode/launch.h"
#include "coordinator/supervise/replay.h"

struct cf__on_ranks {
    const struct cf_command *command; /* whose name errors begin with */
    struct cf_launch launch;
    /* Rank 0, before the ranks meet (whoever types may take longer than --timeout). May be NULL. */
    int (*read)(void *ctx, struct cf_error *e);
    struct cf_job_options job; /* command, threads and terminal are filled in */
    int64_t threads;           /* of each rank; 0: default */
    struct cf_terminal *terminal;
    struct cf_replay *replay; /* gets what happened before a failure, before read; NULL: no supervisor is asked for */
    int (*work)(struct cf_job *job, void *ctx, struct cf_error *e);
    void *ctx;         /* of read, prepare and work */
    const int *status; /* of the program when the work has succeeded: 0, or 130 */
};

/* Returns the exit status; a failure has been said. */
int cf__on_ranks(const struct cf__on_ranks *o);

#endif
