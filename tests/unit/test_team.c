/* The team: every item handed out exactly once, barriers, polling, sleeping; and that no OMP_* variable matters, which
 * is tried by running this program again under each of them. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/memory/barrier.h"
#include "node/memory/team.h"
#include "transport/clock.h"

enum { ITEMS = 1000, ROUNDS = 20 };

struct load {
    _Atomic uint32_t taken[ITEMS];
    _Atomic uint32_t threads, meetings, failures;
    uint32_t n_items, most;
    uint32_t sums[64]; /* [thread], plain: the barrier must order it */
};

static void take_all(struct cf_team *team, uint32_t thread, struct load *w, uint32_t n) {
    uint32_t first, last;
    while (cf_team_next(team, thread, w->most, &first, &last)) {
        if (last <= first || last - first > w->most || last > n) w->failures++;
        if (cf_team_size(team) == 1 && last - first > (n - first + 3) / 4) w->failures++; /* ever shorter */
        for (uint32_t i = first; i < last && i < ITEMS; i++)
            w->taken[i]++;
    }
}

static void one_round(struct cf_team *team, uint32_t thread, void *ctx) {
    struct load *w = ctx;
    w->threads++;
    take_all(team, thread, w, w->n_items);
}

static void three_rounds(struct cf_team *team, uint32_t thread, void *ctx) {
    struct load *w = ctx;
    take_all(team, thread, w, w->n_items);
    w->sums[thread] = thread + 1;
    cf_team_barrier(team, thread);
    uint32_t sum = 0, n = cf_team_size(team);
    for (uint32_t t = 0; t < n; t++)
        sum += w->sums[t];
    if (sum != n * (n + 1) / 2) w->failures++;
    cf_team_again(team, thread, w->n_items / 2);
    take_all(team, thread, w, w->n_items / 2);
    cf_team_again(team, thread, 0);
    take_all(team, thread, w, 0);
    cf_team_again(team, thread, w->n_items);
    take_all(team, thread, w, w->n_items);
}

static int body_of_jobs(struct cf_team *team, void *ctx) {
    struct load *w = ctx;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        w->n_items = round * 53 % (ITEMS + 1);
        w->most = 1 + round % 7;
        memset(w->taken, 0, sizeof w->taken);
        w->threads = 0;
        cf_team_do(team, one_round, w, w->n_items);
        if (w->threads != cf_team_size(team)) return 1;
        for (uint32_t i = 0; i < ITEMS; i++)
            if (w->taken[i] != (i < w->n_items)) return 2;
        memset(w->taken, 0, sizeof w->taken);
        cf_team_do(team, three_rounds, w, w->n_items);
        for (uint32_t i = 0; i < ITEMS; i++)
            if (w->taken[i] != (i < w->n_items ? i < w->n_items / 2 ? 3 : 2 : 0)) return 3;
        if (w->failures) return 4;
        if (round % 8 == 7) usleep(300); /* they fall asleep in between */
    }
    return 77;
}

static int run_jobs(uint32_t threads, bool sleep_at_once, struct cf_error *e) {
    struct load *w = calloc(1, sizeof *w);
    if (!w) return -1;
    const struct cf_team_options o = {.n_threads = threads, .sleep_at_once = sleep_at_once};
    int rc = cf_team_run(&o, body_of_jobs, w, e);
    free(w);
    return rc;
}

static void items_are_handed_out_once(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 8; threads++) {
        struct cf_error e = {0};
        assert_int_equal(run_jobs(threads, threads > 2, &e), 77);
    }
    struct cf_error e = {0};
    assert_int_equal(run_jobs(1, true, &e), 77);
    assert_int_equal(run_jobs(2, true, &e), 77);
    assert_int_equal(run_jobs(3, false, &e), 77); /* spinning with more threads than cores: slow, but right */
}

/* ---- polling ---- */

struct polling {
    uint32_t polls;
    double last, gap;
};

static void count_poll(void *ctx) {
    struct polling *p = ctx;
    double now = cf_now();
    if (p->polls && now - p->last > p->gap) p->gap = now - p->last;
    p->last = now;
    p->polls++;
}

static void others_are_slow(struct cf_team *team, uint32_t thread, void *ctx) {
    (void)team, (void)ctx;
    if (thread) usleep(30000);
}

