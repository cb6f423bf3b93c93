/* See figures.h. */
#include "coordinator/plan/forecast/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const size_t cf_link_sizes[CF_LINK_SIZES] = {8, 16 << 10, 1 << 20};
const uint32_t cf_apart_rows[CF_APART] = {1, 4};

int cf_figures_new(struct cf_figures *f, uint32_t n_ranks, uint32_t n_hosts, struct cf_error *e) {
    *f = (struct cf_figures){.n_ranks = n_ranks, .n_hosts = n_hosts};
    f->ranks = calloc(n_ranks, sizeof *f->ranks);
    f->links = calloc((size_t)n_hosts * n_hosts, sizeof *f->links);
    if (f->ranks && f->links) return 0;
    cf_figures_free(f);
    return cf_fail(e, CF_ERR_MEMORY, "no memory for the figures of %u ranks on %u hosts", n_ranks, n_hosts);
}

void cf_figures_free(struct cf_figures *f) {
    free(f->ranks);
    free(f->links);
    memset(f, 0, sizeof *f);
}

const char *cf_figures_host(const struct cf_figures *f, uint32_t host) {
    uint32_t r = 0;
    while (r + 1 < f->n_ranks && f->ranks[r].host_index != (int)host)
        r++;
    return f->ranks[r].host;
}

double cf_figures_host_bandwidth(const struct cf_figures *f, uint32_t host) {
    double sum = 0;
    for (uint32_t r = 0; r < f->n_ranks; r++)
        if (f->ranks[r].host_index == (int)host) sum += f->ranks[r].bandwidth;
    return sum;
}

struct cf_link *cf_figures_link(const struct cf_figures *f, uint32_t from, uint32_t to) {
    return &f->links[(size_t)f->ranks[from].host_index * f->n_hosts + (size_t)f->ranks[to].host_index];
}

struct cf_link cf_link_of(double latency, double bandwidth) {
    struct cf_link l = {.apart = {0}};
    for (int i = 0; i < CF_LINK_SIZES; i++)
        l.seconds[i] = l.both[i] = latency + (double)cf_link_sizes[i] / bandwidth;
    return l;
}

double cf_link_seconds(const double seconds[CF_LINK_SIZES], double bytes) {
    int i = 0;
    while (i < CF_LINK_SIZES - 2 && bytes > (double)cf_link_sizes[i + 1])
        i++;
    double x0 = (double)cf_link_sizes[i], x1 = (double)cf_link_sizes[i + 1], y0 = seconds[i], y1 = seconds[i + 1];
    double slope = y1 > y0 ? (y1 - y0) / (x1 - x0) : 0; /* a larger message is never quicker: that was noise */
    return bytes <= x0 ? y0 : y0 + slope * (bytes - x0);
}

void cf_figures_assume_links(struct cf_figures *f) {
    for (uint32_t a = 0; a < f->n_hosts; a++)
        for (uint32_t b = 0; b < f->n_hosts; b++) {
            struct cf_link *l = &f->links[(size_t)a * f->n_hosts + b];
            if (l->seconds[0] > 0) continue;
            *l = a == b ? cf_link_of(CF_HOP_LOCAL, CF_BANDWIDTH_LOCAL) : cf_link_of(CF_HOP_REMOTE, CF_BANDWIDTH_REMOTE);
        }
}

static const double *noise_of(const struct cf_figures *f, uint32_t host) {
    for (uint32_t r = 0; r < f->n_ranks; r++)
        if ((uint32_t)f->ranks[r].host_index == host) return f->ranks[r].noise;
    return NULL;
}

/* How much longer than one of two ranks takes the slower of them is on average, in pieces of work. */
static double slower(const double *a, const double *b) {
    double most = 0, mean = 0;
    if (!a || !b || a[0] <= 0 || b[0] <= 0) return 0;
    for (int i = 0; i < CF_NOISE; i++) {
        mean += (a[i] + b[i]) / 2 / CF_NOISE;
        for (int k = 0; k < CF_NOISE; k++)
            most += (a[i] > b[k] ? a[i] : b[k]) / (CF_NOISE * CF_NOISE);
    }
    return most - mean;
}

