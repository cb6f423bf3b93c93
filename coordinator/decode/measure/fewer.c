/* See fewer.h. */
#include "coordinator/decode/measure/fewer.h"

#include "node/engine/rate.h"

/* Few threads would take long for as much as all read; so much is two milliseconds for one. */
enum { MOST_BYTES = 32 << 20 };

struct cf_team_options cf_fewer_team(const struct cf_seat *seat, uint32_t threads, uint32_t cores[CF_MAX_CORES]) {
    uint32_t n = threads < seat->n_cores ? threads : seat->n_cores;
    for (uint32_t i = 0; i < n; i++)
        cores[i] = seat->cores[cf_team_spread(i, n, seat->n_cores)];
    return (struct cf_team_options){threads, cores, n, seat->crowded || threads > seat->n_cores};
}

static int meet(struct cf_team *team, void *ctx) {
    *(double *)ctx = cf_team_round_seconds(team);
    return 0;
}

int cf_fewer_meet(struct cf_rank_info *to, const struct cf_seat *seat, struct cf_error *e) {
    uint32_t cores[CF_MAX_CORES];
    to->n_fewer = 0;
    for (uint32_t n = seat->n_cores / 2; !seat->crowded && n && to->n_fewer < CF_FEWER; n /= 2)
        to->fewer[to->n_fewer++] = (struct cf_fewer){.threads = n};
    for (uint32_t i = to->n_fewer; i-- > 0;) { /* ascending: each thread is started once */
        struct cf_team_options o = cf_fewer_team(seat, to->fewer[i].threads, cores);
        if (cf_team_run(&o, meet, &to->fewer[i].step, e)) return -1;
    }
    return 0;
}

void cf_fewer_read(struct cf_rank_info *to, struct cf_reader *r, struct cf_team *team, int pass, double *all) {
    size_t bytes = r->bytes < MOST_BYTES ? r->bytes : MOST_BYTES;
    size_t at = (size_t)pass * bytes % (r->bytes - bytes + 1) >> 18 << 18;
    for (uint32_t i = 0; to->n_fewer && i <= to->n_fewer; i++) {
        uint32_t threads = i < to->n_fewer ? to->fewer[i].threads : cf_team_size(team);
        double *best = i < to->n_fewer ? &to->fewer[i].bandwidth : all;
        /* A small buffer is to lie in these threads' caches as it would if they alone ran. Of a large one each pass
         * reads another part, which is not to be found there. */
        if (bytes == r->bytes) cf_reader_part_by(r, team, at, bytes, threads);
        double rate = cf_reader_part_by(r, team, at, bytes, threads);
        if (rate > *best) *best = rate;
    }
}

void cf_fewer_scale(struct cf_rank_info *to, double all, double bandwidth) {
    for (uint32_t i = 0; i < to->n_fewer; i++)
        to->fewer[i].bandwidth *= all > 0 ? bandwidth / all : 0;
}
