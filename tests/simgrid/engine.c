/* The whole of coffer as a program that SimGrid can run: transport/ compiled against SMPI's mpi.h, everything else as
 * it is. smpirun starts it in the place of its own smpimain (option -wrapper); every rank then enters by rank.c. All
 * ranks are in one process and take turns in one thread, which goes well because coffer has no variables but const
 * tables.
 *
 * Three things are otherwise than under a real MPI:
 *
 *   MPI_Init_thread  SMPI says "one thread only", though ranks of one thread each are all that is wanted here
 *   MPI_Testsome     SMPI takes each request to the simulator by itself: 64 ranks with 640 requests do nothing else. So
 *                    only those are tested for which there is something under way
 *   measuring        of a processor that 64 ranks have by turns says nothing: all get the same bandwidth, and no links
 *
 * Says at the end what time it is in the simulation. */
#include <mpi.h>
#include <simgrid/engine.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/commands/commands.h"
#include "coordinator/decode/measure/calibrate.h"

static const double BANDWIDTH = 1e10; /* bytes/s: that of `--bandwidth 10` */

int smpi_main(const char *executable, int argc, char *argv[]);
int coffer_rank(int argc, char **argv);
int __wrap_cf_calibrate_rank(struct cf_job *j, struct cf_error *e);
int __wrap_cf_calibrate_links(struct cf_job *j, struct cf_error *e);

/* [size][size]: sends between a rank (row) and another one, either way, whose end the first has not seen. */
static int *under_way, size;

static int this_rank(void) {
    int rank;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (under_way) return rank;
    PMPI_Comm_size(MPI_COMM_WORLD, &size);
    under_way = calloc((size_t)size * (size_t)size, sizeof *under_way);
    if (!under_way) abort();
    return rank;
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
    int rc = PMPI_Init_thread(argc, argv, required, provided);
    *provided = required;
    return rc;
}

int MPI_Isend(const void *buf, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *request) {
    int rank = this_rank();
    under_way[rank * size + to]++;
    under_way[to * size + rank]++;
    return PMPI_Isend(buf, count, type, to, tag, comm, request);
}

/* As transport/ calls it: requests of all ranks, equally many of each. */
int MPI_Testsome(int n, MPI_Request *requests, int *done, int *indices, MPI_Status *statuses) {
    int rank = this_rank(), lanes = n / size, worst = MPI_SUCCESS;
    *done = 0;
    for (int peer = 0; peer < size; peer++) {
        int some, first = peer * lanes, *left = &under_way[rank * size + peer];
        if (!*left) continue;
        int rc = PMPI_Testsome(lanes, requests + first, &some, indices + *done, statuses + *done);
        if (rc) worst = rc;
        if (some == MPI_UNDEFINED) continue;
        for (int i = 0; i < some; i++)
            indices[*done + i] += first;
        *done += some;
        *left -= some;
    }
    return worst;
}

int __wrap_cf_calibrate_rank(struct cf_job *j, struct cf_error *e) {
    (void)e;
    j->own.bandwidth = BANDWIDTH;
    return 0;
}

int __wrap_cf_calibrate_links(struct cf_job *j, struct cf_error *e) {
    (void)j, (void)e;
    return 0;
}

int coffer_rank(int argc, char **argv) {
    return cf_commands_main(cf_commands, argc, argv);
}

/* argv: this program, smpimain, what to load for each rank (rank.c), and what smpirun has for smpimain. */
int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: smpirun -wrapper %s ... RANK [COMMAND ...]\n", argv[0]);
        return 2;
    }
    int rc = smpi_main(argv[2], argc - 2, argv + 2);
    fprintf(stderr, "simulated: %.9f s\n", simgrid_get_clock());
    return rc;
}
