/* What was measured as the description of a cluster (coordinator/plan/cluster), for coffer plan, fit and simulate on
 * another day, without these machines. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/commands/calibrate/calibrate.h"
#include "coordinator/plan/cluster/cluster.h"

static const double GIB = 1024.0 * 1024.0 * 1024.0;

/* Of the kernels that a run takes, for each thread. */
static json_t *gmacs_of(const Cf__Checkup *k) {
    json_t *gmacs = json_object();
    const Cf__CheckupTable *t = k->n_tables ? k->tables[0] : NULL;
    for (size_t i = 0; t && k->threads && i < t->n_types && i < t->n_rates; i++) {
        const struct cf_type *type = cf_type_by_id(t->types[i]);
        if (type && t->rates[i] > 0) json_object_set_new(gmacs, type->name, json_real(1e-9 * t->rates[i] / k->threads));
    }
    return gmacs;
}

/* A rank, as a node: with its part of a node's memory that others sit on, and of a cgroup's limit. */
static json_t *node_of(const struct cf__calibrate *c, uint32_t r) {
    const Cf__Checkup *k = c->found[r];
    uint32_t on_host = 0, sharers = 0;
    for (uint32_t o = 0; o < c->n_ranks; o++) {
        if (c->ranks[o].host_index != c->ranks[r].host_index) continue;
        on_host++, sharers += c->found[o]->node == k->node;
    }
    uint64_t free = cf_memory_share(k->memory_free, sharers, k->memory_limit, on_host);
    return json_pack("{s:i,s:f,s:f}", "cores", (int)k->threads, "memory_gib", (double)cf_assume_built_in(free) / GIB,
        "bandwidth_gbs", 1e-9 * k->bandwidth);
}

/* The best of several links: of a slower one the other end is to blame. */
struct best {
    double latency, bandwidth;
};
static void look_at(struct best *b, const Cf__CheckupLink *l) {
    if (l->latency > 0 && (b->latency <= 0 || l->latency < b->latency)) b->latency = l->latency;
    if (l->bandwidth > b->bandwidth) b->bandwidth = l->bandwidth;
}

/* Of a host to all others, or (host -1) between two ranks of one. */
static struct best links_of(const struct cf__calibrate *c, int host) {
    struct best b = {0};
    for (uint32_t r = 0; r < c->n_ranks; r++)
        for (size_t i = 0; i < c->found[r]->n_links; i++) {
            const Cf__CheckupLink *l = c->found[r]->links[i];
            if (l->peer >= c->n_ranks) continue;
            int x = c->ranks[r].host_index, y = c->ranks[l->peer].host_index;
            if (host < 0 ? x == y : x != y && (x == host || y == host)) look_at(&b, l);
        }
    return b;
}

/* As a description calls it; NULL: it does not know such kernels. */
static const char *isa_of(const Cf__Checkup *k) {
    static const char *const wide[] = {"amx", "avx512", "avx2"};
    const char *isa = k->n_tables ? k->tables[0]->isa : "";
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (!strncmp(isa, wide[i], strlen(wide[i]))) return i ? wide[i] : wide[1];
    return NULL;
}

static json_t *host_of(const struct cf__calibrate *c, uint32_t first) {
    int host = c->ranks[first].host_index;
    bool twice = false;
    json_t *nodes = json_array();
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        if (c->ranks[r].host_index == host)
            json_array_append_new(nodes, node_of(c, r));
        else
            twice |= !strcmp(c->ranks[r].host, c->ranks[first].host);
    }
    json_t *h = json_pack("{s:o,s:o}", "nodes", nodes, "gmacs_per_core", gmacs_of(c->found[first]));
    const char *name = c->ranks[first].host, *isa = isa_of(c->found[first]);
    if (!twice && *name && strlen(name) <= CF_CLUSTER_NAMED && !name[strspn(name, CF__CLUSTER_LETTERS)])
        json_object_set_new(h, "name", json_string(name));
    if (isa) json_object_set_new(h, "isa", json_string(isa));
    struct best port = links_of(c, host);
    if (port.latency > 0) json_object_set_new(h, "latency_us", json_real(1e6 * port.latency));
    if (port.bandwidth > 0) json_object_set_new(h, "gbit", json_real(port.bandwidth / CF_BANDWIDTH_REMOTE));
    return h;
}

static char *describe(const struct cf__calibrate *c) {
    json_t *hosts = json_array();
    for (uint32_t r = 0; r < c->n_ranks; r++)
        if (cf__calibrate_speaks(c, r)) json_array_append_new(hosts, host_of(c, r));
    json_t *all = json_pack("{s:s,s:o}", "comment", "measured by coffer calibrate " COFFER_VERSION, "hosts", hosts);
    struct best inside = links_of(c, -1);
    if (inside.latency > 0) json_object_set_new(all, "inside", json_pack("{s:f}", "latency_us", 1e6 * inside.latency));
    char *text = all ? json_dumps(all, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(all);
    return text;
}

/* As plan will read it. */
static int check(const char *text, uint32_t n_ranks, struct cf_error *e) {
    struct cf_cluster cluster = {0};
    struct cf_figures f = {0};
    unsigned assumed = 0;
    int rc = cf_cluster_parse(&cluster, NULL, text, strlen(text), e) || cf_cluster_figures(&f, &cluster, &assumed, e);
    if (!rc && f.n_ranks != n_ranks) rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    cf_figures_free(&f);
    cf_cluster_free(&cluster);
    return rc ? -1 : 0;
}

int cf__calibrate_describe(const struct cf__calibrate *c, struct cf_error *e) {
    char *text = describe(c);
    int rc = text ? check(text, c->n_ranks, e) : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (!rc &&
        (ftruncate(fileno(c->description), 0) || fprintf(c->description, "%s\n", text) < 0 || fflush(c->description)))
        rc = cf_fail(e, CF_ERR_FILE, "%s: %s", c->describe, strerror(errno));
    if (rc) cf_fail_in(e, "--describe");
    free(text);
    return rc;
}
