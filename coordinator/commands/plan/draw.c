/* See draw.h. Hosts stand in a grid and are walked like a field is ploughed, so that a pipeline's next host is a
 * neighbour; what goes back to the first one runs along the left margin. All text is set in one width per letter, so
 * that every place is known to be large enough for what stands in it. */
#include "coordinator/commands/plan/draw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/plan/svg.h"

enum {
    LINE = 15,      /* from line to line */
    COFFER_W = 236, /* 35 letters */
    COFFER_H = 8 + 2 * LINE + 24 + 6 * LINE + 4,
    PAD = 10,
    HOST_HEAD = 3 * LINE + 10,
    ABREAST = 4, /* coffers side by side in a host */
    GAP_X = 118, /* between hosts, with two arrows and what they carry */
    GAP_Y = 58,
    MARGIN = 24,
    LANE = 16, /* of an arrow along the left margin */
    MOST_LANES = 4,
    MOST_NAMED = 8, /* hops that are not drawn, but named */
};

static const struct domain_look {
    const char *color;
} looks[CF_DOMAINS] = {[CF_PREFRONTAL] = {"#b07aa1"},
    [CF_LEFT_HEMI] = {"#4e79a7"},
    [CF_RIGHT_HEMI] = {"#f28e2b"},
    [CF_TEMPORAL] = {"#59a14f"}};
static const char buffers_color[] = "#9c9c9c", free_color[] = "#efefef", used_border[] = "#5a6a7a";

struct grid {
    uint32_t columns, rows, abreast, deep; /* hosts; coffers of the largest host */
    double host_w, host_h, x0, y0;
};

static uint32_t ranks_of(const struct cf_figures *f, uint32_t host) {
    uint32_t n = 0;
    for (uint32_t r = 0; r < f->n_ranks; r++)
        n += (uint32_t)f->ranks[r].host_index == host;
    return n;
}

/* As many rows as make a drawing half as wide again as high; an even number, so that the last host stands left. */
static struct grid lay_out(const struct cf_figures *f) {
    struct grid g = {.columns = f->n_hosts, .rows = 1};
    uint32_t most = 1;
    for (uint32_t h = 0; h < f->n_hosts; h++)
        if (ranks_of(f, h) > most) most = ranks_of(f, h);
    g.abreast = most < ABREAST ? most : ABREAST, g.deep = (most + g.abreast - 1) / g.abreast;
    g.host_w = g.abreast * (COFFER_W + PAD) + PAD, g.host_h = g.deep * (COFFER_H + PAD) + HOST_HEAD;
    double best = 0;
    for (uint32_t rows = f->n_hosts > 2 ? 2 : 1; rows <= f->n_hosts + 1; rows += 2) {
        uint32_t columns = (f->n_hosts + rows - 1) / rows;
        double ratio = columns * (g.host_w + GAP_X) / (rows * (g.host_h + GAP_Y)) / 1.5,
               off = ratio < 1 ? 1 / ratio : ratio;
        if (best > 0 && off >= best) continue;
        best = off, g.columns = columns, g.rows = (f->n_hosts + columns - 1) / columns;
    }
    return g;
}

static void place_of(const struct grid *g, uint32_t host, uint32_t *column, uint32_t *row) {
    *row = host / g->columns;
    *column = *row % 2 ? g->columns - 1 - host % g->columns : host % g->columns;
}

static double x_of(const struct grid *g, uint32_t column) {
    return g->x0 + column * (g->host_w + GAP_X);
}

static double y_of(const struct grid *g, uint32_t row) {
    return g->y0 + row * (g->host_h + GAP_Y);
}

/* ---- a coffer ---- */

static void draw_bar(
    FILE *to, double x, double y, const struct cf__held *held, const struct cf_rank_need *need, double has) {
    double all = (double)(need->weights + need->kv + need->buffers), w = COFFER_W - 16, at = x;
    if (has < all) has = all;
    if (has <= 0) return;
    cf__svg_box(to, x, y, w, 14, free_color, "none");
    for (int d = 0; d < CF_DOMAINS; d++) {
        cf__svg_box(to, at, y, w * held[d].bytes / has, 14, looks[d].color, "none");
        at += w * held[d].bytes / has;
    }
    cf__svg_box(to, at, y, w * (double)need->buffers / has, 14, buffers_color, "none");
    cf__svg_box(to, x, y, w, 14, "none", used_border);
}

