/* See sets.h. */
#include "coordinator/plan/sets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 256 };

int cf_sets_new(struct cf_sets *s, const struct cf_figures *f, struct cf_error *e) {
    *s = (struct cf_sets){.f = f, .n = 1};
    s->of = calloc(f->n_hosts, MOST * sizeof *s->of), s->in = calloc(f->n_hosts, sizeof *s->in);
    s->order = calloc(f->n_hosts, sizeof *s->order);
    return s->of && s->in && s->order ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
}

void cf_sets_free(struct cf_sets *s) {
    free(s->of);
    free(s->in);
    free(s->order);
}

static bool *hosts_of(const struct cf_sets *s, uint32_t set) {
    return s->of + (size_t)set * s->f->n_hosts;
}

uint32_t cf_sets_add(struct cf_sets *s) {
    size_t bytes = s->f->n_hosts * sizeof *s->in;
    if (s->n == MOST) return 0;
    for (uint32_t set = 1; set < s->n; set++)
        if (!memcmp(hosts_of(s, set), s->in, bytes)) return 0;
    memcpy(hosts_of(s, s->n), s->in, bytes);
    return s->n++;
}

bool *cf_sets_copy(struct cf_sets *s, uint32_t set) {
    return memcpy(s->in, hosts_of(s, set), s->f->n_hosts * sizeof *s->in);
}

uint32_t cf_sets_hosts(const struct cf_sets *s, uint32_t set) {
    uint32_t n = !set;
    for (uint32_t h = 0; h < s->f->n_hosts; h++)
        n += hosts_of(s, set)[h];
    return n;
}

uint32_t cf_sets_ranks(const struct cf_sets *s, uint32_t set, uint32_t *use) {
    uint32_t used = 0;
    for (uint32_t r = 0; r < s->f->n_ranks; r++)
        if (set ? hosts_of(s, set)[s->f->ranks[r].host_index] : !r) use[used++] = r;
    return used;
}

void cf_sets_name(const struct cf_sets *s, char *text, size_t size) {
    size_t n = 0, room = size - 8;
    for (uint32_t h = 0; h < s->f->n_hosts; h++) {
        if (!s->in[h]) continue;
        int more = snprintf(text + n, room - n, "%s%s", n ? ", " : " (", cf_figures_host(s->f, h));
        if (more < 0 || n + (size_t)more >= room) {
            memcpy(text + n, n ? ", ..." : " (...", 6);
            n += 5;
            break;
        }
        n += (size_t)more;
    }
    memcpy(text + n, ")", 2);
}

/* How long a message of 16 KiB takes from rank 0's host, in steps of 1.4 times a nanosecond; itself: 0. */
static int distance_of(const struct cf_figures *f, uint32_t host) {
    int steps = 0;
    for (double s = f->links[host].seconds[1]; host && s > 1e-9 && steps < 100; s /= 1.4)
        steps++;
    return steps;
}

void cf_sets_order(struct cf_sets *s, bool nearest) {
    uint32_t n = s->f->n_hosts, *order = s->order;
    double *sum = calloc(n, sizeof *sum);
    for (uint32_t h = 0; h < n; h++) {
        order[h] = h; /* rank 0's host is host 0 */
        if (sum) sum[h] = cf_figures_host_bandwidth(s->f, h);
    }
    for (uint32_t a = 1; sum && a < n; a++)
        for (uint32_t b = a; b > 1; b--) {
            uint32_t t = order[b], before = order[b - 1];
            int nearer = nearest ? distance_of(s->f, before) - distance_of(s->f, t) : 0;
            if (nearer < 0 || (!nearer && sum[t] <= sum[before])) break;
            order[b] = before, order[b - 1] = t;
        }
    free(sum);
}

bool cf_hosts_are_alike(const struct cf_figures *f, uint32_t a, uint32_t b) {
    double x = cf_figures_host_bandwidth(f, a), y = cf_figures_host_bandwidth(f, b);
    double s = f->links[a].seconds[1], t = f->links[b].seconds[1];
    return x < 1.1 * y && y < 1.1 * x && s <= 1.5 * t && t <= 1.5 * s;
}
