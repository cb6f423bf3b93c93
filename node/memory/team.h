/* The threads of one rank: an OpenMP team that is started once, pinned, and then given jobs.
 *
 * cf_team_run() starts the threads and calls `body` on thread 0, which is the caller's thread (the one that talks to
 * MPI). Inside body, cf_team_do() runs a job on all threads, thread 0 included, and returns when all are done. Between
 * jobs the others spin briefly, then sleep (futex); with sleep_at_once they sleep immediately. No OMP_* variable has any
 * influence.
 *
 * Inside a job, cf_team_next() hands out tiles; thread 0 also calls the team's poll function between tiles so that MPI
 * moves on in long steps.
 */
#ifndef COFFER_NODE_MEMORY_TEAM_H
#define COFFER_NODE_MEMORY_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"

struct cf_team;

struct cf_team_options {
    uint32_t n_threads;
    const uint32_t *cores;  /* [n_cores] PUs; thread i is pinned to cores[i % n_cores]; NULL: not pinned */
    uint32_t n_cores;
    bool sleep_at_once;
};

int cf_team_run(const struct cf_team_options *options, int (*body)(struct cf_team *team, void *ctx), void *ctx,
    struct cf_error *e); /* returns body's value, or -1 if the team could not be made */

uint32_t cf_team_size(const struct cf_team *team);

/* poll(ctx) is called by thread 0 between tiles, and at least once per job; at most every `interval` seconds. */
void cf_team_poll(struct cf_team *team, void (*poll)(void *ctx), void *ctx, double interval);

/* fn(thread, ctx) on every thread. n_items: what cf_team_next() will hand out in this job. */
void cf_team_do(struct cf_team *team, void (*fn)(struct cf_team *team, uint32_t thread, void *ctx), void *ctx,
    uint32_t n_items);
/* The next run of items [*first, *last) for this thread, at most `most` long; false when none is left. */
bool cf_team_next(struct cf_team *team, uint32_t thread, uint32_t most, uint32_t *first, uint32_t *last);
/* All threads of the job meet here (inside a job). */
void cf_team_barrier(struct cf_team *team, uint32_t thread);
/* Begins a new round of items inside a job: barrier, then cf_team_next() hands out 0..n_items-1 again. */
void cf_team_again(struct cf_team *team, uint32_t thread, uint32_t n_items);

/* Streaming read bandwidth of buf[bytes] by all threads, best of `passes`, bytes/s. */
double cf_team_bandwidth(struct cf_team *team, const void *buf, size_t bytes, int passes);

#endif
