/* Was this process started by a launcher? Only the environment is asked, because MPI_Init without a launcher costs 0.4
 * s and leaves a daemon behind.
 *
 *     mpirun                 OMPI_COMM_WORLD_SIZE
 *     srun --mpi=pmix        PMIX_RANK, and Slurm's own variables for the size
 *     srun --mpi=pmi2        PMI_RANK, PMI_SIZE
 *     srun without either    SLURM_PROCID in a step of several tasks: each task would run alone, so it is an error
 *     salloc, sbatch shell   SLURM_NTASKS may be set, but this is no task: no launcher
 */
#include "transport/internal.h"

#include <stdlib.h>
#include <string.h>

/* A count or number from the environment; `otherwise` if unset or no number. */
static long long number(const char *name, long long otherwise) {
    const char *text = getenv(name);
    if (!text || !*text) return otherwise;
    char *end;
    long long n = strtoll(text, &end, 10);
    return *end == '\0' && n >= 0 ? n : otherwise;
}

static long long slurm_tasks(void) {
    long long n = number("SLURM_STEP_NUM_TASKS", 0);
    if (n == 0) n = number("SLURM_NTASKS", 0);
    if (n == 0) n = number("SLURM_NPROCS", 0);
    return n;
}

/* The shell of sbatch has SLURM_PROCID=0 and no step; the shell of an interactive salloc has a step with one of the
 * reserved numbers close to 2^32. */
static bool is_slurm_task(void) {
    if (number("SLURM_PROCID", -1) < 0) return false;
    long long step = number("SLURM_STEP_ID", number("SLURM_STEPID", -1));
    if (step >= 0) return step < 0xfffffff0LL;
    const char *environment = getenv("ENVIRONMENT");
    return !(environment && strcmp(environment, "BATCH") == 0);
}

static int ranks_of_launcher(void) {
    long long n = number("OMPI_COMM_WORLD_SIZE", 0);
    if (n > 0) return (int)n;
    if (getenv("PMI_RANK") || getenv("PMIX_RANK")) {
        n = number("PMI_SIZE", 0);
        if (n == 0) n = slurm_tasks();
        return n > 0 ? (int)n : 2; // more is not known before MPI_Init: "several" is the careful answer
    }
    return 0;
}

bool cf_transport_launched(void) {
    return ranks_of_launcher() > 0;
}

int cf_transport_detect(int *ranks, struct cf_error *e) {
    int n = ranks_of_launcher();
    *ranks = n > 0 ? n : 1;
    if (n > 0 || !is_slurm_task() || slurm_tasks() <= 1) return 0;
    return cf_fail(e, CF_ERR_USAGE,
        "this is one of %lld Slurm tasks, but they cannot find each other (no PMI or PMIx): start them with `srun "
        "--mpi=pmix`",
        slurm_tasks());
}

/* hwloc looks at none of these where HWLOC_COMPONENTS is set; a topology of the user's own has no devices to look for.
 */
void cf_transport_no_devices(void) {
    static const char *const sources[] = {"HWLOC_XMLFILE", "HWLOC_SYNTHETIC", "HWLOC_FSROOT", "HWLOC_CPUID_PATH"};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (getenv(sources[i])) return;
    setenv("HWLOC_COMPONENTS", "-gl,-opencl,-cuda,-nvml,-rsmi,-levelzero", 0);
}
