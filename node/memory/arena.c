/* Maps an arena and binds it to its node before anything touches it. See arena.h.
 *
 * A large range is first reserved without access, then the aligned middle of it is mapped for real: the rest stays as a
 * guard, and keeps the kernel from merging the arena with its neighbours, so that /proc/self/smaps and numa_maps show
 * it as a line of its own. */
#include "node/memory/arena.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "node/memory/meminfo.h"
#include "node/memory/team.h"

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* A multiple of every base page (4, 16 or 64 KiB), and the huge page of most machines. */
static const size_t two_mib = (size_t)2 << 20;

static size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

static double gib(uint64_t bytes) {
    return (double)bytes / (double)(1 << 30);
}

static void note(struct cf_arena *a, const char *text) {
    size_t n = strlen(a->note);
    snprintf(a->note + n, sizeof a->note - n, "%s%s", n ? "; " : "", text);
}

static int check_room(const struct cf_arena *a, bool only, struct cf_error *e) {
    struct cf__memory now;
    if (!cf__memory_of_node("", (uint32_t)a->wanted, only, &now)) return 0;
    uint64_t limit = cf__memory_limit_free(""), need = a->bytes;
    const char *whose = only ? "" : " on its node";
    if (limit < now.free) now.free = limit, whose = " within the memory limit of its cgroup";
    if (need <= now.free) return 0;
    return cf_fail(e, CF_ERR_MEMORY, "node %d: %.2f GiB needed, %.2f GiB free%s, %.2f GiB missing", a->wanted,
        gib(need), gib(now.free), whose, gib(need - now.free));
}