/* What is over of rehearsed sums with so many rows, the mean of all pairs. -1: none has rehearsed it. */
static double left_of_sums(const struct cf_figures *f, int i, double piece) {
    double sum = 0, n = 0;
    for (uint32_t a = 0; a < f->n_hosts; a++)
        for (uint32_t b = a + 1; b < f->n_hosts; b++) {
            const struct cf_link *one = &f->links[a * f->n_hosts + b], *other = &f->links[b * f->n_hosts + a];
            double x = one->apart[i], y = other->apart[i], least = x > 0 && (y <= 0 || x < y) ? x : y;
            if (least <= 0) continue;
            double more = least - cf_link_seconds(one->both, cf_apart_rows[i] * f->row_bytes) -
                          piece * slower(noise_of(f, a), noise_of(f, b));
            sum += more > 0 ? more : 0, n++;
        }
    return n > 0 ? sum / n : -1;
}

void cf_figures_settle(struct cf_figures *f, double row_bytes, double piece) {
    double left[CF_APART];
    f->row_bytes = row_bytes;
    for (int i = 0; i < CF_APART; i++) {
        left[i] = left_of_sums(f, i, piece);
        if (left[i] < (i ? left[i - 1] : 0)) left[i] = i ? left[i - 1] : 0; /* more rows never take less: noise */
    }
    for (uint32_t k = 0; k < f->n_hosts * f->n_hosts; k++)
        for (int i = 0; i < CF_APART; i++)
            f->links[k].apart[i] = k / f->n_hosts != k % f->n_hosts ? left[i] : 0;
}

double cf_figures_apart(const struct cf_figures *f, const struct cf_link *l, double bytes) {
    double x0 = cf_apart_rows[0] * f->row_bytes, x1 = cf_apart_rows[1] * f->row_bytes;
    if (bytes <= x0 || x1 <= x0) return l->apart[0];
    return l->apart[0] + (l->apart[1] - l->apart[0]) * fmin((bytes - x0) / (x1 - x0), 1);
}

void cf_figures_crowd(struct cf_figures *f) {
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        struct cf_rank_info *info = &f->ranks[r];
        uint32_t all = 0, fair = info->threads > info->seat_cores ? info->threads : info->seat_cores;
        for (uint32_t k = 0; k < f->n_ranks; k++)
            if (f->ranks[k].host_index == info->host_index && f->ranks[k].seat == info->seat)
                all += f->ranks[k].threads;
        if (!info->seat_cores || all <= fair) continue;
        for (uint32_t t = 0; t < CF_TYPE_LIMIT; t++)
            info->rates[t] *= (double)fair / all, info->single[t] *= (double)fair / all,
                info->few[t] *= (double)fair / all;
        info->attention *= (double)fair / all;
        info->between *= (double)fair / all;
        info->bandwidth *= (double)fair / all;
    }
}

uint32_t cf_figures_halvings(const struct cf_figures *f) {
    uint32_t most = 0;
    for (uint32_t r = 0; r < f->n_ranks; r++)
        if (f->ranks[r].n_fewer > most) most = f->ranks[r].n_fewer;
    return most;
}

static void halve(struct cf_rank_info *r, uint32_t times) {
    if (!times || !r->n_fewer) return;
    const struct cf_fewer *to = &r->fewer[(times < r->n_fewer ? times : r->n_fewer) - 1];
    double share = (double)to->threads / r->threads;
    for (uint32_t t = 0; t < CF_TYPE_LIMIT; t++)
        r->rates[t] *= share, r->single[t] *= share, r->few[t] *= share;
    r->attention *= share, r->between *= share;
    /* What they read alone is at most their part of what all did. */
    if (r->alone > 0 && to->bandwidth > 0) {
        double alone = r->alone * r->bandwidth * share / to->bandwidth;
        r->alone = alone > 1 ? alone : 1;
    }
    r->threads = to->threads, r->bandwidth = to->bandwidth, r->step = to->step, r->n_fewer = 0;
}

void cf_figures_halve(struct cf_figures *f, uint32_t times) {
    for (uint32_t r = 0; r < f->n_ranks; r++)
        halve(&f->ranks[r], times);
}

uint64_t cf_memory_share(uint64_t node_free, uint32_t sharers, uint64_t limit, uint32_t n) {
    uint64_t own = node_free / (sharers ? sharers : 1), granted = limit < UINT64_MAX ? limit / (n ? n : 1) : UINT64_MAX;
    return own < granted ? own : granted;
}
