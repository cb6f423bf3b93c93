/* The description of a cluster: README.md says what it looks like. The text is JSON, read by jansson; what may stand in
 * it is the tables below, and whatever else stands there is refused by name. Of a host that has an export of hwloc
 * ("topology") nodes, cores and memory come from there. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "coordinator/plan/cluster/cluster.h"
#include "node/memory/topology.h"

/* A number: where it goes, what it is multiplied by, and its bounds as written. */
struct field {
    const char *name;
    size_t offset; /* of a double */
    double unit, min, max;
    bool whole;
};

/* What stands in an object of "hosts", before it becomes a host. A figure of a host is the sum over its nodes. */
struct draft {
    double count, nodes, cores, memory, bandwidth;
    struct cf_cluster_host host;
    const char *topology;
    const json_t *list; /* of nodes, each with its own figures */
};

/* Of the text at hand. */
struct source {
    struct cf_cluster *c;
    const char *name; /* NULL: no files */
    char at[80];      /* the object at hand: "hosts[2]" */
};

#define AT(f) offsetof(struct draft, f)
static const struct field host_fields[] = {
    {"count", AT(count), 1, 1, CF_CLUSTER_HOSTS, true},
    {"nodes", AT(nodes), 1, 1, CF_CLUSTER_NODES, true},
    {"cores", AT(cores), 1, 1, CF_MAX_CORES, true},
    {"memory_gib", AT(memory), 1024.0 * 1024.0 * 1024.0, 0.001, 1e6, false},
    {"bandwidth_gbs", AT(bandwidth), 1e9, 0.001, 1e6, false},
    {"gbit", AT(host.port.bandwidth), CF_BANDWIDTH_REMOTE, 1e-3, 1e5, false},
    {"latency_us", AT(host.port.latency), 1e-6, 1e-3, 1e7, false},
    {0},
};
/* A node of a list: what a host has, but its own. */
static const struct field node_fields[] = {
    {"cores", AT(cores), 1, 0, CF_MAX_CORES, true},
    {"memory_gib", AT(memory), 1024.0 * 1024.0 * 1024.0, 0.001, 1e6, false},
    {"bandwidth_gbs", AT(bandwidth), 1e9, 0.001, 1e6, false},
    {0},
};
#undef AT
#define AT(f) offsetof(struct cf_cluster_link, f)
static const struct field network_fields[] = {
    {"gbit", AT(bandwidth), CF_BANDWIDTH_REMOTE, 1e-3, 1e5, false},
    {"latency_us", AT(latency), 1e-6, 1e-3, 1e7, false},
    {0},
};
static const struct field inside_fields[] = {
    {"gbs", AT(bandwidth), 1e9, 1e-3, 1e5, false},
    {"latency_us", AT(latency), 1e-6, 1e-3, 1e7, false},
    {0},
};
#undef AT

static int wrong(const struct source *s, struct cf_error *e, const char *key, const char *what) {
    bool both = *s->at && *key, any = *s->at || *key;
    return cf_fail(e, CF_ERR_FORMAT, "%s%s%.60s%s%s", s->at, both ? "." : "", key, any ? ": " : "", what);
}

/* 1 if the key is one of the table's numbers and was taken, 0 if it is not, -1. */
static int take_number(const struct source *s, const struct field *fields, const char *key, const json_t *v, void *to,
    struct cf_error *e) {
    const struct field *f = fields;
    while (f->name && strcmp(f->name, key) != 0)
        f++;
    if (!f->name) return 0;
    char bounds[96];
    double number = json_number_value(v);
    snprintf(
        bounds, sizeof bounds, "%s from %g to %g is wanted", f->whole ? "a whole number" : "a number", f->min, f->max);
    if (!json_is_number(v) || !(number >= f->min && number <= f->max) || (f->whole && number != floor(number)))
        return wrong(s, e, key, bounds);
    *(double *)((char *)to + f->offset) = number * f->unit;
    return 1;
}

/* Letters, digits, and what else stands in the name of a host: such a name harms neither a terminal nor a drawing. */
static int take_name(
    const struct source *s, const char *key, const json_t *v, char *to, size_t size, struct cf_error *e) {
    const char *text = json_string_value(v);
    size_t n = json_string_length(v);
    if (!text || !n || n > CF_CLUSTER_NAMED || n >= size || strspn(text, CF__CLUSTER_LETTERS) != n)
        return wrong(s, e, key, "a name is wanted: 1 to 40 letters, digits, '.', '_' and '-'");
    memcpy(to, text, n + 1);
    return 0;
}

