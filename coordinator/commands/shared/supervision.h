/* Private to the commands: the options that say who watches over a run and on which hosts it runs, once for all
 * commands that start ranks. Values land in a struct cf_watch (decode/launch.h). */
#ifndef COFFER_COORDINATOR_COMMANDS_SUPERVISION_H
#define COFFER_COORDINATOR_COMMANDS_SUPERVISION_H

#include "coordinator/cli/options.h"
#include "coordinator/decode/launch.h"

/* Of --ranks. */
#define CF__RANKS_HELP                                                                                                 \
    "without mpirun: start N ranks (default one per slot of the hosts that are named; else one per NUMA node with "    \
    "cores, in a Slurm allocation on each of its hosts)"

/* Offsets count from struct cf_watch. On which hosts, and who watches. */
extern const struct cf_option cf__host_options[], cf__watch_options[];

struct cf_watch cf__watch_defaults(void);
/* Of commands that nobody watches over: they have hosts. */
struct cf_watch cf__watch_never(void);

#endif