static void many_tiles(struct cf_team *team, uint32_t thread, void *ctx) {
    (void)ctx;
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        double start = cf_now();
        while (cf_now() - start < 100e-6) {
        }
    }
}

static void nothing(struct cf_team *team, uint32_t thread, void *ctx) {
    (void)team, (void)thread, (void)ctx;
}

static int body_of_polling(struct cf_team *team, void *ctx) {
    struct polling *p = ctx;
    cf_team_poll(team, count_poll, p, 1e-3);
    cf_team_do(team, nothing, NULL, 0);
    cf_team_do(team, nothing, NULL, 0);
    if (p->polls < 2) return 1; /* once per job, however short */
    *p = (struct polling){0};
    double start = cf_now();
    cf_team_do(team, others_are_slow, NULL, 0); /* 30 ms of waiting */
    if (p->polls < 5 || p->polls > (cf_now() - start) * 1e3 + 2) return 2;
    *p = (struct polling){0};
    cf_team_do(team, many_tiles, NULL, 400); /* 20 ms or more of tiles */
    if (p->polls < 3) return 3;
    *p = (struct polling){0};
    cf_team_poll(team, NULL, NULL, 0);
    cf_team_do(team, many_tiles, NULL, 10);
    return p->polls ? 4 : 77;
}

static void thread_0_polls(void **state) {
    (void)state;
    for (int sleepy = 0; sleepy < 2; sleepy++) {
        struct polling p = {0};
        struct cf_error e = {0};
        const struct cf_team_options o = {.n_threads = 2, .sleep_at_once = sleepy};
        assert_int_equal(cf_team_run(&o, body_of_polling, &p, &e), 77);
    }
}

/* ---- fetching ahead ---- */

static void fetches_to_the_end_and_no_further(void **state) {
    (void)state;
    static const char memory[64 * 10];
    struct cf__ahead a = {memory, memory + 64 * 9 + 1};
    cf__ahead_fetch(&a, 4);
    assert_ptr_equal(a.at, memory + 64 * 4);
    cf__ahead_fetch(&a, 100);
    assert_ptr_equal(a.at, memory + 64 * 10);
    struct cf__ahead nothing = {NULL, NULL};
    cf__ahead_fetch(&nothing, 8);
    assert_null(nothing.at);
}

/* ---- pinning, and what the environment may not do ---- */

static void check_pin(struct cf_team *team, uint32_t thread, void *ctx) {
    (void)team, (void)thread;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) != 1) ++*(_Atomic uint32_t *)ctx;
}

static int body_of_pinning(struct cf_team *team, void *ctx) {
    cf_team_do(team, check_pin, ctx, 0);
    return cf_team_size(team) == 4 && cf_team_pinned(team) == 4 ? 77 : 1;
}

static int run_pinned(void) {
    cpu_set_t before, after;
    uint32_t cores[CPU_SETSIZE], n = 0;
    if (sched_getaffinity(0, sizeof before, &before) != 0) return 1;
    for (uint32_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &before)) cores[n++] = i;
    const struct cf_team_options o = {.n_threads = 4, .cores = cores, .n_cores = n, .sleep_at_once = true};
    _Atomic uint32_t wrong = 0;
    struct cf_error e = {0};
    if (cf_team_run(&o, body_of_pinning, &wrong, &e) != 77 || wrong) return 2;
    if (sched_getaffinity(0, sizeof after, &after) != 0 || !CPU_EQUAL(&before, &after)) return 3;
    return 0;
}

static void threads_are_pinned(void **state) {
    (void)state;
    assert_int_equal(run_pinned(), 0);
}

/* argv[2]: the cpus that the parent may use, which OMP_PROC_BIND must not have narrowed. */
static int child(const char *cpus) {
    cpu_set_t set;
    if (getenv("OMP_NUM_THREADS") || getenv("OMP_PROC_BIND") || getenv("GOMP_CPU_AFFINITY")) return 10;
    if (!getenv("OMPI_LEFT_ALONE")) return 11;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) != atoi(cpus)) return 12;
    int rc = run_pinned();
    if (rc) return rc;
    struct cf_error e = {0};
    return run_jobs(4, true, &e) == 77 && run_jobs(2, false, &e) == 77 ? 0 : 13;
}