static int take_rates(struct source *s, const json_t *rates, struct cf_cluster_host *h, struct cf_error *e) {
    const char *key;
    json_t *v;
    if (!json_is_object(rates)) return wrong(s, e, "gmacs_per_core", "an object of types is wanted: {\"q4_k\": 200}");
    json_object_foreach((json_t *)rates, key, v) {
        const struct cf_type *type = cf_type_by_name(key);
        double number = json_number_value(v);
        char name[48];
        snprintf(name, sizeof name, "gmacs_per_core.%.24s", key);
        if (!type) return wrong(s, e, name, "no type of weights is called so (q8_0, q4_k, ...)");
        if (!json_is_number(v) || !(number >= 1e-3 && number <= 1e6))
            return wrong(s, e, name, "a number from 0.001 to 1e+06 is wanted");
        h->rates[type->id] = 1e9 * number;
    }
    return 0;
}

static int take_isa(const struct source *s, const json_t *v, struct cf_cluster_host *h, struct cf_error *e) {
    const char *text = json_string_value(v);
    if (!text || strlen(text) != json_string_length(v) || !cf_assume_knows(text))
        return wrong(s, e, "isa",
            "avx2 or avx512 is wanted; of others no rates are known: leave isa out and give gmacs_per_core");
    snprintf(h->isa, sizeof h->isa, "%s", text);
    return 0;
}

static int take_topology(const struct source *s, const json_t *v, struct draft *d, struct cf_error *e) {
    d->topology = json_string_value(v);
    if (!d->topology || !*d->topology || strlen(d->topology) != json_string_length(v) || strlen(d->topology) > 1024)
        return wrong(s, e, "topology", "the name of a file is wanted");
    return s->name ? 0 : wrong(s, e, "topology", "files cannot be named here");
}

/* Every key of an object in "hosts". */
static int take_host(struct source *s, const json_t *object, struct draft *d, struct cf_error *e) {
    const char *key;
    json_t *v;
    if (!json_is_object(object)) return wrong(s, e, "", "an object is wanted");
    json_object_foreach((json_t *)object, key, v) {
        int rc = 0;
        if (!strcmp(key, "name"))
            rc = take_name(s, key, v, d->host.name, sizeof d->host.name, e);
        else if (!strcmp(key, "rack"))
            rc = take_name(s, key, v, d->host.rack, sizeof d->host.rack, e);
        else if (!strcmp(key, "isa"))
            rc = take_isa(s, v, &d->host, e);
        else if (!strcmp(key, "gmacs_per_core"))
            rc = take_rates(s, v, &d->host, e);
        else if (!strcmp(key, "topology"))
            rc = take_topology(s, v, d, e);
        else if (!strcmp(key, "nodes") && json_is_array(v))
            d->list = v;
        else if (strcmp(key, "comment") != 0 && !(rc = take_number(s, host_fields, key, v, d, e)))
            rc = wrong(s, e, key, "unknown");
        if (rc < 0) return -1;
    }
    return 0;
}

/* A host whose figures are those of all its nodes: each gets its part, the first ones the odd cores. */
static int split_nodes(const struct source *s, struct draft *d, struct cf_error *e) {
    uint32_t n = d->nodes > 0 ? (uint32_t)d->nodes : 1, cores = (uint32_t)d->cores;
    if (!cores) return wrong(s, e, "cores", "is missing: physical cores of the host");
    if (!(d->memory > 0)) return wrong(s, e, "memory_gib", "is missing: memory of the host");
    if (cores < n) return wrong(s, e, "cores", "fewer than nodes");
    d->host.n_nodes = n;
    for (uint32_t i = 0; i < n; i++)
        d->host.nodes[i] =
            (struct cf_cluster_node){i, cores / n + (i < cores % n), (uint64_t)(d->memory / n), d->bandwidth / n};
    return 0;
}

static int list_nodes(struct source *s, struct draft *d, struct cf_error *e) {
    size_t n = json_array_size(d->list), prefix = strlen(s->at);
    if (d->cores > 0 || d->memory > 0 || d->bandwidth > 0)
        return wrong(s, e, "nodes", "is a list, so cores, memory_gib and bandwidth_gbs stand in it and not beside it");
    if (!n || n > CF_CLUSTER_NODES) return wrong(s, e, "nodes", "1 to 64 nodes are wanted");
    for (size_t i = 0; i < n; i++) {
        struct draft node = {.cores = -1};
        const char *key;
        json_t *v;
        snprintf(s->at + prefix, sizeof s->at - prefix, ".nodes[%zu]", i);
        if (!json_is_object(json_array_get(d->list, i))) return wrong(s, e, "", "an object is wanted");
        json_object_foreach(json_array_get(d->list, i), key, v) {
            int rc = !strcmp(key, "comment") ? 1 : take_number(s, node_fields, key, v, &node, e);
            if (rc <= 0) return rc ? -1 : wrong(s, e, key, "unknown");
        }
        if (node.cores < 0) return wrong(s, e, "cores", "is missing (0 for memory only)");
        if (!(node.memory > 0)) return wrong(s, e, "memory_gib", "is missing");
        d->host.nodes[i] =
            (struct cf_cluster_node){(uint32_t)i, (uint32_t)node.cores, (uint64_t)node.memory, node.bandwidth};
        s->at[prefix] = 0;
    }
    d->host.n_nodes = (uint32_t)n;
    return 0;
}

