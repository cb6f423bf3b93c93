/* What --wire f16 or q8 did to the numbers that passed between hosts: counted by the ranks that sent them, added up and
 * said here.
 */
#ifndef COFFER_COORDINATOR_DECODE_ROUNDING_H
#define COFFER_COORDINATOR_DECODE_ROUNDING_H

#include "coordinator/decode/job.h"

/* Of all ranks and kinds of exchange; step < CF_STEP_KINDS: of one kind. */
struct cf_wire_count cf_rounding_total(const struct cf_rank_counts *counts, uint32_t n_ranks, int step);
/* Root of the squared errors over that of the squared numbers. NaN: there were none. */
double cf_rounding_rms(const struct cf_wire_count *k);

/* Rank 0, when the work of a plan is done: asks all ranks, and says it in a line on stderr; a line for each kind of
 * exchange with --verbose. Nothing where nothing was rounded. */
int cf_rounding_say(struct cf_job *j, struct cf_error *e);

#endif
