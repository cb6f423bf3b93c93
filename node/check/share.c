/* Does somebody else use our cores? Two answers: what of the node's cores is ours at all, and how much of its time a
 * core gives us while all ranks compute at once. Two ranks on one core see a half. See check.h. */
#include "node/check/check.h"

#include <stdlib.h>
#include <time.h>

#include "node/memory/team.h"
#include "transport/clock.h"

uint32_t cf_check_node_cores(uint32_t node) {
    struct cf_machine m;
    struct cf_error ignored;
    uint32_t cores = 0;
    if (cf__machine_read_within(&m, NULL, NULL, &ignored)) return 0;
    for (uint32_t i = 0; i < m.n_nodes; i++)
        if (m.nodes[i].os_index == node) cores = m.nodes[i].n_cores;
    cf_machine_free(&m);
    return cores;
}

struct spin {
    double seconds;
    double *share; /* [threads] */
};

static double thread_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void spin_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct spin *s = ctx;
    (void)team;
    double start = cf_now(), worked = thread_time(), now = start;
    while (now - start < s->seconds)
        for (int i = 0; i < 1000; i++)
            now = cf_now();
    s->share[thread] = (thread_time() - worked) / (now - start);
}

static int spin_body(struct cf_team *team, void *ctx) {
    cf_team_do(team, spin_thread, ctx, 0);
    return 0;
}

int cf_check_share(const struct cf_seat *seat, double seconds, double *least, uint32_t *worst, struct cf_error *e) {
    struct spin s = {seconds, calloc(seat->n_cores, sizeof(double))};
    if (!s.share) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    struct cf_team_options o = {seat->n_cores, seat->cores, seat->n_cores, true};
    int rc = cf_team_run(&o, spin_body, &s, e);
    *least = 1, *worst = seat->cores[0];
    for (uint32_t i = 0; i < seat->n_cores; i++)
        if (s.share[i] < *least) *least = s.share[i], *worst = seat->cores[i];
    free(s.share);
    return rc;
}
