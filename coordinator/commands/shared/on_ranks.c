/* See on_ranks.h. */
#include "coordinator/commands/shared/on_ranks.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/supervise/sweep.h"

/* Under a supervisor a rank does not outlive its parent, so that none is left where mpirun or its daemon is killed; and
 * it tidies up behind those whose daemon was. */
static void be_supervised(void) {
    const char *jobs = getenv("COFFER_SWEEP");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (char *end; jobs && *jobs; jobs = *end ? end + 1 : end) {
        cf_sweep((uint32_t)strtoul(jobs, &end, 10), 0);
        if (end == jobs) return;
    }
}

/* Before MPI is there: the others end with mpirun, which can hang over that. The front ends it once it is told. */
static int failed_early(const struct cf__on_ranks *o, const struct cf_error *e) {
    int status = cf__command_failed(o->command, e);
    cf_terminal_status(o->terminal, status);
    return status;
}

int cf__on_ranks(const struct cf__on_ranks *o) {
    struct cf_error e = {0};
    int status = cf_launch(&o->launch, &e);
    if (status >= 0) {
        if (e.code) cf__command_failed(o->command, &e);
        return status;
    }
    enum cf_terminal_role role = cf_terminal_role();
    cf_terminal_open(o->terminal, role, cf_terminal_speaks());
    if (cf_terminal_supervised()) be_supervised();
    if (cf_terminal_supervised() && cf_terminal_speaks() && o->replay && cf_replay_read(o->replay, STDIN_FILENO, &e))
        return cf__command_failed(o->command, &e); /* no status: with a new journal it may go better */
    if (o->read && cf_terminal_speaks() && o->read(o->ctx, &e)) return failed_early(o, &e);
    cf_interrupt_install(role == CF_TERMINAL_BEHIND_FRONT);
    uint32_t threads = (uint32_t)o->threads;
    struct cf_job_options job = o->job;
    job.command = o->command->name, job.threads = &threads, job.n_threads = 1, job.terminal = o->terminal;
    if (cf_job_run(&job, o->work, o->ctx, &e)) return cf_exit_status(&e);
    cf_terminal_status(o->terminal, *o->status);
    return *o->status;
}