static void draw_domain(FILE *to, double x, double y, enum cf_domain d, const struct cf__held *h) {
    char size[16], layers[24] = "", text[64];
    bool any = h->bytes > 0;
    if (any && d != CF_PREFRONTAL) snprintf(layers, sizeof layers, "%u-%u", h->layer0, h->layer1 - 1);
    snprintf(text, sizeof text, "%-10s %-9s%10s", d == CF_TEMPORAL ? "TEMPORAL" : cf_domain_name(d), layers,
        any ? cf__size_text(h->bytes, 1024, size) : "-");
    cf__svg_box(to, x, y - 9, 10, 10, any ? looks[d].color : "none", any ? "none" : "#c0c0c0");
    cf__svg_text(to, x + 16, y, any ? "t" : "dim", text);
}

static int draw_coffer(FILE *to, const struct cf__drawing *d, uint32_t rank, double x, double y, struct cf_error *e) {
    const struct cf_rank_info *r = &d->s->figures.ranks[rank];
    struct cf__held held[CF_DOMAINS];
    struct cf_rank_need need;
    char text[64], size[16], all[16];
    if (cf__subject_held(d->s, d->plan, rank, held, &need, e)) return -1;
    double used = (double)(need.weights + need.kv + need.buffers), has = (double)r->memory_free;
    bool works = need.weights || need.kv;
    cf__svg_box(to, x, y, COFFER_W, COFFER_H, works ? "#ffffff" : "#f7f7f7", works ? used_border : "#c0c0c0");
    snprintf(text, sizeof text, "rank %u, node %d", rank, r->node);
    cf__svg_text(to, x + 8, y + 16, works ? "b" : "dim", text);
    if (r->bandwidth > 0)
        snprintf(text, sizeof text, "%u threads, %.0f GB/s", r->threads, 1e-9 * r->bandwidth);
    else
        snprintf(text, sizeof text, "%u threads", r->threads);
    cf__svg_text(to, x + 8, y + 16 + LINE, works ? "t" : "dim", text);
    y += 8 + 2 * LINE + 4;
    draw_bar(to, x + 8, y, held, &need, has);
    y += 30;
    if (!works) {
        cf__svg_text(to, x + 8, y, "dim", "holds nothing");
        return 0;
    }
    for (int k = 0; k < CF_DOMAINS; k++, y += LINE)
        draw_domain(to, x + 8, y, (enum cf_domain)k, &held[k]);
    snprintf(text, sizeof text, "%-20s%10s", "buffers", cf__size_text((double)need.buffers, 1024, size));
    cf__svg_box(to, x + 8, y - 9, 10, 10, buffers_color, "none");
    cf__svg_text(to, x + 24, y, "t", text);
    if (has > 0) {
        cf__size_text(has > used ? has - used : 0, 1024, size);
        snprintf(text, sizeof text, "free %s of %s", size, cf__size_text(has, 1024, all));
        cf__svg_text(to, x + 24, y + LINE, "t", text);
    }
    return 0;
}

static int draw_host(FILE *to, const struct cf__drawing *d, const struct grid *g, uint32_t host, struct cf_error *e) {
    const struct cf_figures *f = &d->s->figures;
    uint32_t column, row, k = 0;
    char text[128], size[16];
    place_of(g, host, &column, &row);
    double x = x_of(g, column), y = y_of(g, row), inside = d->traffic[(size_t)host * f->n_hosts + host];
    const char *name = "";
    for (uint32_t r = 0; r < f->n_ranks; r++)
        if ((uint32_t)f->ranks[r].host_index == host && !*name) name = f->ranks[r].host;
    cf__svg_box(to, x, y, g->host_w, g->host_h, "#f4f6f8", "#8796a5");
    snprintf(text, sizeof text, "%.*s", (int)(g->host_w / CF__SVG_LETTER) - 3, name);
    cf__svg_text(to, x + PAD, y + 17, "b", text);
    if (inside > 0)
        snprintf(text, sizeof text, "inside: %s a token", cf__size_text(inside, 1000, size));
    else
        snprintf(text, sizeof text, "nothing passes inside");
    cf__svg_text(to, x + PAD, y + 17 + LINE, inside > 0 ? "t" : "dim", text);
    double out = 0, in = 0;
    for (uint32_t h = 0; h < f->n_hosts; h++)
        if (h != host)
            out += d->traffic[(size_t)host * f->n_hosts + h], in += d->traffic[(size_t)h * f->n_hosts + host];
    if (out + in > 0) {
        char other[16];
        snprintf(text, sizeof text, "out: %s, in: %s", cf__size_text(out, 1000, size), cf__size_text(in, 1000, other));
        cf__svg_text(to, x + PAD, y + 17 + 2 * LINE, "t", text);
    }
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        if ((uint32_t)f->ranks[r].host_index != host) continue;
        double cx = x + PAD + (k % g->abreast) * (COFFER_W + PAD),
               cy = y + HOST_HEAD + (k / g->abreast) * (COFFER_H + PAD);
        if (draw_coffer(to, d, r, cx, cy, e)) return -1;
        k++;
    }
    return 0;
}

