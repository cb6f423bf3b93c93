/* Between the files of decode/. */
#ifndef COFFER_COORDINATOR_DECODE_INTERNAL_H
#define COFFER_COORDINATOR_DECODE_INTERNAL_H

#include "coordinator/decode/job.h"

/* Rank 0: from the figures of all ranks to j->plan, and what is to be said about it (place.c). */
int cf__job_place(struct cf_job *j, struct cf_error *e);

/* All ranks find the same: does what is asked for (j->layout, j->alone) fit these ranks? *why: why not. */
bool cf__job_fits(const struct cf_job *j, struct cf_error *why);

/* Of a sweep: the layouts and wire types that differ on these ranks. */
const char *cf__job_layouts(const struct cf_job *j);
const char *cf__job_wires(const struct cf_job *j);

#endif
