/* A described cluster as figures: a rank for every node with cores, a link for every pair of hosts. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan/cluster/cluster.h"

void cf_cluster_free(struct cf_cluster *c) {
    free(c->hosts);
    memset(c, 0, sizeof *c);
}

int cf__cluster_append(struct cf_cluster *c, const struct cf_cluster_host *h, uint32_t count, struct cf_error *e) {
    if (count > CF_CLUSTER_HOSTS - c->n_hosts)
        return cf_fail(e, CF_ERR_LIMIT, "more than %d hosts", (int)CF_CLUSTER_HOSTS);
    struct cf_cluster_host *more = realloc(c->hosts, (c->n_hosts + count) * sizeof *more);
    if (!more) return cf_fail(e, CF_ERR_MEMORY, "no memory for %u hosts", c->n_hosts + count);
    c->hosts = more;
    for (uint32_t i = 0; i < count; i++) {
        struct cf_cluster_host *to = &c->hosts[c->n_hosts++];
        *to = *h;
        if (!*h->name)
            snprintf(to->name, sizeof to->name, "host%u", c->n_hosts);
        else if (count > 1)
            snprintf(to->name, sizeof to->name, "%.40s-%u", h->name, i + 1);
    }
    return 0;
}

/* The rank on a node. */
static int fill_rank(struct cf_rank_info *r, const struct cf_cluster_host *h, const struct cf_cluster_node *n,
    unsigned *assumed, struct cf_error *e) {
    snprintf(r->host, sizeof r->host, "%s", h->name);
    r->node = (int)n->os_index;
    r->threads = n->cores;
    r->memory_free = cf_assume_free(n->memory, assumed);
    r->bandwidth = n->bandwidth;
    for (size_t i = 0; i < CF_TYPE_LIMIT; i++)
        r->rates[i] = h->rates[i] * n->cores;
    cf_assume_bandwidth(r, assumed);
    cf_assume_fewer(r, assumed);
    return cf_assume_rates(r, h->isa, assumed, e);
}

static double or_of(double given, double otherwise) {
    return given > 0 ? given : otherwise;
}

/* The slower port and the longer way; between racks also what lies between them. */
static struct cf_link link_between(
    const struct cf_cluster *c, const struct cf_cluster_host *a, const struct cf_cluster_host *b, unsigned *assumed) {
    if (a == b) {
        bool known = c->inside.latency > 0 && c->inside.bandwidth > 0;
        if (!known && a->n_nodes > 1) *assumed |= CF_ASSUMED_INSIDE;
        struct cf_link l =
            cf_link_of(or_of(c->inside.latency, CF_HOP_LOCAL), or_of(c->inside.bandwidth, CF_BANDWIDTH_LOCAL));
        l.window = c->inside.bandwidth;
        return l;
    }
    struct cf_cluster_link way = {0};
    const struct cf_cluster_host *ends[] = {a, b};
    for (int i = 0; i < 2; i++) {
        double latency = or_of(ends[i]->port.latency, c->network.latency);
        double bandwidth = or_of(ends[i]->port.bandwidth, c->network.bandwidth);
        if (latency <= 0) latency = CF_HOP_REMOTE, *assumed |= CF_ASSUMED_LATENCY;
        if (bandwidth <= 0) bandwidth = CF_BANDWIDTH_REMOTE, *assumed |= CF_ASSUMED_NETWORK;
        if (latency > way.latency) way.latency = latency;
        if (!i || bandwidth < way.bandwidth) way.bandwidth = bandwidth;
    }
    if (strcmp(a->rack, b->rack) != 0) {
        if (c->racks.latency > way.latency) way.latency = c->racks.latency;
        if (c->racks.bandwidth > 0 && c->racks.bandwidth < way.bandwidth) way.bandwidth = c->racks.bandwidth;
    }
    return cf_link_of(way.latency, way.bandwidth);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Two hosts of one name could not be told apart in any table. */
static int check_names(const struct cf_cluster *c, struct cf_error *e) {
    const char **names = calloc(c->n_hosts, sizeof *names);
    int rc = names ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t h = 0; names && h < c->n_hosts; h++)
        names[h] = c->hosts[h].name;
    if (names) qsort(names, c->n_hosts, sizeof *names, by_name);
    for (uint32_t h = 1; !rc && h < c->n_hosts; h++)
        if (!strcmp(names[h - 1], names[h]))
            rc = cf_fail(e, CF_ERR_USAGE, "two hosts of the cluster are called %s", names[h]);
    free(names);
    return rc;
}

int cf_cluster_figures(struct cf_figures *f, const struct cf_cluster *c, unsigned *assumed, struct cf_error *e) {
    uint32_t n_ranks = 0;
    for (uint32_t h = 0; h < c->n_hosts; h++)
        for (uint32_t n = 0; n < c->hosts[h].n_nodes; n++)
            n_ranks += c->hosts[h].nodes[n].cores > 0;
    if (!n_ranks) return cf_fail(e, CF_ERR_USAGE, "the cluster has no cores");
    if (check_names(c, e)) return -1;
    if (n_ranks > CF_CLUSTER_RANKS)
        return cf_fail(e, CF_ERR_LIMIT, "the cluster has %u NUMA nodes, more than %d", n_ranks, (int)CF_CLUSTER_RANKS);
    if (cf_figures_new(f, n_ranks, c->n_hosts, e)) return -1;
    uint32_t rank = 0;
    *assumed |= CF_ASSUMED_QUIET;
    for (uint32_t h = 0; h < c->n_hosts; h++) {
        for (uint32_t n = 0; n < c->hosts[h].n_nodes; n++) {
            if (!c->hosts[h].nodes[n].cores) continue;
            f->ranks[rank].host_index = (int)h;
            if (fill_rank(&f->ranks[rank++], &c->hosts[h], &c->hosts[h].nodes[n], assumed, e)) {
                cf_figures_free(f);
                return -1;
            }
        }
        for (uint32_t to = 0; to < c->n_hosts; to++)
            f->links[(size_t)h * c->n_hosts + to] = link_between(c, &c->hosts[h], &c->hosts[to], assumed);
    }
    return 0;
}
