/* What the machines can do, measured at each start, before the plan: a quick look at what planner and prediction need
 * (plan/figures.h). `coffer bench` and `coffer calibrate` take the time to measure in earnest instead (measure.h).
 *
 * Every rank measures itself (memory, kernels, threads); the first ranks of the hosts measure the links between their
 * hosts, the first two of a host that within it. The rates of kernels are the same from start to start: they lie in a
 * file per host (rates_file.h), the best ever measured for each type of weights and number of threads.
 */
#ifndef COFFER_COORDINATOR_DECODE_MEASURE_CALIBRATE_H
#define COFFER_COORDINATOR_DECODE_MEASURE_CALIBRATE_H

#include "coordinator/decode/job.h"

/* Without ranks: what the node of this process can do with all its cores, and with fewer, for a model. A bandwidth that
 * is there stays, and then nothing is known of fewer. */
int cf_calibrate_here(struct cf_rank_info *to, const struct cf_model *m, const struct cf_gguf *g, struct cf_error *e);

/* This rank: sets bandwidth (unless it is there), alone, noise, rates, attention and step of j->own, and the bandwidths
 * of its `fewer`. Called by all ranks inside the team's body. */
int cf_calibrate_rank(struct cf_job *j, struct cf_error *e);

/* The links: fills this rank's row of j->figures.links. Between up to 16 hosts all pairs, beyond that rank 0's host
 * with each; some pairs also rehearse a sum (rehearse.h). Called by all ranks; j->figures has its hosts. */
int cf_calibrate_links(struct cf_job *j, struct cf_error *e);

/* Into this rank's hello and out of everybody's: the figures of all ranks, the same on every rank. What nobody has
 * measured of the links is filled in with the mean of those that somebody has, or assumed. *h points into *room. */
struct cf_calibrate_room {
    uint32_t types[CF_TYPE_LIMIT];
    double rates[CF_TYPE_LIMIT], single[CF_TYPE_LIMIT], few[CF_TYPE_LIMIT], noise[CF_NOISE];
    uint32_t fewer[CF_FEWER];
    double fewer_bandwidth[CF_FEWER], fewer_step[CF_FEWER];
    double *links; /* owned: free() */
};
int cf_calibrate_tell(const struct cf_job *j, Cf__Hello *h, struct cf_calibrate_room *room, struct cf_error *e);
int cf_calibrate_hear(struct cf_job *j, const Cf__Verdict *all, struct cf_error *e);

#endif
