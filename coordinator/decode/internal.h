/* Between the files of decode/. */
#ifndef COFFER_COORDINATOR_DECODE_INTERNAL_H
#define COFFER_COORDINATOR_DECODE_INTERNAL_H

#include "coordinator/decode/job.h"

/* Rank 0: from the figures of all ranks to j->plan, and what is to be said about it (place.c). */
int cf__job_place(struct cf_job *j, struct cf_error *e);

/* All ranks: how many threads they are to run, where there is a choice. Then j->figures is for these, and on rank 0 the
 * plan is made (j->placed). */
int cf__job_choose_threads(struct cf_job *j, struct cf_error *e);

/* Bars for cf_engine_options.progress and cf_ship_options.progress; then what was sent, and where memory lies
 * (job_say.c). */
void cf__job_show_loading(void *job, uint64_t done, uint64_t total);
void cf__job_show_shipping(void *job, uint64_t done, uint64_t total);
void cf__job_say_ship(struct cf_job *j);
void cf__job_say_audit(struct cf_job *j);

/* Of a sweep: does what is asked for (j->layout, j->alone) not fit these ranks? Then rank 0 says why. All ranks find
 * the same. */
bool cf__job_passes_over(const struct cf_job *j);

/* Of a sweep: the layouts and wire types that differ on these ranks. */
const char *cf__job_layouts(const struct cf_job *j);
const char *cf__job_wires(const struct cf_job *j);

#endif
