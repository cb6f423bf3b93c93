/* What the machine can do, measured before the plan by all ranks together: the read bandwidth of every rank's node, the
 * rate of its kernels, and the links between the ranks. `coffer bench` holds its results against these figures.
 */
#ifndef COFFER_COORDINATOR_DECODE_MEASURE_MEASURE_H
#define COFFER_COORDINATOR_DECODE_MEASURE_MEASURE_H

#include "coordinator/decode/job.h"

/* All ranks meet, so that what follows begins together, and tell each other a rate. Returns the sum of these, or -1. */
double cf_measure_meet(struct cf_job *j, double rate, struct cf_error *e);

/* Signs of life while the team measures: begin, work, end. The end fails if a peer has failed meanwhile. */
struct cf_measure_life {
    struct cf_job *job;
    struct cf_error error;
    bool failed;
};
void cf_measure_life_begin(struct cf_measure_life *l, struct cf_job *j);
int cf_measure_life_end(struct cf_measure_life *l, struct cf_error *e);

/* Sets j->own.bandwidth, bytes/s, and j->streamed, that of all ranks. Every rank streams with all its threads through a
 * buffer on its node, as large as the larger of 2 GiB and four last-level caches, but never more than its share of half
 * of the node's free memory. All ranks begin each of the five passes together, so that those that share a node share
 * its bandwidth; the pass with the highest sum over all ranks counts, the same one on every rank. Called by all ranks
 * inside the team's body. */
int cf_measure_bandwidth(struct cf_job *j, struct cf_error *e);

/* Sets j->own.rates, and j->product_rates for the types of the model's matrices, alike on every rank: all ranks
 * multiply at the same time (node/engine/rate.h), and their rates are added. Called by all ranks inside the team's
 * body. */
int cf_measure_products(struct cf_job *j, struct cf_error *e);

/* Of up to so many ranks every pair's link is measured in earnest; rounds of each size of message. */
enum { CF_MEASURE_PAIRED = 16 };
extern const int cf_measure_rounds[CF_LINK_SIZES];

/* Sets j->probes, alike on all ranks: the median one-way seconds between every two of up to 16 ranks, of more ranks
 * between rank 0 (which alone knows them then) and each other one; one pair after the other. Called by all ranks. */
int cf_measure_links(struct cf_job *j, struct cf_error *e);

/* Seconds that a message of cf_link_sizes[size] takes to a peer who sends one at the same time, both calling it. 16 KiB
 * back to back, and with work before each, as in a run; the quicker counts, for back to back a TCP connection now and
 * then takes three times as long, through all the rounds of one start, and at the next start not. */
int cf_measure_both(struct cf_job *j, int peer, int size, int rounds, double *seconds, struct cf_error *e);

/* Of CF_NOISE * each pieces of work, whose times are sorted here, each eighth's mean as a factor of `best`, at least 1.
 * The slowest counts like the second slowest: what stands still once in all that time has told no rate of it, and a
 * tenth of a second that a virtual machine was not run for would have every step of a forecast wait. */
void cf_measure_noise(double *times, int each, double best, double noise[CF_NOISE]);

/* For qsort: numbers that were measured, ascending. */
int cf_measure_ascending(const void *a, const void *b);

#endif
