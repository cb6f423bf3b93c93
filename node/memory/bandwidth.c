/* Streaming read bandwidth of a team: what decoding can reach at best. See bandwidth.h, and cf_team_bandwidth in
 * team.h. */
#include "node/memory/bandwidth.h"

#include <string.h>

#include "transport/clock.h"

typedef uint64_t lanes __attribute__((vector_size(64)));

enum { PIECE = 1 << 18 }; /* bytes of one item */

/* Four independent sums hide the latency of the additions. One body, compiled once for each width of loads. */
static inline __attribute__((always_inline)) uint64_t sum_lanes(const lanes *p, size_t n) {
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    for (; n >= 4; n -= 4, p += 4) {
        a += p[0];
        b += p[1];
        c += p[2];
        d += p[3];
    }
    a += b + c + d;
    return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

typedef uint64_t sum_fn(const lanes *p, size_t n);
static uint64_t sum_generic(const lanes *p, size_t n) {
    return sum_lanes(p, n);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t sum_avx2(const lanes *p, size_t n) {
    return sum_lanes(p, n);
}
__attribute__((target("avx512f"))) static uint64_t sum_avx512(const lanes *p, size_t n) {
    return sum_lanes(p, n);
}

static sum_fn *widest(void) {
    if (__builtin_cpu_supports("avx512f")) return sum_avx512;
    if (__builtin_cpu_supports("avx2")) return sum_avx2;
    return sum_generic;
}
#else
static sum_fn *widest(void) {
    return sum_generic;
}
#endif

struct stream {
    const char *buf;
    sum_fn *sum;
    uint32_t threads;       /* so many read; 0: all */
    _Atomic uint64_t total; /* keeps the compiler from dropping the reads */
};

/* Is the thread one of those? If any of them it is the first that does not lie in front of it. */
static bool is_spread(uint32_t thread, uint32_t some, uint32_t all) {
    return cf_team_spread((uint32_t)(((uint64_t)thread * some + all - 1) / all), some, all) == thread;
}

static void read_pieces(struct cf_team *team, uint32_t thread, void *ctx) {
    struct stream *s = ctx;
    uint32_t first, last;
    uint64_t total = 0;
    if (s->threads && !is_spread(thread, s->threads, cf_team_size(team))) return;
    while (cf_team_next(team, thread, 4, &first, &last))
        total += s->sum((const lanes *)(const void *)(s->buf + (size_t)first * PIECE),
            (size_t)(last - first) * (PIECE / sizeof(lanes)));
    s->total += total;
}

static double stream(struct cf_team *team, const void *buf, size_t bytes, int passes, uint32_t threads) {
    struct stream s = {.buf = buf, .sum = widest(), .threads = threads};
    uint32_t pieces = bytes / PIECE > UINT32_MAX ? UINT32_MAX : (uint32_t)(bytes / PIECE);
    double best = 0;
    for (int i = 0; i < passes && pieces; i++) {
        double start = cf_now();
        cf_team_do(team, read_pieces, &s, pieces);
        double rate = (double)pieces * PIECE / (cf_now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

double cf_team_bandwidth(struct cf_team *team, const void *buf, size_t bytes, int passes) {
    return stream(team, buf, bytes, passes, 0);
}

static void touch_pieces(struct cf_team *team, uint32_t thread, void *ctx) {
    struct cf_reader *r = ctx;
    uint32_t first, last;
    while (cf_team_next(team, thread, 16, &first, &last))
        memset(r->buf + (size_t)first * PIECE, 1, (size_t)(last - first) * PIECE);
}

int cf_reader_open(struct cf_reader *r, struct cf_team *team, size_t bytes, int node, struct cf_error *e) {
    *r = (struct cf_reader){.bytes = bytes - bytes % PIECE};
    if (r->bytes == 0) return cf_fail(e, CF_ERR_MEMORY, "node %d: no free memory to measure bandwidth with", node);
    if (cf_arena_open(&r->arena, r->bytes, node, false, CF_NUMA_DEFAULT, NULL, e)) return -1;
    r->buf = cf_arena_take(&r->arena, r->bytes, 64);
    if (!r->buf) return cf_fail(e, CF_ERR_MEMORY, "node %d: no buffer of %zu bytes", node, r->bytes);
    cf_team_do(team, touch_pieces, r, (uint32_t)(r->bytes / PIECE));
    return 0;
}

void cf_reader_close(struct cf_reader *r) {
    cf_arena_close(&r->arena);
}

double cf_reader_pass(struct cf_reader *r, struct cf_team *team) {
    return cf_team_bandwidth(team, r->buf, r->bytes, 1);
}

double cf_reader_part(struct cf_reader *r, struct cf_team *team, size_t at, size_t bytes) {
    double start = cf_now();
    cf_team_bandwidth(team, r->buf + at, bytes, 1);
    return cf_now() - start;
}

double cf_reader_part_by(struct cf_reader *r, struct cf_team *team, size_t at, size_t bytes, uint32_t threads) {
    return stream(team, r->buf + at, bytes, 1, threads);
}
