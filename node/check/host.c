/* What the kernel says about this host in /proc and /sys. See check.h. Sources: Documentation/admin-guide of Linux:
 * mm/transhuge.rst, pm/cpufreq.rst, sysctl/kernel.rst (numa_balancing), sysctl/../random (boot_id). */
#include "node/check/check.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <xxhash.h>

/* The first line of a file; "" if it cannot be read. */
static void first_line(const char *root, const char *name, char *out, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    out[0] = '\0';
    FILE *f = fopen(path, "re");
    if (!f) return;
    if (!fgets(out, (int)size, f)) out[0] = '\0';
    fclose(f);
    out[strcspn(out, "\n")] = '\0';
}

/* "always [madvise] never" -> "madvise" */
static void chosen(char *line) {
    char *open = strchr(line, '['), *close = open ? strchr(open, ']') : NULL;
    if (!close) return;
    *close = '\0';
    memmove(line, open + 1, strlen(open + 1) + 1);
}

static uint64_t machine_of(const char *root) {
    char id[CF_CHECK_TEXT];
    first_line(root, "/proc/sys/kernel/random/boot_id", id, sizeof id);
    return *id ? XXH64(id, strlen(id), 0) : 0;
}

static void read_governor(const char *root, uint32_t cpu, char *out, size_t size) {
    char name[96], driver[24], governor[24];
    snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_driver", cpu);
    first_line(root, name, driver, sizeof driver);
    snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", cpu);
    first_line(root, name, governor, sizeof governor);
    snprintf(out, size, "%s%s%s", driver, *driver && *governor ? " " : "", governor);
}

static bool has_entries(const char *root, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    DIR *d = opendir(path);
    bool found = false;
    for (struct dirent *k; d && !found && (k = readdir(d)) != NULL;)
        found = k->d_name[0] != '.';
    if (d) closedir(d);
    return found;
}

void cf_check_host(const char *root, uint32_t cpu, struct cf_check_host *out) {
    struct utsname name;
    struct statvfs shm;
    char line[CF_CHECK_TEXT], path[512];
    *out = (struct cf_check_host){.numa_balancing = -1, .machine = machine_of(root)};
    if (uname(&name) == 0) snprintf(out->kernel, sizeof out->kernel, "%.*s", (int)sizeof out->kernel - 1, name.release);
    read_governor(root, cpu, out->governor, sizeof out->governor);
    first_line(root, "/sys/kernel/mm/transparent_hugepage/enabled", out->thp, sizeof out->thp);
    chosen(out->thp);
    first_line(root, "/proc/sys/kernel/numa_balancing", line, sizeof line);
    if (*line) out->numa_balancing = *line != '0';
    snprintf(path, sizeof path, "%s/dev/shm", root);
    if (statvfs(path, &shm) == 0) out->shm_free = (uint64_t)shm.f_bavail * shm.f_frsize;
    out->rdma = has_entries(root, "/sys/class/infiniband");
}
