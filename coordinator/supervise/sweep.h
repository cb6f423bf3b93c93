/* What a job of Open MPI leaves on a host when its daemon was killed and could not tidy up: its session directory and
 * its shared-memory files. The supervisor sweeps its own host after each failure; the ranks of the next start sweep
 * theirs. */
#ifndef COFFER_COORDINATOR_SUPERVISE_SWEEP_H
#define COFFER_COORDINATOR_SUPERVISE_SWEEP_H

#include <stdint.h>
#include <sys/types.h>

/* job: as PMIx numbers it (PMIX_NAMESPACE), 0 unknown. launcher: the process id of mpirun, 0 unknown. Only files of our
 * own user are taken. */
void cf_sweep(uint32_t job, pid_t launcher);

/* The number of the job that this mpirun runs, as soon as it has one. 0: not known. */
uint32_t cf_sweep_job(pid_t launcher);

#endif
