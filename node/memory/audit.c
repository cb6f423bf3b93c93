/* Where the pages of an arena really lie, and how much memory this process holds. See arena.h.
 *
 * move_pages(2) without target nodes only asks. Sources: its manual page; Documentation/filesystems/proc.rst for smaps;
 * numa(7) for numa_maps. */
#include <errno.h>
#include <inttypes.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "node/memory/arena.h"
#include "node/memory/meminfo.h"

enum { SAMPLES = 65536, BATCH = 1024, TRIES = 20 };

static void pause_ms(long ms) {
    struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

/* Asks once more, page by page, for those that were busy. */
static void ask_again(size_t n, void **pages, int *status) {
    for (int try = 0; try < TRIES; try++) {
        bool busy = false;
        for (size_t i = 0; i < n; i++) {
            if (status[i] != -EBUSY) continue;
            if (!busy) pause_ms(1);
            busy = true;
            int now;
            if (move_pages(0, 1, &pages[i], NULL, &now, 0) == 0) status[i] = now;
        }
        if (!busy) return;
    }
}

/* Returns 0, or the errno of a refused move_pages. */
static int ask_pages(const struct cf_arena *a, uint64_t total, size_t page, struct cf_audit *out) {
    void *pages[BATCH];
    int status[BATCH];
    uint64_t samples = total < SAMPLES ? total : SAMPLES;
    struct cf_audit sum = {0};
    for (uint64_t first = 0; first < samples; first += BATCH) {
        size_t n = samples - first < BATCH ? (size_t)(samples - first) : BATCH;
        for (size_t i = 0; i < n; i++)
            pages[i] = a->base + (first + i) * total / samples * page;
        long rc;
        int tries = 0;
        while ((rc = move_pages(0, n, pages, NULL, status, 0)) != 0 && errno == EBUSY && tries++ < TRIES)
            pause_ms(1);
        if (rc != 0) return errno;
        ask_again(n, pages, status);
        for (size_t i = 0; i < n; i++) {
            sum.local += status[i] == a->wanted;
            sum.absent += status[i] < 0; /* -ENOENT: not there; -EFAULT: the shared zero page; -EBUSY: not telling */
        }
        sum.pages += n;
    }
    *out = sum;
    return 0;
}

/* The lines of numa_maps that begin in the arena: "7f12.. bind:1 anon=512 N1=512 kernelpagesize_kB=4". */
static bool read_numa_maps(const struct cf_arena *a, uint64_t total, size_t page, struct cf_audit *out) {
    FILE *f = fopen("/proc/self/numa_maps", "re");
    if (!f) return false;
    char line[8192];
    uint64_t present = 0, local = 0;
    while (fgets(line, sizeof line, f)) {
        uintptr_t at = (uintptr_t)strtoull(line, NULL, 16);
        if (at < (uintptr_t)a->base || at >= (uintptr_t)a->base + a->bytes) continue;
        uint64_t here = 0, there = 0, unit = page / 1024;
        for (char *word = strchr(line, ' '); word; word = strchr(word + 1, ' ')) {
            unsigned node;
            uint64_t n;
            if (sscanf(word, " N%u=%" SCNu64, &node, &n) == 2) {
                if (node == (unsigned)a->wanted)
                    here += n;
                else
                    there += n;
            }
            if (sscanf(word, " kernelpagesize_kB=%" SCNu64, &n) == 1) unit = n;
        }
        local += here * unit * 1024 / page;
        present += (here + there) * unit * 1024 / page;
    }
    fclose(f);
    /* Huge pages may reach beyond the used part. */
    *out = (struct cf_audit){.pages = present > total ? present : total, .local = local};
    out->absent = out->pages - present;
    return true;
}

/* Share of the arena's resident memory that lies in huge pages, 0..1, from /proc/self/smaps. */
static double huge_share(const struct cf_arena *a) {
    if (a->hugetlb) return 1.0;
    FILE *f = fopen("/proc/self/smaps", "re");
    if (!f) return 0;
    char line[1024];
    bool inside = false;
    uint64_t kb, rss = 0, huge = 0, start, end;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
            inside = start >= (uintptr_t)a->base && start < (uintptr_t)a->base + a->bytes;
        else if (inside && sscanf(line, "Rss: %" SCNu64, &kb) == 1)
            rss += kb;
        else if (inside && (sscanf(line, "AnonHugePages: %" SCNu64, &kb) == 1 ||
                               sscanf(line, "ShmemPmdMapped: %" SCNu64, &kb) == 1))
            huge += kb;
    }
    fclose(f);
    return rss ? (double)huge / (double)rss : 0;
}

int cf_arena_audit(const struct cf_arena *a, struct cf_audit *out, struct cf_error *e) {
    memset(out, 0, sizeof *out);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t total = (a->used + page - 1) / page;
    if (!total) return 0;
    int refused = ask_pages(a, total, page, out);
    if (refused && !read_numa_maps(a, total, page, out)) {
        uint32_t first;
        if (cf__memory_nodes("", &first) > 1)
            return cf_fail(e, CF_ERR_SYSTEM, "cannot ask where pages lie: move_pages: %s, and no /proc/self/numa_maps",
                strerror(refused));
        *out = (struct cf_audit){.pages = total, .local = total}; /* they have nowhere else to be */
    }
    out->huge = (uint64_t)(huge_share(a) * (double)(out->pages - out->absent) + 0.5);
    return 0;
}

uint64_t cf_memory_resident(void) {
    uint64_t anonymous = 0, hugetlb = 0;
    cf__memory_field("/proc/self/status", "RssAnon", &anonymous);
    cf__memory_field("/proc/self/status", "HugetlbPages", &hugetlb);
    return anonymous + hugetlb;
}

uint64_t cf_memory_peak(void) {
    uint64_t peak = 0, hugetlb = 0;
    cf__memory_field("/proc/self/status", "VmHWM", &peak);
    cf__memory_field("/proc/self/status", "HugetlbPages", &hugetlb);
    return peak + hugetlb;
}
