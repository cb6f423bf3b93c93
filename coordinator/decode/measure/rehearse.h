/* Sums of ranks on two hosts, rehearsed: pieces of work as long as what is before a sum, and behind each a message of
 * the size of a hidden state that both send at once. In a run such a sum takes longer than work and message by
 * themselves: the network's own work takes processor time from the ranks, messages find their reader at something else,
 * one waits for the other. What that comes to depends on machine, driver and cable; so it is tried out. What the work
 * takes by itself shows in its second half, for between one start of a program and the next, and even between one
 * tenth of a second and the next, memory is not equally fast.
 */
#ifndef COFFER_COORDINATOR_DECODE_MEASURE_REHEARSE_H
#define COFFER_COORDINATOR_DECODE_MEASURE_REHEARSE_H

#include "coordinator/decode/job.h"
#include "node/memory/bandwidth.h"

/* Seconds of a piece of work where noise is measured, about a step of a layer. */
#define CF_PIECE_SECONDS 2.5e-4
/* Bytes of a piece of so many seconds in a buffer. */
size_t cf_piece_bytes(const struct cf_reader *r, double seconds, double bandwidth);

/* Seconds of a rehearsed piece: half a layer's weights by the bandwidth of all ranks, but not less than the above, and
 * not more than a millisecond. */
double cf_rehearse_piece(double model_bytes, uint32_t layers, double bandwidth);

/* With a rank of another host, both calling it: seconds that a round takes more than its work alone, on average, for
 * each number of rows, for cf_figures_settle(); without memory for the work more[] stays as it is. Inside the team's
 * body. */
int cf_rehearse(struct cf_job *j, int peer, double more[CF_APART], struct cf_error *e);

#endif
