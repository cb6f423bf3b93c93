/* The threads of one rank: an OpenMP team that is started once, pinned, and then given jobs.
 *
 * cf_team_run() starts the threads and calls `body` on thread 0, which is the caller's thread (the one that talks to
 * MPI). Inside body, cf_team_do() runs a job on all threads, thread 0 included, and returns when all are done. Between
 * jobs the others spin briefly (100 us), then sleep (futex); with sleep_at_once they sleep immediately. No OMP_*
 * variable has any influence: linking this file takes them out of the program's environment before libgomp reads it
 * (which it does before main, and OMP_PROC_BIND binds the first thread then); children do not see them either.
 *
 * Inside a job, cf_team_next() hands out tiles: to each thread first those of its own contiguous share, the same in
 * every job of that size, then what slower threads have left. Thread 0 also calls the team's poll function between
 * tiles and while it waits, so that MPI moves on in long steps.
 *
 * What a job writes is visible to all threads after the next barrier, and to body when cf_team_do() returns.
 */
#ifndef COFFER_NODE_MEMORY_TEAM_H
#define COFFER_NODE_MEMORY_TEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct cf_team; /* lives from cf_team_run's call of body to its return */

struct cf_team_options {
    uint32_t n_threads;
    const uint32_t *cores; /* [n_cores] PUs; thread i is pinned to cores[i % n_cores]; NULL: not pinned */
    uint32_t n_cores;
    bool sleep_at_once;
};

/* Of `all` threads or cores the number that the i-th of `some` has, if these are to lie evenly among them: a part of a
 * node's cores reaches more of its caches and memory channels so. */
static inline uint32_t cf_team_spread(uint32_t i, uint32_t some, uint32_t all) {
    return (uint32_t)((uint64_t)i * all / some);
}

int cf_team_run(const struct cf_team_options *options, int (*body)(struct cf_team *team, void *ctx), void *ctx,
    struct cf_error *e); /* returns body's value, or -1 with *e if the team could not be made (body was not called) */

uint32_t cf_team_size(const struct cf_team *team);
bool cf_team_sleeps_at_once(const struct cf_team *team); /* its threads share their cores with others */
/* Threads that the kernel let us pin: cf_team_size() if all is well, 0 if options->cores was NULL. */
uint32_t cf_team_pinned(const struct cf_team *team);

/* poll(ctx) is called by thread 0 between tiles and while it waits for the others, at most every `interval` seconds;
 * and at the end of a job in which it was not called. poll NULL: none. Not from inside a job. */
void cf_team_poll(struct cf_team *team, void (*poll)(void *ctx), void *ctx, double interval);

/* fn(team, thread, ctx) on every thread. n_items: what cf_team_next() will hand out in this job. Not from inside a job.
 */
void cf_team_do(
    struct cf_team *team, void (*fn)(struct cf_team *team, uint32_t thread, void *ctx), void *ctx, uint32_t n_items);
/* The next run of items [*first, *last) for this thread, at most `most` (>= 1) long and a quarter of what is left of
 * the share it comes from, so that the threads end together; false when none is left. */
bool cf_team_next(struct cf_team *team, uint32_t thread, uint32_t most, uint32_t *first, uint32_t *last);
/* Inside a long item: lets thread 0 poll if it is due. Nothing on other threads. */
void cf_team_breathe(struct cf_team *team, uint32_t thread);
/* All threads of the job meet here (inside a job): every thread must call it equally often. */
void cf_team_barrier(struct cf_team *team, uint32_t thread);
/* Begins a new round of items inside a job: barrier, then cf_team_next() hands out 0..n_items-1 again. */
void cf_team_again(struct cf_team *team, uint32_t thread, uint32_t n_items);

/* Says what `thread` will read next: bytes[at]. While it waits, for threads or (cf_team_fetch) for messages, it fetches
 * that into its second-level cache, so that waiting time is not lost to a team that is bound by memory. Changes no
 * result. From the thread itself; bytes 0: nothing. */
void cf_team_ahead(struct cf_team *team, uint32_t thread, const void *at, size_t bytes);
/* The next 16 KiB of what was said for thread 0. From thread 0, between looks for a message. */
void cf_team_fetch(struct cf_team *team);

/* Streaming read bandwidth of buf[bytes] by all threads, best of `passes`, bytes/s. Called from body; buf is 64-byte
 * aligned, has been touched, and is several times larger than the caches. */
double cf_team_bandwidth(struct cf_team *team, const void *buf, size_t bytes, int passes);

#endif
