/* How late a rank finds what another rank of its host has sent it, after waiting so long:
 *
 *     mpirun -n 2 --bind-to none late_ranks MILLISECONDS [one-core]
 *
 * The two work by turns, so many milliseconds each, and wait for each other meanwhile; with `one-core` at one core. A
 * tool for a person, not a test: prints the median, mean and 90th percentile of the lateness, and how much of a core
 * the rank took. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/internal.h"
#include "transport/window.h"

enum { TURNS = 61 };

struct mail {
    bool here;
    double sent, found; /* on the clock of cf_now(), which is the host's */
};

static int on_message(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    struct mail *m = ctx;
    (void)from, (void)data, (void)offset, (void)n, (void)e;
    if (env->body_case != CF__ENVELOPE__BODY_ACTIVATION) return 1;
    *m = (struct mail){true, 1e-9 * (double)env->activation->window_offset, cf_now()};
    return 0;
}

static bool here(void *ctx) {
    return ((struct mail *)ctx)->here;
}

static int settle(void *ctx, void *base, size_t bytes, struct cf_error *e) {
    (void)ctx, (void)e;
    memset(base, 0, bytes);
    return 0;
}

static void work(double seconds) {
    volatile double x = 1;
    for (double end = cf_now() + seconds; cf_now() < end;)
        for (int i = 0; i < 1000; i++)
            x *= 1.0000001;
}

static int send(struct cf_transport *t, struct cf_error *e) {
    Cf__Activation a = CF__ACTIVATION__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_ACTIVATION, env.activation = &a;
    a.window_offset = (uint64_t)(1e9 * cf_now());
    return cf_post(t, 1 - t->rank, &env, NULL, 0, NULL, e);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int take_turns(struct cf_transport *t, double seconds, struct cf_error *e) {
    struct mail mail = {0};
    double late[TURNS], sum = 0, wall = cf_now(), core = cf_thread_now();
    cf_transport_on_message(t, on_message, &mail);
    for (int i = 0; i < 2 * TURNS; i++) {
        if (i % 2 == t->rank) {
            work(seconds);
            if (send(t, e)) return -1;
            continue;
        }
        mail.here = false;
        if (cf_wait(t, here, &mail, NULL, e)) return -1;
        late[i / 2] = mail.found - mail.sent, sum += late[i / 2];
    }
    wall = cf_now() - wall, core = cf_thread_now() - core;
    qsort(late, TURNS, sizeof *late, compare);
    printf("rank %d waited %.1f ms at a time: found after %.0f us (median; mean %.0f, 90 %% %.0f), took %.0f %% of a "
           "core\n",
        t->rank, 1e3 * seconds, 1e6 * late[TURNS / 2], 1e6 * sum / TURNS, 1e6 * late[TURNS * 9 / 10],
        100 * core / wall);
    return 0;
}

int main(int argc, char **argv) {
    struct cf_transport *t;
    struct cf_error e = {0};
    bool one_core = argc > 2 && !strcmp(argv[2], "one-core");
    if (argc < 2) return fprintf(stderr, "usage: mpirun -n 2 late_ranks MILLISECONDS [one-core]\n"), 2;
    if (cf_transport_open(&t, &(struct cf_transport_options){0}, &e)) return fprintf(stderr, "%s\n", e.text), 1;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)(one_core ? 0 : t->rank), &set);
    int rc = t->size == 2 ? 0 : cf_fail(&e, CF_ERR_USAGE, "two ranks, not %d", t->size);
    if (!rc && sched_setaffinity(0, sizeof set, &set)) rc = cf_fail(&e, CF_ERR_SYSTEM, "cannot take core %d", t->rank);
    cf_transport_sleep_at_once(t, one_core);
    if (!rc) rc = cf_window_open(t, true, 1000, settle, NULL, &e);
    if (!rc) rc = take_turns(t, 1e-3 * atof(argv[1]), &e);
    if (rc) fprintf(stderr, "%s\n", e.text), cf_transport_fail(t, &e);
    cf_transport_close(t, rc == 0);
    return rc ? 1 : 0;
}