/* ---- what passes between hosts ---- */

/* Between neighbours in the grid: the way there on one side, the way back on the other. */
static bool draw_neighbour(FILE *to, const struct grid *g, uint32_t a, uint32_t b, const char *size) {
    uint32_t ca, ra, cb, rb;
    place_of(g, a, &ca, &ra);
    place_of(g, b, &cb, &rb);
    double y = y_of(g, ra) + g->host_h / 2, x = x_of(g, ca) + g->host_w / 2;
    if (ra == rb && cb == ca + 1) {
        cf__svg_arrow(to, x_of(g, ca) + g->host_w, y - 10, x_of(g, cb), y - 10);
        cf__svg_middle(to, x_of(g, cb) - GAP_X / 2.0, y - 16, size);
    } else if (ra == rb && ca == cb + 1) {
        cf__svg_arrow(to, x_of(g, ca), y + 10, x_of(g, cb) + g->host_w, y + 10);
        cf__svg_middle(to, x_of(g, ca) - GAP_X / 2.0, y + 24, size);
    } else if (ca == cb && rb == ra + 1) {
        cf__svg_arrow(to, x - 10, y_of(g, ra) + g->host_h, x - 10, y_of(g, rb));
        cf__svg_end(to, x - 18, y_of(g, rb) - GAP_Y / 2.0 + 4, size);
    } else if (ca == cb && ra == rb + 1) {
        cf__svg_arrow(to, x + 10, y_of(g, ra), x + 10, y_of(g, rb) + g->host_h);
        cf__svg_text(to, x + 18, y_of(g, ra) - GAP_Y / 2.0 + 4, "t", size);
    } else {
        return false;
    }
    return true;
}

/* Is nothing left of this host? */
static bool at_margin(const struct grid *g, uint32_t n_hosts, uint32_t host) {
    uint32_t column, row;
    place_of(g, host, &column, &row);
    return !column || (row % 2 && host + 1 == n_hosts);
}

/* Along the left margin, each on a lane of its own; its size stands at its beginning. */
static void draw_return(FILE *to, const struct grid *g, uint32_t a, uint32_t b, uint32_t lane, const char *size) {
    uint32_t ca, ra, cb, rb;
    place_of(g, a, &ca, &ra);
    place_of(g, b, &cb, &rb);
    double x = g->x0 - GAP_X / 2.0 - lane * LANE, off = 30.0 + 16.0 * lane;
    double from = y_of(g, ra) + g->host_h / 2 + off, into = y_of(g, rb) + g->host_h / 2 + off;
    double points[4][2] = {{x_of(g, ca), from}, {x, from}, {x, into}, {x_of(g, cb), into}};
    cf__svg_way(to, points, 4);
    cf__svg_end(to, x_of(g, ca) - 8, from - 4, size);
}

/* Hops that are not drawn: the largest by name, all in number. */
struct rest {
    uint32_t n, named;
    double bytes;
    struct hop {
        uint32_t from, to;
        double bytes;
    } at[MOST_NAMED]; /* [named], descending */
};

static void leave_out(struct rest *r, uint32_t from, uint32_t to, double bytes) {
    uint32_t at = r->named < MOST_NAMED ? r->named++ : MOST_NAMED;
    r->n++, r->bytes += bytes;
    for (; at && r->at[at - 1].bytes < bytes; at--)
        if (at < MOST_NAMED) r->at[at] = r->at[at - 1];
    if (at < MOST_NAMED) r->at[at] = (struct hop){from, to, bytes};
}

static void draw_hops(FILE *to, const struct cf__drawing *d, const struct grid *g, struct rest *rest) {
    uint32_t n = d->s->figures.n_hosts, lane = 0;
    char size[16];
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = 0; b < n; b++) {
            double bytes = d->traffic[(size_t)a * n + b];
            if (a == b || bytes <= 0) continue;
            cf__size_text(bytes, 1000, size);
            if (draw_neighbour(to, g, a, b, size)) continue;
            if (lane < MOST_LANES && at_margin(g, n, a) && at_margin(g, n, b)) {
                draw_return(to, g, a, b, lane++, size);
                continue;
            }
            leave_out(rest, a, b, bytes);
        }
}

