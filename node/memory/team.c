/* One OpenMP region that lives as long as the rank computes. See team.h.
 *
 * Thread 0 opens the gate for a job or for the next part of one; every other thread shows at its flag that it has come
 * to the end of what the last gate let it do. So a job is: gate, work, flags; a barrier inside it is: flags, gate.
 * Counted by `gate`, the two never mix, and there is one piece of waiting code (barrier.h). */
#include "node/memory/team.h"

#include <errno.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

#include "node/memory/barrier.h"
#include "transport/clock.h"

enum { LINE = 64, CF_MAX_THREADS = 4096, LINES_PER_FETCH = 256 /* about a microsecond */ };
static const double spin_seconds = 100e-6; /* longer than an exchange on one host, shorter than a scheduler's slice */
static const double shortest_nap = 2e-6;

typedef void job_fn(struct cf_team *team, uint32_t thread, void *ctx);

/* What one thread owns, on cache lines of its own. */
struct member {
    _Alignas(LINE) struct cf__signal flag; /* the last gate whose work this thread has finished */
    uint32_t seen;                         /* the last gate that it went through */
    uint32_t victim;                       /* whose share it takes from: its own, then the next */
    struct cf__ahead ahead;
    _Alignas(LINE) _Atomic uint64_t next; /* next item of its share; thieves move it too */
    uint64_t end;
};

struct cf_team {
    _Alignas(LINE) struct cf__signal gate;
    /* Written by thread 0 before it opens the gate. */
    _Alignas(LINE) job_fn *job; /* NULL: go home */
    void *ctx;
    uint32_t size;
    bool complete; /* the runtime delivered all threads */
    double spin;
    const struct cf_team_options *options;
    _Atomic uint32_t pinned;
    /* Thread 0's own. */
    void (*poll)(void *ctx);
    void *poll_ctx;
    double poll_interval, polled_at, looked_at;
    bool polled;                    /* in this job */
    uint32_t calls, calls_per_look; /* of poll_at_times() since the last look at the clock */
    struct member members[];
};

/* ---- the environment ---- */

/* Runs before any library's initialisation, so before libgomp reads the environment. It may use nothing but its
 * arguments; sanitizers are not awake yet. */
__attribute__((no_sanitize("address", "undefined", "thread"), no_stack_protector)) static void forget_omp(
    int argc, char **argv, char **envp) {
    (void)argc, (void)argv;
    char **to = envp;
    for (char **from = envp; *from; from++) {
        const char *s = *from[0] == 'G' ? *from + 1 : *from;
        if (!(s[0] == 'O' && s[1] == 'M' && s[2] == 'P' && s[3] == '_')) *to++ = *from;
    }
    *to = NULL;
}
__attribute__((section(".preinit_array"), used)) static void (*const forget_omp_early)(
    int, char **, char **) = forget_omp;

/* ---- waiting ---- */

static void poll_now(struct cf_team *team) {
    team->poll(team->poll_ctx);
    team->polled_at = cf_now();
    team->polled = true;
}

static void poll_if_due(struct cf_team *team) {
    if (team->poll && cf_now() - team->polled_at >= team->poll_interval) poll_now(team);
}

/* The same between tiles, where a look at the clock each time would cost a hundredth of the work: as long as the calls
 * between two looks took less than an eighth of the interval, twice as many pass before the next. */
static void poll_at_times(struct cf_team *team) {
    if (!team->poll || ++team->calls < team->calls_per_look) return;
    double now = cf_now();
    bool quick = now - team->looked_at < team->poll_interval / 8;
    team->calls_per_look = quick ? 2 * team->calls_per_look : 1;
    team->calls = 0;
    team->looked_at = now;
    if (now - team->polled_at >= team->poll_interval) poll_now(team);
}

/* A new round has other items: it looks at the clock each time again, to begin with. */
static void look_often(struct cf_team *team) {
    team->calls = 0;
    team->calls_per_look = 1;
}

/* Seconds that thread 0 may wait before it must poll; 0: for ever. */
static double until_poll(const struct cf_team *team) {
    if (!team->poll) return 0;
    if (team->poll_interval <= 0) return shortest_nap;
    double left = team->polled_at + team->poll_interval - cf_now();
    return left > shortest_nap ? left : shortest_nap;
}

