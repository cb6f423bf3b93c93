/* `coffer bench --cluster --svg FILE`: total tokens/s against sequences in flight, a line for each layout and wire
 * type. Sequences stand at equal distances when they double. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/bench/bench.h"
#include "coordinator/commands/plan/svg.h"
#include "node/kernels/kernels.h"

enum { MOST_LINES = 64, TICKS = 5 };
static const double WIDTH = 860, HEIGHT = 460, LEFT = 70, RIGHT = 600, TOP = 60, BOTTOM = 400;
static const char *const colours[] = {
    "#7a8087", "#1f5fa8", "#c23b22", "#2f8f4e", "#8a4fa3", "#c98a12", "#2a9aa5", "#b0487f", "#5b6b2f", "#444b9e"};
enum { COLOURS = sizeof colours / sizeof *colours };

struct plot {
    const struct cf__bench *b;
    double most;                /* tokens/s at the top */
    double low, high;           /* doublings of one sequence at both sides */
    uint32_t lines[MOST_LINES]; /* first test of each */
    uint32_t n_lines;
};

static double rate(const struct cf__bench_test *k) {
    return (double)k->generate * k->sequences / cf__bench_median(k);
}

static double doublings(uint32_t sequences) {
    return cf_log(sequences) / cf_log(2);
}

static double x_of(const struct plot *p, uint32_t sequences) {
    double span = p->high - p->low;
    return span > 0 ? LEFT + (RIGHT - LEFT) * (doublings(sequences) - p->low) / span : (LEFT + RIGHT) / 2;
}

static double y_of(const struct plot *p, double tokens) {
    return BOTTOM - (BOTTOM - TOP) * tokens / p->most;
}

static bool same_line(const struct cf__bench_test *x, const struct cf__bench_test *y) {
    return x->alone == y->alone && !strcmp(x->layout, y->layout) && !strcmp(x->wire, y->wire) && x->depth == y->depth &&
           x->generate == y->generate && x->ranks[0].threads == y->ranks[0].threads;
}

/* Which lines there are, and how large the frame must be. */
static void survey(struct plot *p) {
    p->low = INFINITY, p->high = -INFINITY;
    for (uint32_t i = 0; i < p->b->n_tests; i++) {
        const struct cf__bench_test *k = &p->b->tests[i];
        p->most = fmax(p->most, rate(k));
        p->low = fmin(p->low, doublings(k->sequences)), p->high = fmax(p->high, doublings(k->sequences));
        bool known = false;
        for (uint32_t n = 0; n < p->n_lines; n++)
            known |= same_line(k, &p->b->tests[p->lines[n]]);
        if (!known && p->n_lines < MOST_LINES) p->lines[p->n_lines++] = i;
    }
    static const double steps[] = {1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10};
    double ten = 1e-3;
    size_t i = 0;
    while (10 * ten * TICKS <= p->most)
        ten *= 10;
    while (i + 1 < sizeof steps / sizeof *steps && steps[i] * ten * TICKS < p->most)
        i++;
    p->most = steps[i] * ten * TICKS;
}

static void frame(FILE *f, const struct plot *p) {
    char text[64];
    cf__svg_text(f, LEFT, 24, "h", "total tokens/s against sequences in flight");
    cf__svg_text(f, LEFT, 42, "t", cf__bench_model_name(p->b));
    for (int i = 0; i <= TICKS; i++) {
        double v = p->most * i / TICKS;
        snprintf(text, sizeof text, "%.4g", v);
        cf__svg_end(f, LEFT - 8, y_of(p, v) + 4, text);
        cf__svg_line(f, (double[2][2]){{LEFT, y_of(p, v)}, {RIGHT, y_of(p, v)}}, 2, "#e3e6e9");
    }
    for (uint32_t i = 0; i < p->b->sequences.n; i++) {
        snprintf(text, sizeof text, "%u", p->b->sequences.v[i]);
        cf__svg_middle(f, x_of(p, p->b->sequences.v[i]), BOTTOM + 18, text);
    }
    cf__svg_middle(f, (LEFT + RIGHT) / 2, BOTTOM + 40, "sequences in flight");
}

static int by_x(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int line(FILE *f, const struct plot *p, uint32_t number) {
    const struct cf__bench *b = p->b;
    const struct cf__bench_test *first = &b->tests[p->lines[number]];
    const char *colour = colours[number % COLOURS], *inside = number / COLOURS % 2 ? "white" : colour;
    double(*points)[2] = calloc(b->n_tests, sizeof *points), y = TOP + 20 * number;
    int n = 0;
    char text[96];
    if (!points) return -1;
    for (uint32_t i = 0; i < b->n_tests; i++)
        if (same_line(first, &b->tests[i]))
            points[n][0] = x_of(p, b->tests[i].sequences), points[n++][1] = y_of(p, rate(&b->tests[i]));
    qsort(points, (size_t)n, sizeof *points, by_x);
    cf__svg_line(f, points, n, colour);
    for (int i = 0; i < n; i++)
        cf__svg_box(f, points[i][0] - 3, points[i][1] - 3, 6, 6, inside, colour);
    cf__svg_box(f, RIGHT + 16, y - 8, 10, 10, inside, colour);
    snprintf(text, sizeof text, first->alone ? "rank 0 alone" : "%s, wire %s", first->layout, first->wire);
    cf__svg_text(f, RIGHT + 32, y + 1, "t", text);
    free(points);
    return 0;
}

int cf__bench_plot(const struct cf__bench *b, const char *path, struct cf_error *e) {
    struct plot p = {.b = b};
    if (!b->n_tests) return 0;
    survey(&p);
    FILE *f = fopen(path, "w");
    if (!f) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    double bottom = TOP + 20 * p.n_lines + 20;
    cf__svg_begin(f, WIDTH, bottom > HEIGHT ? bottom : HEIGHT);
    frame(f, &p);
    int rc = 0;
    for (uint32_t i = 0; i < p.n_lines && !rc; i++)
        rc = line(f, &p, i);
    cf__svg_finish(f);
    bool written = !ferror(f);
    if (fclose(f)) written = false;
    if (rc) return cf_fail(e, CF_ERR_MEMORY, "no memory to draw %s", path);
    return written ? 0 : cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
}
