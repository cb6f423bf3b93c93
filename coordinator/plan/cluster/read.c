/* Files with hosts: descriptions (parse.c) and exports of hwloc, told apart by how they begin. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "coordinator/plan/cluster/cluster.h"
#include "node/memory/topology.h"

enum { MOST_BYTES = 1 << 20 };

uint32_t cf__cluster_cores(const struct cf_cluster_host *h) {
    uint32_t cores = 0;
    for (uint32_t i = 0; i < h->n_nodes; i++)
        cores += h->nodes[i].cores;
    return cores;
}

int cf__cluster_export(struct cf_cluster_host *h, const char *path, double bandwidth, struct cf_error *e) {
    struct cf_machine m;
    if (cf_machine_read_file(&m, path, e)) return -1;
    if (m.n_nodes > CF_CLUSTER_NODES) {
        cf_machine_free(&m);
        return cf_fail(e, CF_ERR_LIMIT, "%s: more than %d NUMA nodes", path, (int)CF_CLUSTER_NODES);
    }
    h->n_nodes = m.n_nodes;
    for (uint32_t i = 0; i < m.n_nodes; i++)
        h->nodes[i] = (struct cf_cluster_node){m.nodes[i].os_index, m.nodes[i].n_cores, m.nodes[i].memory, 0};
    cf_machine_free(&m);
    uint32_t cores = cf__cluster_cores(h);
    if (!cores) return cf_fail(e, CF_ERR_FORMAT, "%s: a machine without cores", path);
    for (uint32_t i = 0; i < h->n_nodes; i++) {
        if (h->nodes[i].cores && !h->nodes[i].memory)
            return cf_fail(e, CF_ERR_FORMAT, "%s: node %u has no memory", path, h->nodes[i].os_index);
        h->nodes[i].bandwidth = bandwidth * h->nodes[i].cores / cores;
    }
    return 0;
}

/* The text of a file, bounded. */
static char *read_text(const char *path, size_t *n, struct cf_error *e) {
    struct stat about;
    char *text = NULL;
    FILE *f = fopen(path, "rbe");
    if (!f || fstat(fileno(f), &about)) {
        cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(about.st_mode) && !S_ISFIFO(about.st_mode)) {
        cf_fail(e, CF_ERR_FILE, "%s is no file", path);
    } else if (!(text = malloc(MOST_BYTES + 1))) {
        cf_fail(e, CF_ERR_MEMORY, "no memory for %s", path);
    } else {
        *n = fread(text, 1, MOST_BYTES + 1, f);
        if (ferror(f)) cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
        if (*n > MOST_BYTES) cf_fail(e, CF_ERR_LIMIT, "%s is larger than %d bytes", path, (int)MOST_BYTES);
        if (ferror(f) || *n > MOST_BYTES) free(text), text = NULL;
    }
    if (f) fclose(f);
    return text;
}

/* "alpha.xml:4": the file and how many. False if there is no such ending, or a file is called so. */
static bool counted(const char *word, char path[CF__CLUSTER_PATH], double *count) {
    struct stat about;
    const char *colon = strrchr(word, ':');
    if (!colon || colon == word || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1)) return false;
    if (strlen(colon) > 6 || (size_t)(colon - word) >= CF__CLUSTER_PATH || !stat(word, &about)) return false;
    *count = atof(colon + 1);
    snprintf(path, CF__CLUSTER_PATH, "%.*s", (int)(colon - word), word);
    return true;
}

/* Of a pipe the beginning cannot be read twice: a description comes out of it. */
static bool is_export(const char *path) {
    char start[256] = "";
    struct stat about;
    FILE *f = !stat(path, &about) && S_ISREG(about.st_mode) ? fopen(path, "rbe") : NULL;
    size_t n = f ? fread(start, 1, sizeof start - 1, f) : 0, blank = strspn(start, " \t\r\n\xef\xbb\xbf");
    if (f) fclose(f);
    return n > blank && start[blank] == '<';
}

/* Hosts that are called as their file is. */
static int add_export(struct cf_cluster *c, const char *path, double count, struct cf_error *e) {
    struct cf_cluster_host h = {.n_nodes = 0};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strcspn(name, ".");
    if (n && n <= 40 && strspn(name, CF__CLUSTER_LETTERS) >= n) snprintf(h.name, sizeof h.name, "%.*s", (int)n, name);
    if (count < 1 || count > CF_CLUSTER_HOSTS)
        return cf_fail(e, CF_ERR_USAGE, "%s: 1 to %d hosts", path, (int)CF_CLUSTER_HOSTS);
    if (cf__cluster_export(&h, path, 0, e)) return -1;
    return cf__cluster_append(c, &h, (uint32_t)count, e) ? cf_fail_in(e, "%s", path) : 0;
}

int cf_cluster_read(struct cf_cluster *c, const char *word, struct cf_error *e) {
    char path[CF__CLUSTER_PATH];
    double count = 1;
    size_t n;
    bool several = counted(word, path, &count);
    const char *file = several ? path : strcmp(word, "-") ? word : "/dev/stdin";
    if (is_export(file)) return add_export(c, file, count, e);
    char *text = read_text(file, &n, e);
    int rc = text ? 0 : -1;
    if (text && several)
        rc = cf_fail(e, CF_ERR_USAGE, "%s: a number of hosts stands behind an export of hwloc only; %s says \"count\"",
            word, file);
    if (!rc) rc = cf_cluster_parse(c, file, text, n, e);
    free(text);
    return rc;
}
