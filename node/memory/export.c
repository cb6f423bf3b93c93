/* Exports of hwloc from strangers. hwloc takes what it wrote itself at its word: of an object without one of its sets
 * it reads the pointer that is not there (seen with 2.9). So a process of its own reads the file, with an end to its
 * time, and sends the machine through a pipe; if it dies, the file is at fault, and that is all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/memory/topology.h"

enum { LARGEST = 16 << 20, SECONDS = 20 };

static bool put(int to, const void *data, size_t n) {
    for (const char *at = data; n;) {
        ssize_t done = write(to, at, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        at += done, n -= (size_t)done;
    }
    return true;
}

static bool get(int from, void *data, size_t n) {
    for (char *at = data; n;) {
        ssize_t done = read(from, at, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        at += done, n -= (size_t)done;
    }
    return true;
}

/* The reader's whole life. What hwloc and libxml2 say goes nowhere: the error says it. */
static void serve(int to, const char *path) {
    struct cf_machine m;
    struct cf_error e = {0};
    struct rlimit time = {SECONDS, SECONDS}, none = {0, 0};
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    setrlimit(RLIMIT_CPU, &time);
    setrlimit(RLIMIT_CORE, &none);
    if (quiet >= 0) dup2(quiet, STDERR_FILENO);
    int rc = cf__machine_read_export(&m, path, &e);
    bool ok = put(to, &rc, sizeof rc) && put(to, &e, sizeof e);
    if (!rc && ok) ok = put(to, &m, sizeof m);
    for (uint32_t i = 0; !rc && ok && i < m.n_nodes; i++)
        ok = put(to, &m.nodes[i], sizeof m.nodes[i]) &&
             put(to, m.nodes[i].cores, m.nodes[i].n_cores * sizeof *m.nodes[i].cores);
    _exit(ok ? 0 : 1);
}

/* Takes nothing on trust: the reader may have lost its head. */
static bool hear_nodes(int from, struct cf_machine *m) {
    uint32_t n = m->n_nodes;
    m->n_nodes = 0;
    m->nodes = n && n <= CF_MAX_NODES ? calloc(n, sizeof *m->nodes) : NULL;
    for (uint32_t i = 0; m->nodes && i < n; i++) {
        struct cf_numa_node *node = &m->nodes[i];
        if (!get(from, node, sizeof *node)) return false;
        node->cores = NULL;
        m->n_nodes = i + 1;
        if (node->n_cores > CF_MAX_CORES || node->near >= n) return false;
        node->cores = calloc(node->n_cores + 1u, sizeof *node->cores);
        if (!node->cores || !get(from, node->cores, node->n_cores * sizeof *node->cores)) return false;
    }
    return m->nodes != NULL;
}

static int hear(int from, struct cf_machine *m, const char *path, struct cf_error *e) {
    struct cf_error said;
    int rc;
    bool ok = get(from, &rc, sizeof rc) && get(from, &said, sizeof said);
    if (ok && rc) {
        said.text[sizeof said.text - 1] = 0;
        return cf_fail(e, CF_ERR_FORMAT, "%s", said.text);
    }
    ok = ok && get(from, m, sizeof *m);
    if (!ok) memset(m, 0, sizeof *m);
    if (ok && hear_nodes(from, m)) return 0;
    cf_machine_free(m);
    return cf_fail(e, CF_ERR_FORMAT, "%s: hwloc fails over it: no export of lstopo, or one that was changed", path);
}

int cf_machine_read_file(struct cf_machine *m, const char *path, struct cf_error *e) {
    struct stat about;
    int ends[2];
    memset(m, 0, sizeof *m);
    if (stat(path, &about)) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    if (!S_ISREG(about.st_mode)) return cf_fail(e, CF_ERR_FILE, "%s is no file", path);
    if (about.st_size > LARGEST) return cf_fail(e, CF_ERR_LIMIT, "%s is larger than %d MiB", path, LARGEST >> 20);
    if (pipe2(ends, O_CLOEXEC)) return cf_fail(e, CF_ERR_SYSTEM, "no pipe: %s", strerror(errno));
    pid_t reader = fork();
    if (!reader) {
        close(ends[0]);
        serve(ends[1], path);
    }
    close(ends[1]);
    int rc = reader < 0 ? cf_fail(e, CF_ERR_SYSTEM, "no process to read %s: %s", path, strerror(errno))
                        : hear(ends[0], m, path, e);
    close(ends[0]);
    while (reader > 0 && waitpid(reader, NULL, 0) < 0 && errno == EINTR)
        ;
    return rc;
}
