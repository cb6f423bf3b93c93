/* Preloaded into coffer: rank 1 takes SLOW_END seconds before it ends MPI, so that all the others wait there for it,
 * and SLOW_EXIT seconds behind that, when they are gone. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int MPI_Finalize(void);

static void wait_for(const char *name) {
    const char *seconds = getenv(name), *rank = getenv("OMPI_COMM_WORLD_RANK");
    unsigned left = seconds && rank && !strcmp(rank, "1") ? (unsigned)atoi(seconds) : 0;
    while (left)
        left = sleep(left);
}

int MPI_Finalize(void) {
    int (*real)(void);
    void *symbol = dlsym(RTLD_NEXT, "MPI_Finalize");
    wait_for("SLOW_END");
    memcpy(&real, &symbol, sizeof real);
    int rc = real();
    wait_for("SLOW_EXIT");
    return rc;
}
