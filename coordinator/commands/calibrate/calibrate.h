/* Private to `coffer calibrate`: what all ranks measured, and how it is shown.
 *
 *     calibrate.c    the command: launch, job without a plan     survey.c    every rank measures, rank 0 collects
 *     print.c        tables and JSON                         describe.c  as the description of a cluster
 */
#ifndef COFFER_COORDINATOR_COMMANDS_CALIBRATE_H
#define COFFER_COORDINATOR_COMMANDS_CALIBRATE_H

#include "coordinator/decode/job.h"

struct cf__calibrate {
    /* As asked for: */
    const char *model; /* whose heads attention is measured with */
    bool disk;         /* the model was named: its file is read past the page cache */
    bool all_tables;   /* of kernels, not only the one that a run takes */
    double seconds;    /* for each rate */
    bool json;
    const char *describe; /* the file for it, or NULL */
    struct cf_terminal *terminal;
    int status;

    /* Rank 0: */
    uint32_t n_ranks, n_hosts;
    Cf__Checkup **found;              /* [n_ranks] owned */
    const struct cf_rank_info *ranks; /* [n_ranks] hosts only; of the job */
    FILE *description;                /* of the cluster; is written to as well, or NULL; owned */
    const char *rates_file;           /* that was renewed on rank 0's host, or NULL: none */
};

/* cf_job_options.instead: all ranks. On rank 0 prints what was found. ctx: struct cf__calibrate. */
int cf__survey(struct cf_job *j, void *ctx, struct cf_error *e);

/* The first rank of a host speaks for it. */
bool cf__calibrate_speaks(const struct cf__calibrate *c, uint32_t rank);

/* NULL if memory is short; free(). */
char *cf__calibrate_tables(const struct cf__calibrate *c);
char *cf__calibrate_json(const struct cf__calibrate *c);

/* Writes what --cluster reads into the file, in the place of what is there. */
int cf__calibrate_describe(const struct cf__calibrate *c, struct cf_error *e);

#endif