static void no_omp_variable_matters(void **state) {
    (void)state;
    static const char *const settings[] = {"OMP_NUM_THREADS=1", "OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=2",
        "OMP_WAIT_POLICY=active", "OMP_WAIT_POLICY=passive", "GOMP_SPINCOUNT=infinity", "OMP_PROC_BIND=true",
        "GOMP_CPU_AFFINITY=0", "OMP_NESTED=true", "OMP_MAX_ACTIVE_LEVELS=0"};
    cpu_set_t set;
    char cpus[16], self[4096] = {0}, sanitizer[1024];
    const char *options = getenv("TSAN_OPTIONS");
    snprintf(sanitizer, sizeof sanitizer, "TSAN_OPTIONS=%s", options ? options : "");
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    snprintf(cpus, sizeof cpus, "%d", CPU_COUNT(&set));
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            char *argv[] = {self, (char *)(uintptr_t) "child", cpus, NULL};
            char *envp[] = {(char *)(uintptr_t)settings[i], (char *)(uintptr_t) "OMPI_LEFT_ALONE=1",
                (char *)(uintptr_t) "OMP_PLACES={0}", sanitizer, NULL};
            execve(self, argv, envp);
            _exit(99);
        }
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status) fail_msg("%s: the child's status is %#x", settings[i], (unsigned)status);
    }
}

static void impossible_teams(void **state) {
    (void)state;
    struct cf_error e = {0};
    const struct cf_team_options none = {.n_threads = 0}, many = {.n_threads = 1000000};
    assert_int_equal(cf_team_run(&none, body_of_jobs, NULL, &e), -1);
    assert_int_equal(e.code, CF_ERR_USAGE);
    assert_int_equal(cf_team_run(&many, body_of_jobs, NULL, &e), -1);
}

/* ---- figures: printed, not judged ---- */

static void meet_often(struct cf_team *team, uint32_t thread, void *ctx) {
    (void)ctx;
    for (int i = 0; i < 1000; i++)
        cf_team_barrier(team, thread);
}

static double microseconds_of_do(struct cf_team *team, int n) {
    double start = cf_now();
    for (int i = 0; i < n; i++)
        cf_team_do(team, nothing, NULL, 0);
    return (cf_now() - start) / n * 1e6;
}

static int body_of_figures(struct cf_team *team, void *ctx) {
    double best_do = 1e9, best_barrier = 1e9;
    for (int k = 0; k < 10; k++) {
        double us = microseconds_of_do(team, 1000), start = cf_now();
        if (us < best_do) best_do = us;
        cf_team_do(team, meet_often, NULL, 0);
        us = (cf_now() - start) / 1000 * 1e6;
        if (us < best_barrier) best_barrier = us;
    }
    size_t bytes = (size_t)256 << 20;
    char *buf = aligned_alloc(64, bytes);
    if (!buf) return 1;
    memset(buf, 1, bytes);
    double rate = cf_team_bandwidth(team, buf, bytes, 3);
    free(buf);
    print_message("%u threads, %s: do %.2f us, barrier %.2f us, read %.1f GB/s\n", cf_team_size(team),
        (const char *)ctx, best_do, best_barrier, rate / 1e9);
    return rate > 0 ? 77 : 2;
}

static void figures(void **state) {
    (void)state;
    const uint32_t cores[] = {0, 1};
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    for (uint32_t threads = 1; threads <= 2 && threads <= n; threads++) {
        for (int sleepy = 0; sleepy < 2; sleepy++) {
            struct cf_error e = {0};
            const struct cf_team_options o = {
                .n_threads = threads, .cores = cores, .n_cores = n > 1 ? 2 : 1, .sleep_at_once = sleepy};
            char name[16];
            snprintf(name, sizeof name, "%s", sleepy ? "sleeping" : "spinning");
            assert_int_equal(cf_team_run(&o, body_of_figures, name, &e), 77);
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "child") == 0) return child(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_are_handed_out_once),
        cmocka_unit_test(thread_0_polls),
        cmocka_unit_test(fetches_to_the_end_and_no_further),
        cmocka_unit_test(threads_are_pinned),
        cmocka_unit_test(no_omp_variable_matters),
        cmocka_unit_test(impossible_teams),
        cmocka_unit_test(figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