/* Thread 0 waits until all others have finished what the present gate let them do. */
static void gather(struct cf_team *team) {
    uint32_t done = atomic_load_explicit(&team->gate.value, memory_order_relaxed) + 1;
    for (uint32_t t = 1; t < team->size; t++) {
        uint32_t now;
        struct cf__signal *flag = &team->members[t].flag;
        while ((now = atomic_load_explicit(&flag->value, memory_order_acquire)) != done) {
            cf__signal_wait(flag, now, team->spin, until_poll(team), &team->members[0].ahead);
            poll_if_due(team);
        }
    }
}

static void open_gate(struct cf_team *team) {
    cf__signal_raise(&team->gate, atomic_load_explicit(&team->gate.value, memory_order_relaxed) + 1);
}

/* Another thread shows that it is done and waits for the next gate. */
static void report_and_wait(struct cf_team *team, struct member *me) {
    cf__signal_raise(&me->flag, me->seen + 1);
    me->seen = cf__signal_wait(&team->gate, me->seen, team->spin, 0, &me->ahead);
}

/* ---- items ---- */

static void share_out(struct cf_team *team, uint32_t n_items) {
    uint64_t n = n_items;
    for (uint32_t t = 0; t < team->size; t++) {
        struct member *m = &team->members[t];
        atomic_store_explicit(&m->next, n * t / team->size, memory_order_relaxed);
        m->end = n * (t + 1) / team->size;
    }
}

bool cf_team_next(struct cf_team *team, uint32_t thread, uint32_t most, uint32_t *first, uint32_t *last) {
    if (thread == 0) poll_at_times(team);
    struct member *me = &team->members[thread];
    for (; me->victim < team->size; me->victim++) {
        uint32_t from = thread + me->victim;
        struct member *m = &team->members[from < team->size ? from : from - team->size];
        uint64_t next = atomic_load_explicit(&m->next, memory_order_relaxed);
        if (next >= m->end) continue;
        /* A quarter of what is left: runs grow short towards the end, so that the threads end together. */
        uint64_t take = (m->end - next + 3) / 4;
        if (take > most) take = most;
        uint64_t at = atomic_fetch_add_explicit(&m->next, take, memory_order_relaxed);
        if (at >= m->end) continue;
        *first = (uint32_t)at;
        *last = (uint32_t)(at + take < m->end ? at + take : m->end);
        return true;
    }
    return false;
}

/* ---- jobs ---- */

void cf_team_do(struct cf_team *team, job_fn *fn, void *ctx, uint32_t n_items) {
    team->job = fn;
    team->ctx = ctx;
    team->polled = false;
    look_often(team);
    share_out(team, n_items);
    team->members[0].victim = 0;
    open_gate(team);
    fn(team, 0, ctx);
    gather(team);
    if (team->poll && !team->polled) poll_now(team);
}

void cf_team_again(struct cf_team *team, uint32_t thread, uint32_t n_items) {
    struct member *me = &team->members[thread];
    if (thread == 0) {
        gather(team);
        look_often(team);
        share_out(team, n_items);
        open_gate(team);
    } else {
        report_and_wait(team, me);
    }
    me->victim = 0;
}

void cf_team_barrier(struct cf_team *team, uint32_t thread) {
    if (thread == 0) {
        gather(team);
        open_gate(team);
    } else {
        report_and_wait(team, &team->members[thread]);
    }
}

static void work(struct cf_team *team, uint32_t thread) {
    struct member *me = &team->members[thread];
    for (;;) {
        report_and_wait(team, me);
        if (!team->job) return;
        me->victim = 0;
        team->job(team, thread, team->ctx);
    }
}

/* ---- the team ---- */

static void pin(struct cf_team *team, uint32_t thread) {
    const struct cf_team_options *o = team->options;
    if (!o->cores || !o->n_cores) return;
    uint32_t pu = o->cores[thread % o->n_cores];
    cpu_set_t *set = CPU_ALLOC(pu + 1);
    if (!set) return;
    size_t bytes = CPU_ALLOC_SIZE(pu + 1);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S(pu, bytes, set);
    if (sched_setaffinity(0, bytes, set) == 0) atomic_fetch_add(&team->pinned, 1);
    CPU_FREE(set);
}