static uint32_t lanes(const struct cf__drawing *d, const struct grid *g) {
    uint32_t n = d->s->figures.n_hosts, found = 0;
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = 0; b < n; b++) {
            uint32_t ca, ra, cb, rb;
            place_of(g, a, &ca, &ra);
            place_of(g, b, &cb, &rb);
            bool near = ra == rb ? ca + 1 == cb || cb + 1 == ca : ca == cb && (ra + 1 == rb || rb + 1 == ra);
            found += a != b && d->traffic[(size_t)a * n + b] > 0 && !near && at_margin(g, n, a) && at_margin(g, n, b);
        }
    return found < MOST_LANES ? found : MOST_LANES;
}

static void draw_rest(FILE *to, double x, double y, const struct rest *rest, const struct cf_figures *f) {
    char text[160], size[16];
    double bytes = rest->bytes;
    if (!rest->n) return;
    cf__svg_text(to, x, y, "t", "Not drawn:");
    for (uint32_t i = 0; i < rest->named; i++, y += LINE) {
        const struct hop *h = &rest->at[i];
        snprintf(text, sizeof text, "%.40s to %.40s %s", cf_figures_host(f, h->from), cf_figures_host(f, h->to),
            cf__size_text(h->bytes, 1000, size));
        cf__svg_text(to, x + 11 * CF__SVG_LETTER, y, "t", text);
        bytes -= h->bytes;
    }
    if (rest->n == rest->named) return;
    snprintf(text, sizeof text, "and %u more, %s together", rest->n - rest->named,
        cf__size_text(bytes > 0 ? bytes : 0, 1000, size));
    cf__svg_text(to, x + 11 * CF__SVG_LETTER, y, "t", text);
}

static void draw_legend(FILE *to, double x, double y) {
    char text[160];
    double at = x;
    for (int d = 0; d < CF_DOMAINS; d++) {
        snprintf(text, sizeof text, "%s%s", cf_domain_name((enum cf_domain)d), d == CF_TEMPORAL ? " (KV cache)" : "");
        cf__svg_box(to, at, y - 9, 10, 10, looks[d].color, "none");
        cf__svg_text(to, at + 16, y, "t", text);
        at += 16 + (double)strlen(text) * CF__SVG_LETTER + 20;
    }
    cf__svg_box(to, at, y - 9, 10, 10, buffers_color, "none");
    cf__svg_text(to, at + 16, y, "t", "buffers");
    cf__svg_text(
        to, x, y + LINE + 3, "t", "bar: memory of the node. Arrows, out, in: what one token sends from host to host.");
}

static int draw(FILE *to, const struct cf__drawing *d, struct cf_error *e) {
    const struct cf_figures *f = &d->s->figures;
    struct grid g = lay_out(f);
    struct rest rest = {.n = 0};
    char *hops = NULL;
    size_t n_hops;
    uint32_t n_lanes = lanes(d, &g);
    g.x0 = MARGIN + (n_lanes ? GAP_X / 2.0 + n_lanes * LANE + 10 : 0), g.y0 = MARGIN + 4 * LINE + 20;
    double right = x_of(&g, g.columns - 1) + g.host_w + MARGIN, bottom = y_of(&g, g.rows - 1) + g.host_h;
    double wide = 720;
    for (int i = 0; i < 3; i++)
        if (d->lines[i] && cf__svg_width(d->lines[i], !i) + 2 * MARGIN > wide)
            wide = cf__svg_width(d->lines[i], !i) + 2 * MARGIN;
    FILE *aside = open_memstream(&hops, &n_hops);
    if (!aside) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    draw_hops(aside, d, &g, &rest);
    if (fclose(aside)) return free(hops), cf_fail(e, CF_ERR_MEMORY, "out of memory");
    uint32_t more = rest.named + (rest.n > rest.named);
    cf__svg_begin(to, right > wide ? right : wide, bottom + (2 + more) * LINE + 50);
    for (int i = 0; i < 3; i++)
        if (d->lines[i]) cf__svg_text(to, MARGIN, MARGIN + 12 + i * (LINE + 4), i ? "t" : "h", d->lines[i]);
    int rc = 0;
    for (uint32_t h = 0; !rc && h < f->n_hosts; h++)
        rc = draw_host(to, d, &g, h, e);
    fputs(hops, to);
    free(hops);
    draw_legend(to, MARGIN, bottom + 30);
    draw_rest(to, MARGIN, bottom + 30 + 2 * LINE + 6, &rest, f);
    cf__svg_finish(to);
    return rc;
}

int cf__draw_plan(const char *path, const struct cf__drawing *d, struct cf_error *e) {
    FILE *to = fopen(path, "we");
    if (!to) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    int rc = draw(to, d, e);
    bool bad = ferror(to);
    if ((fclose(to) || bad) && !rc) rc = cf_fail(e, CF_ERR_FILE, "%s cannot be written: %s", path, strerror(errno));
    return rc;
}
