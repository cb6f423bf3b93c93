/* Between the files of decode/. */
#ifndef COFFER_COORDINATOR_DECODE_INTERNAL_H
#define COFFER_COORDINATOR_DECODE_INTERNAL_H

#include "coordinator/decode/job.h"

/* Rank 0: from the figures of all ranks to j->plan, and what is to be said about it (place.c). */
int cf__job_place(struct cf_job *j, struct cf_error *e);

#endif
