/* See meminfo.h. Sources: Documentation/filesystems/proc.rst, admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the
 * Linux kernel. The formula for free memory is that of MemAvailable (si_mem_available), per node. */
#include "node/memory/meminfo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = 1024, LINE = 8192 };

/* A line "key: 123 kB", "key 123" or, in a node's meminfo, "Node 0 key: 123 kB". */
static bool parse_field(const char *line, const char *key, uint64_t *value) {
    if (strncmp(line, "Node ", 5) == 0) {
        line = strchr(line + 5, ' ');
        if (!line) return false;
        line++;
    }
    size_t n = strlen(key);
    if (strncmp(line, key, n) != 0 || (line[n] != ':' && line[n] != ' ')) return false;
    char *end;
    unsigned long long v = strtoull(line + n + 1, &end, 10);
    if (end == line + n + 1) return false;
    *value = strncmp(end, " kB", 3) == 0 ? (uint64_t)v * 1024 : (uint64_t)v;
    return true;
}

bool cf__memory_field(const char *path, const char *key, uint64_t *value) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    char line[LINE];
    bool found = false;
    while (!found && fgets(line, sizeof line, f))
        found = parse_field(line, key, value);
    fclose(f);
    return found;
}

/* A file that holds one number; "max" and what is not a number are false. */
static bool read_number(const char *path, uint64_t *value) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    unsigned long long v;
    bool ok = fscanf(f, "%llu", &v) == 1;
    fclose(f);
    if (ok) *value = v;
    return ok;
}

static uint64_t field_or_0(const char *path, const char *key) {
    uint64_t v = 0;
    return cf__memory_field(path, key, &v) ? v : 0;
}

bool cf__memory_of_node(const char *root, uint32_t os_index, bool only, struct cf__memory *out) {
    char path[PATH];
    *out = (struct cf__memory){0};
    snprintf(path, sizeof path, "%s/sys/devices/system/node/node%u/meminfo", root, os_index);
    if (cf__memory_field(path, "MemTotal", &out->total)) {
        /* Half of the cache is left to the kernel at most as far as its watermarks reach; 1/64 of the node is more. Of
         * a node that is hardly larger than a process, they and the process's own odds and ends take a larger part. */
        uint64_t reserve = out->total / 64, least = out->total / 8 * 3;
        if (reserve > (uint64_t)256 << 20) reserve = (uint64_t)256 << 20;
        if (least > (uint64_t)24 << 20) least = (uint64_t)24 << 20;
        if (reserve < least) reserve = least;
        uint64_t clean = field_or_0(path, "Active(file)") + field_or_0(path, "Inactive(file)");
        uint64_t dirty = field_or_0(path, "Dirty") + field_or_0(path, "Writeback");
        clean = clean > dirty ? clean - dirty : 0;
        uint64_t sum = field_or_0(path, "MemFree") + clean + field_or_0(path, "SReclaimable");
        out->free = sum > reserve ? sum - reserve : 0;
    }
    if (!only && out->total) return true;

    /* One node is the whole host, and the host knows best (memory that is plugged in on demand is not yet in the node).
     */
    struct cf__memory host = {0};
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (cf__memory_field(path, "MemTotal", &host.total)) {
        if (!cf__memory_field(path, "MemAvailable", &host.free)) host.free = field_or_0(path, "MemFree");
        if (host.total > out->total) *out = host;
    }
    return out->total > 0;
}

struct controller {
    const char *limit, *usage, *active, *inactive; /* file names and the keys of page cache in memory.stat */
};
static const struct controller v2 = {"memory.max", "memory.current", "active_file", "inactive_file"};
static const struct controller v1 = {
    "memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file", "total_inactive_file"};

/* What one cgroup directory leaves; UINT64_MAX if it sets no limit. */
static uint64_t left_in(const char *directory, const struct controller *c) {
    char path[PATH + 64];
    uint64_t limit, usage;
    snprintf(path, sizeof path, "%s/%s", directory, c->limit);
    if (!read_number(path, &limit) || limit >= UINT64_C(1) << 60) return UINT64_MAX;
    snprintf(path, sizeof path, "%s/%s", directory, c->usage);
    if (!read_number(path, &usage)) usage = 0;
    snprintf(path, sizeof path, "%s/memory.stat", directory);
    uint64_t cache = field_or_0(path, c->active) + field_or_0(path, c->inactive);
    usage = usage > cache ? usage - cache : 0;
    return limit > usage ? limit - usage : 0;
}

