/* The hosts of a Slurm allocation, from where Open MPI has them: SLURM_NODELIST ("n[1-3,08],gpu7") and
 * SLURM_TASKS_PER_NODE ("2(x3),1"). Source of both forms: salloc(1), sbatch(1). See hosts.h. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/supervise/hosts.h"

enum { MOST_ROOM = 1 << 20, MOST_DIGITS = 9 };

/* A host file in the making, one line each. */
struct lines {
    char *text;
    size_t n;
    const char *tasks; /* behind the number at hand */
    unsigned slots, times;
};

/* A number at *at, which moves behind it; -1: there is none. *width: its digits. */
static long number(const char **at, int *width) {
    long n = 0;
    for (*width = 0; **at >= '0' && **at <= '9'; ++*at, ++*width) {
        if (*width == MOST_DIGITS) return -1;
        n = 10 * n + **at - '0';
    }
    return *width ? n : -1;
}

/* Tasks of the next host; 0: they are not to be understood. */
static unsigned next_tasks(struct lines *l) {
    if (!l->times) {
        int width;
        l->tasks += *l->tasks == ',';
        long slots = number(&l->tasks, &width), times = 1;
        if (slots > 0 && !strncmp(l->tasks, "(x", 2)) {
            l->tasks += 2;
            times = number(&l->tasks, &width);
            if (*l->tasks++ != ')') return 0;
        }
        if (slots <= 0 || times <= 0 || (*l->tasks && *l->tasks != ',')) return 0;
        l->slots = (unsigned)slots, l->times = (unsigned)times;
    }
    l->times--;
    return l->slots;
}

static int add(struct lines *l, const char *name) {
    unsigned slots = next_tasks(l);
    if (!slots) return -1;
    int n = snprintf(l->text + l->n, MOST_ROOM - l->n, "%s slots=%u\n", name, slots);
    if (n < 0 || l->n + (size_t)n >= MOST_ROOM) return -1;
    l->n += (size_t)n;
    return 0;
}

/* All names that begin with name[n], as the rest of the item says, which ends at `end`. */
static int expand(struct lines *l, char name[CF_HOST_NAME], size_t n, const char *rest, const char *end) {
    for (; rest < end && *rest != '['; rest++) {
        if (n + 1 >= CF_HOST_NAME || !(isalnum((unsigned char)*rest) || strchr("._-", *rest))) return -1;
        name[n++] = *rest;
    }
    name[n] = '\0';
    if (rest == end) return n ? add(l, name) : -1;
    const char *close = memchr(rest, ']', (size_t)(end - rest)), *at = rest + 1;
    if (!close) return -1;
    for (;; at++) {
        int width, ignored;
        long first = number(&at, &width), last = first;
        if (*at == '-') at++, last = number(&at, &ignored);
        if (first < 0 || last < first || (*at != ',' && at != close)) return -1;
        for (long k = first; k <= last; k++) {
            int more = snprintf(name + n, CF_HOST_NAME - n, "%0*ld", width, k);
            if (n + (size_t)more >= CF_HOST_NAME || expand(l, name, n + (size_t)more, close + 1, end)) return -1;
        }
        if (at == close) return 0;
    }
}

int cf_hosts_allocated(struct cf_hosts *h, const char *nodes, const char *tasks, struct cf_error *e) {
    struct lines l = {.text = malloc(MOST_ROOM), .tasks = tasks};
    char name[CF_HOST_NAME];
    int rc = 0;
    if (!l.text) return cf_fail(e, CF_ERR_MEMORY, "no memory for a list of hosts");
    for (const char *at = nodes, *end; !rc && *at; at = end + (*end == ',')) {
        bool inside = false;
        for (end = at; *end && (inside || *end != ','); end++)
            inside = *end == '[' || (inside && *end != ']');
        rc = expand(&l, name, 0, at, end);
    }
    if (rc)
        cf_fail(e, CF_ERR_USAGE, "SLURM_NODELIST %.60s, SLURM_TASKS_PER_NODE %.60s: not understood", nodes, tasks);
    else
        rc = cf_hosts_parse(h, "SLURM_NODELIST", l.text, l.n, e);
    free(l.text);
    return rc;
}
