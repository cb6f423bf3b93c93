/* See on_ranks.h. */
#include "coordinator/commands/shared/on_ranks.h"

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/shared/placement.h"

int cf__on_ranks(const struct cf__on_ranks *o) {
    struct cf_error e = {0};
    int status = cf_launch(&o->launch, &e);
    if (status >= 0) {
        if (e.code) cf__command_failed(o->command, &e);
        return status;
    }
    if (o->read && cf_terminal_speaks() && o->read(o->ctx, &e)) return cf__command_failed(o->command, &e);
    enum cf_terminal_role role = cf_terminal_role();
    cf_interrupt_install(role == CF_TERMINAL_BEHIND_FRONT);
    cf_terminal_open(o->terminal, role, cf_terminal_speaks());
    uint32_t threads = (uint32_t)o->threads;
    struct cf_job_options job = o->job;
    job.command = o->command->name, job.threads = &threads, job.n_threads = 1, job.terminal = o->terminal;
    if (cf_job_run(&job, o->work, o->ctx, &e)) return cf_exit_status(&e);
    cf_terminal_status(o->terminal, *o->status);
    return *o->status;
}