/* The least that the cgroup `path` and its parents leave. A container may show a path that lies outside of its mount:
 * the levels that are not there are skipped, the mount's root is always looked at. */
static uint64_t left_upwards(const char *mount, char *path, const struct controller *c) {
    char directory[PATH];
    uint64_t least = UINT64_MAX;
    for (;;) {
        snprintf(directory, sizeof directory, "%s%s", mount, path);
        uint64_t left = left_in(directory, c);
        if (left < least) least = left;
        char *slash = strrchr(path, '/');
        if (!slash) return least;
        *slash = 0;
    }
}

uint64_t cf__memory_limit_free(const char *root) {
    char path[PATH], mount[PATH], line[LINE];
    uint64_t least = UINT64_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    if (!f) return least;
    while (fgets(line, sizeof line, f)) { /* "hierarchy:controllers:path" */
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *cgroup = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!cgroup) continue;
        *cgroup++ = 0;
        bool unified = controllers[1] == 0;
        if (!unified && strcmp(controllers + 1, "memory") != 0) continue;
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s", root, unified ? "" : "/memory");
        uint64_t left = left_upwards(mount, cgroup, unified ? &v2 : &v1);
        if (left < least) least = left;
    }
    fclose(f);
    return least;
}

/* Is number in a list such as "0-3,8"? *count and *first describe the whole list. */
static bool list_has(const char *list, uint32_t number, int *count, uint32_t *first) {
    bool has = false;
    *count = 0;
    while (*list) {
        char *end;
        unsigned long a = strtoul(list, &end, 10), b = a;
        if (end == list) break;
        if (*end == '-') b = strtoul(end + 1, &end, 10);
        if (a > b || b > 1u << 20) break;
        if (*count == 0) *first = (uint32_t)a;
        *count += (int)(b - a + 1);
        if (number >= a && number <= b) has = true;
        if (*end != ',') break;
        list = end + 1;
    }
    return has;
}

/* The list that says which nodes have memory for us: the first line of has_memory, or Mems_allowed_list, which has only
 * nodes with memory on kernels with cpusets. False: neither is there. */
static bool memory_list(const char *root, char *line, int size) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/proc/self/status", root);
    FILE *f = fopen(path, "re");
    static const char key[] = "Mems_allowed_list:";
    while (f && fgets(line, size, f)) {
        if (strncmp(line, key, sizeof key - 1) != 0) continue;
        const char *list = line + sizeof key - 1;
        list += strspn(list, " \t");
        memmove(line, list, strlen(list) + 1);
        fclose(f);
        return true;
    }
    if (f) fclose(f);
    snprintf(path, sizeof path, "%s/sys/devices/system/node/has_memory", root);
    f = fopen(path, "re");
    bool ok = f && fgets(line, size, f);
    if (f) fclose(f);
    return ok;
}

int cf__memory_nodes(const char *root, uint32_t *first) {
    char line[LINE];
    int count = 0;
    *first = 0;
    if (memory_list(root, line, sizeof line)) list_has(line, 0, &count, first);
    return count > 0 ? count : 1;
}

bool cf__memory_node_allowed(const char *root, uint32_t os_index) {
    char line[LINE];
    int count = 0;
    uint32_t first = 0;
    if (!memory_list(root, line, sizeof line)) return os_index == 0;
    return list_has(line, os_index, &count, &first);
}

/* What a page size can be: a power of two up to 16 GiB, the largest that any kernel has. */
static uint64_t page_size_or_0(uint64_t n) {
    return n & (n - 1) || n > (uint64_t)16 << 30 ? 0 : n;
}

uint64_t cf__memory_hugepage_size(const char *root) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    return page_size_or_0(field_or_0(path, "Hugepagesize"));
}

uint64_t cf__memory_transparent_size(const char *root) {
    char path[PATH];
    uint64_t n = 0;
    snprintf(path, sizeof path, "%s/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", root);
    return read_number(path, &n) ? page_size_or_0(n) : 0;
}

uint64_t cf__memory_free_hugepages(const char *root, uint32_t os_index, uint64_t size) {
    char path[PATH];
    uint64_t n = 0;
    snprintf(path, sizeof path, "%s/sys/devices/system/node/node%u/hugepages/hugepages-%llukB/free_hugepages", root,
        os_index, (unsigned long long)(size / 1024));
    return read_number(path, &n) ? n : 0;
}