/* libgomp orders what comes before its fork, in it and after its join, but the thread sanitizer does not see how and is
 * told: what was written before a hand_over() is seen after the take_over() that follows. The order within the region
 * is made by signals, which it sees. */
#ifdef __SANITIZE_THREAD__
#define hand_over(team) __tsan_release(team)
#define take_over(team) __tsan_acquire(team)
#else
#define hand_over(team) ((void)0)
#define take_over(team) ((void)0)
#endif

static void in_region(struct cf_team *team, int (*body)(struct cf_team *team, void *ctx), void *ctx, int *value) {
    uint32_t thread = (uint32_t)omp_get_thread_num();
    /* All threads see the same count, so that none waits for one that never came. */
    if ((uint32_t)omp_get_num_threads() != team->size) return;
    pin(team, thread);
    if (thread == 0) {
        team->complete = true;
        gather(team); /* all are pinned */
        *value = body(team, ctx);
        team->job = NULL;
        open_gate(team);
    } else {
        work(team, thread);
    }
}

/* Not looked at itself: what the threads read here is what the compiler lays out for libgomp. */
__attribute__((no_sanitize("thread"))) static void run_region(
    struct cf_team *team, int (*body)(struct cf_team *team, void *ctx), void *ctx, int *value) {
    hand_over(team);
#pragma omp parallel num_threads(team->size) default(none) shared(team, body, ctx, value)
    {
        take_over(team);
        in_region(team, body, ctx, value);
        hand_over(team);
    }
    take_over(team);
}

int cf_team_run(const struct cf_team_options *options, int (*body)(struct cf_team *team, void *ctx), void *ctx,
    struct cf_error *e) {
    uint32_t n = options->n_threads;
    if (n < 1 || n > CF_MAX_THREADS) return cf_fail(e, CF_ERR_USAGE, "%u threads: 1 to %d", n, (int)CF_MAX_THREADS);
    size_t bytes = sizeof(struct cf_team) + n * sizeof(struct member);
    struct cf_team *team = aligned_alloc(LINE, bytes);
    if (!team) return cf_fail(e, CF_ERR_MEMORY, "no memory for %u threads", n);
    memset(team, 0, bytes);
    team->size = n;
    team->options = options;
    team->spin = options->sleep_at_once ? 0 : spin_seconds;
    team->polled_at = cf_now();

    cpu_set_t before;
    bool restore = sched_getaffinity(0, sizeof before, &before) == 0;
    int dynamic = omp_get_dynamic(), value = -1;
    omp_set_dynamic(0);
    run_region(team, body, ctx, &value);
    omp_set_dynamic(dynamic);
    if (restore && options->cores) sched_setaffinity(0, sizeof before, &before);
    if (!team->complete)
        cf_fail(e, CF_ERR_SYSTEM, "OpenMP delivers fewer threads than the %u asked for (OMP_THREAD_LIMIT is %d)", n,
            omp_get_thread_limit());
    free(team);
    return value;
}

bool cf_team_sleeps_at_once(const struct cf_team *team) {
    return team->spin <= 0;
}

uint32_t cf_team_size(const struct cf_team *team) {
    return team->size;
}

uint32_t cf_team_pinned(const struct cf_team *team) {
    return atomic_load(&team->pinned);
}

void cf_team_breathe(struct cf_team *team, uint32_t thread) {
    if (thread == 0) poll_at_times(team);
}

void cf_team_ahead(struct cf_team *team, uint32_t thread, const void *at, size_t bytes) {
    team->members[thread].ahead = (struct cf__ahead){at, (const char *)at + bytes};
}

void cf_team_fetch(struct cf_team *team) {
    cf__ahead_fetch(&team->members[0].ahead, LINES_PER_FETCH);
}

void cf_team_poll(struct cf_team *team, void (*poll)(void *ctx), void *ctx, double interval) {
    team->poll = poll;
    team->poll_ctx = ctx;
    team->poll_interval = interval;
}
