/* Ranks that share a memory (several on one NUMA node; hosts that are containers or pods of one machine) are measured
 * while all of them read. This looks at how much faster one of them reads while the others rest: where a core can ask
 * for more than its share of what the memory gives, a pipeline of such ranks, or one of them alone, is faster than the
 * sum says.
 */
#ifndef COFFER_COORDINATOR_DECODE_MEASURE_ALONE_H
#define COFFER_COORDINATOR_DECODE_MEASURE_ALONE_H

#include "coordinator/decode/job.h"
#include "node/memory/bandwidth.h"

/* The first rank of those that share a memory sets j->own.alone, at least 1; the others, and ranks that have one for
 * themselves, 0. *together: bytes/s that the rank reads while all do; 0: it has its memory for itself. r: a buffer, or
 * one without bytes; bandwidth: about what it will be. Of ranks that share cores by processor time. Called by all ranks
 * inside the team's body; they meet. */
int cf_alone_look(struct cf_job *j, struct cf_reader *r, double bandwidth, double *together, struct cf_error *e);

/* What the first ranks have found, for all: sets memory and alone of j->ranks, whose nodes are known. */
void cf_alone_settle(struct cf_job *j);

#endif