/* Its figures come from the file; of the host only the bandwidth may be given. */
static int from_export(const struct source *s, struct draft *d, struct cf_error *e) {
    char path[CF__CLUSTER_PATH];
    const char *slash = strrchr(s->name, '/');
    int folder = slash && d->topology[0] != '/' ? (int)(slash - s->name + 1) : 0; /* it lies beside the description */
    if (d->cores > 0 || d->memory > 0 || d->nodes > 0 || d->list)
        return wrong(s, e, "topology", "says what nodes, cores and memory_gib would say");
    if (snprintf(path, sizeof path, "%.*s%s", folder, s->name, d->topology) >= (int)sizeof path)
        return wrong(s, e, "topology", "the name of the file is too long");
    return cf__cluster_export(&d->host, path, d->bandwidth, e) ? cf_fail_in(e, "%s.topology", s->at) : 0;
}

static int add_host(struct source *s, const json_t *object, struct cf_error *e) {
    struct draft d = {.count = 1};
    if (take_host(s, object, &d, e)) return -1;
    if (d.topology ? from_export(s, &d, e) : d.list ? list_nodes(s, &d, e) : split_nodes(s, &d, e)) return -1;
    if (!cf__cluster_cores(&d.host)) return wrong(s, e, "nodes", "none of them has a core");
    return cf__cluster_append(s->c, &d.host, (uint32_t)d.count, e) ? cf_fail_in(e, "%s", s->at) : 0;
}

static int take_hosts(struct source *s, const json_t *list, struct cf_error *e) {
    size_t n = json_array_size(list);
    if (!n) return wrong(s, e, "hosts", "a list of objects is wanted");
    for (size_t i = 0; i < n; i++) {
        snprintf(s->at, sizeof s->at, "hosts[%zu]", i);
        if (add_host(s, json_array_get(list, i), e)) return -1;
    }
    s->at[0] = 0;
    return 0;
}

static int take_link(struct source *s, const char *name, const struct field *fields, const json_t *object,
    struct cf_cluster_link *to, struct cf_error *e) {
    const char *key;
    json_t *v;
    snprintf(s->at, sizeof s->at, "%s", name);
    if (!json_is_object(object)) return wrong(s, e, "", "an object is wanted");
    json_object_foreach((json_t *)object, key, v) {
        int rc = !strcmp(key, "comment") ? 1 : take_number(s, fields, key, v, to, e);
        if (rc <= 0) return rc ? -1 : wrong(s, e, key, "unknown");
    }
    s->at[0] = 0;
    return 0;
}

/* What holds for the hosts of all files: each may say it, but not differently. */
static int take_common(struct source *s, const char *name, const struct field *fields, const json_t *object,
    struct cf_cluster_link *to, struct cf_error *e) {
    struct cf_cluster_link link = {0};
    if (take_link(s, name, fields, object, &link, e)) return -1;
    if ((to->latency > 0 && link.latency > 0 && to->latency != link.latency) ||
        (to->bandwidth > 0 && link.bandwidth > 0 && to->bandwidth != link.bandwidth))
        return wrong(s, e, name, "another --cluster says otherwise, and it holds for all hosts");
    if (link.latency > 0) to->latency = link.latency;
    if (link.bandwidth > 0) to->bandwidth = link.bandwidth;
    return 0;
}

static int take_cluster(struct source *s, const json_t *object, struct cf_error *e) {
    const char *key;
    json_t *v;
    if (!json_is_object(object)) return wrong(s, e, "", "an object is wanted: {\"hosts\": [...]}");
    json_object_foreach((json_t *)object, key, v) {
        int rc = 0;
        if (!strcmp(key, "hosts"))
            rc = take_hosts(s, v, e);
        else if (!strcmp(key, "network"))
            rc = take_common(s, key, network_fields, v, &s->c->network, e);
        else if (!strcmp(key, "racks"))
            rc = take_common(s, key, network_fields, v, &s->c->racks, e);
        else if (!strcmp(key, "inside"))
            rc = take_common(s, key, inside_fields, v, &s->c->inside, e);
        else if (strcmp(key, "comment") != 0)
            rc = wrong(s, e, key, "unknown (hosts, network, racks, inside)");
        if (rc) return -1;
    }
    return json_object_get(object, "hosts") ? 0 : wrong(s, e, "hosts", "is missing");
}

int cf_cluster_parse(struct cf_cluster *c, const char *name, const char *text, size_t n, struct cf_error *e) {
    json_error_t why;
    const char *called = name ? name : "cluster";
    struct source s = {.c = c, .name = name};
    json_t *object = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!object) return cf_fail(e, CF_ERR_FORMAT, "%s:%d: %s (column %d)", called, why.line, why.text, why.column);
    int rc = take_cluster(&s, object, e);
    json_decref(object);
    return rc ? cf_fail_in(e, "%s", called) : 0;
}