/* Addresses cost nothing, so the middle begins at a whole huge page of the kind that may fill it. */
static int reserve(struct cf_arena *a, size_t align, struct cf_error *e) {
    size_t transparent = cf__memory_transparent_size("");
    if (align < transparent && transparent <= SIZE_MAX / 8) align = transparent;
    if (align < two_mib) align = two_mib;
    a->map_bytes = a->bytes + 2 * align;
    a->map = mmap(NULL, a->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (a->map == MAP_FAILED) {
        a->map = NULL;
        return cf_fail(e, CF_ERR_MEMORY, "cannot map %.2f GiB: %s", gib(a->bytes), strerror(errno));
    }
    /* At least one page is left in front, and at least one behind. */
    uintptr_t start = (uintptr_t)a->map + 1;
    a->base = (char *)a->map + (round_up(start, align) - (uintptr_t)a->map);
    return 0;
}

static int map_middle(struct cf_arena *a, int flags, struct cf_error *e) {
    void *p = mmap(a->base, a->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
    if (p == MAP_FAILED) return cf_fail(e, CF_ERR_MEMORY, "cannot map %.2f GiB: %s", gib(a->bytes), strerror(errno));
    return 0;
}

/* 0, or the errno of a refused mbind. */
static int bind(const struct cf_arena *a) {
    struct bitmask *nodes = numa_bitmask_alloc((unsigned)a->wanted + 1);
    if (!nodes) return ENOMEM;
    numa_bitmask_setbit(nodes, (unsigned)a->wanted);
    long rc = mbind(a->base, a->bytes, MPOL_BIND, nodes->maskp, nodes->size + 1, 0);
    int refused = rc == 0 ? 0 : errno;
    numa_bitmask_free(nodes);
    return refused;
}

static const char *why_refused(int refused) {
    switch (refused) {
    case EPERM: return "no permission (a container's seccomp profile? grant CAP_SYS_NICE)";
    case ENOSYS: return "this kernel has no NUMA support";
    case EINVAL: return "there is no such node here that this process may use";
    default: return strerror(refused);
    }
}

/* Binds the fresh mapping as the policy says. */
static int settle(struct cf_arena *a, bool only, enum cf_numa_policy policy, struct cf_error *e) {
    a->node = -1;
    if (policy == CF_NUMA_OFF) return 0;
    int refused = cf__memory_node_allowed("", (uint32_t)a->wanted) ? 0 : EINVAL;
    if (!refused && !only) refused = bind(a);
    if (!refused) {
        a->node = a->wanted;
        return 0;
    }
    char text[sizeof a->note];
    snprintf(text, sizeof text, "memory is not bound to node %d: %s", a->wanted, why_refused(refused));
    if (policy == CF_NUMA_STRICT) return cf_fail(e, CF_ERR_MEMORY, "%s", text);
    note(a, text);
    return 0;
}

/* The size of the pages to take from the node's hugetlb pools: the machine's own, or 2 MiB where only that pool has
 * enough of them. 0: neither has. */
static size_t choose_pool(struct cf_arena *a, size_t bytes) {
    const size_t own = cf__memory_hugepage_size(""), sizes[] = {own ? own : two_mib, two_mib};
    for (int i = 0; i < 2; i++)
        if (cf__memory_free_hugepages("", (uint32_t)a->wanted, sizes[i]) >= round_up(bytes, sizes[i]) / sizes[i])
            return sizes[i];
    char text[sizeof a->note];
    snprintf(text, sizeof text, "hugetlb pool of node %d: %llu pages free, %zu needed", a->wanted,
        (unsigned long long)cf__memory_free_hugepages("", (uint32_t)a->wanted, sizes[0]),
        round_up(bytes, sizes[0]) / sizes[0]);
    note(a, text);
    return 0;
}

/* Pages of a pool that are taken piece by piece. */
struct filling {
    const struct cf_arena *a;
    size_t piece;
    atomic_bool refused;
};

static void fill_thread(struct cf_team *team, uint32_t thread, void *ctx) {
    struct filling *f = ctx;
    uint32_t first, last;
    while (cf_team_next(team, thread, 1, &first, &last)) {
        size_t at = first * f->piece, n = f->a->bytes - at < f->piece ? f->a->bytes - at : f->piece;
        /* EINVAL: a kernel before 5.14; whoever touches a page first gets it then. */
        if (!f->refused && madvise(f->a->base + at, n, MADV_POPULATE_WRITE) && errno != EINVAL) f->refused = true;
    }
}

static bool fill(const struct cf_arena *a, size_t page, struct cf_team *filler) {
    if (!filler) return madvise(a->base, a->bytes, MADV_POPULATE_WRITE) == 0 || errno == EINVAL;
    struct filling f = {.a = a, .piece = round_up((size_t)32 << 20, page)};
    cf_team_do(filler, fill_thread, &f, (uint32_t)((a->bytes + f.piece - 1) / f.piece));
    return !f.refused;
}

/* The pool is per node, but the kernel's reservation is not: a bound page that its node's pool lacks is a SIGBUS. So
 * count first, and then fill at once, which reports a page that somebody else took in between. */
static bool open_hugetlb(
    struct cf_arena *a, size_t bytes, bool only, enum cf_numa_policy policy, struct cf_team *filler) {
    struct cf_error ignored;
    size_t page = choose_pool(a, bytes);
    if (!page) return false;
    a->bytes = round_up(bytes, page);
    if (reserve(a, page, &ignored) < 0) return false;
    unsigned shift = (unsigned)__builtin_ctzll(page);
    if (map_middle(a, (int)((unsigned)MAP_HUGETLB | shift << MAP_HUGE_SHIFT), &ignored) == 0) {
        size_t noted = strlen(a->note);
        bool settled = settle(a, only, policy, &ignored) == 0;
        if (settled && fill(a, page, filler)) return true;
        a->note[noted] = 0;
    }
    note(a, "hugetlb pages refused");
    munmap(a->map, a->map_bytes);
    a->map = NULL, a->base = NULL;
    return false;
}

static int open_pages(struct cf_arena *a, bool only, enum cf_numa_policy policy, struct cf_error *e) {
    if (map_middle(a, MAP_NORESERVE, e) < 0 || settle(a, only, policy, e) < 0) return -1;
    madvise(a->base, a->bytes, MADV_HUGEPAGE); /* a wish: without transparent huge pages there is nothing to report */
    return 0;
}

int cf_arena_open(struct cf_arena *a, size_t bytes, int node, bool huge, enum cf_numa_policy policy,
    struct cf_team *filler, struct cf_error *e) {
    memset(a, 0, sizeof *a);
    a->node = -1;
    a->wanted = node;
    if (node < 0) return cf_fail(e, CF_ERR_MEMORY, "node %d: there is no such NUMA node", node);
    if (bytes > SIZE_MAX / 4) return cf_fail(e, CF_ERR_MEMORY, "%.2f GiB is no size for an arena", gib(bytes));
    if (bytes == 0) bytes = 1;
    uint32_t first;
    bool only = cf__memory_nodes("", &first) == 1;
    a->hugetlb = huge && open_hugetlb(a, bytes, only, policy, filler);
    if (a->hugetlb) return 0;
    a->bytes = round_up(bytes, two_mib);
    if (check_room(a, only || policy == CF_NUMA_OFF, e) == 0 && reserve(a, 0, e) == 0 &&
        open_pages(a, only, policy, e) == 0)
        return 0;
    cf_arena_close(a);
    return -1;
}

int cf_arena_adopt(
    struct cf_arena *a, void *base, size_t bytes, int node, enum cf_numa_policy policy, struct cf_error *e) {
    *a = (struct cf_arena){.base = base, .bytes = bytes, .wanted = node};
    uint32_t first;
    if (settle(a, cf__memory_nodes("", &first) == 1, policy, e) < 0) return -1;
    if (madvise(base, bytes, MADV_POPULATE_WRITE) == 0) return 0;
    if (errno != EINVAL)
        return cf_fail(e, CF_ERR_MEMORY, "%.1f MiB of shared memory cannot be filled: %s",
            (double)bytes / (double)(1 << 20), strerror(errno));
    long page = sysconf(_SC_PAGESIZE); /* a kernel before 5.14 */
    for (size_t at = 0; at < bytes; at += (size_t)page)
        *(volatile char *)(a->base + at) = 0;
    return 0;
}

void *cf_arena_take(struct cf_arena *a, size_t bytes, size_t align) {
    if (!a->base || !align || (align & (align - 1))) return NULL;
    uintptr_t base = (uintptr_t)a->base;
    size_t at = (size_t)(((base + a->used + align - 1) & ~(uintptr_t)(align - 1)) - base);
    if (at > a->bytes || bytes > a->bytes - at) return NULL;
    a->used = at + bytes;
    return a->base + at;
}

void cf_arena_close(struct cf_arena *a) {
    if (a->map) munmap(a->map, a->map_bytes);
    memset(a, 0, sizeof *a);
    a->node = -1;
}
