/* Starting and ending the launcher: fork, exec, process group, pipes, and that nobody is left behind. */
#ifndef COFFER_COORDINATOR_CLI_SPAWN_H
#define COFFER_COORDINATOR_CLI_SPAWN_H

#include <sys/types.h>

#include "coordinator/cli/front.h"

struct cf_launcher_process {
    pid_t pid; /* also its process group */
    int out;   /* read ends of its stdout and stderr */
    int err;
    int in; /* write end of its stdin, non-blocking, in a talk and under a supervisor; else -1 */
};

/* Starts mpirun (direct: the program itself) with COFFER_FRONT=1, in a talk with COFFER_TALK=1, under a supervisor with
 * COFFER_SUPERVISED=1, too. If this process dies, even by SIGKILL, mpirun gets SIGTERM. Signals are unblocked in the
 * child; SIGPIPE is ignored by mpirun and default in its ranks and in a program started directly. Returns -1 with a
 * message that names the program if it cannot be executed. */
int cf_spawn_launcher(struct cf_launcher_process *p, const struct cf_front_options *o, struct cf_error *e);

/* Kills every process below pid and pid itself, at once. pid may be our own: then its descendants only. */
void cf_spawn_kill_below(pid_t pid);

#endif
