/* What this process may do with memory: tried, not guessed, because a container's seccomp profile is seen nowhere. See
 * check.h. */
#include "node/check/check.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "node/memory/meminfo.h"

enum { PAGES = 4, TRIES = 50 };

/* Where the pages lie: 0, or the errno of a refusal. A page that is busy is asked for again. */
static int ask(char *base, size_t page, int status[PAGES]) {
    void *pages[PAGES];
    for (int i = 0; i < PAGES; i++)
        pages[i] = base + (size_t)i * page;
    for (int try = 0; try < TRIES; try++) {
        if (move_pages(0, PAGES, pages, NULL, status, 0) != 0) return errno;
        bool busy = false;
        for (int i = 0; i < PAGES; i++)
            busy = busy || status[i] == -EBUSY;
        if (!busy) return 0;
        usleep(1000);
    }
    return EBUSY;
}

static int bind_to(void *base, size_t bytes, uint32_t node) {
    struct bitmask *nodes = numa_bitmask_alloc(node + 1);
    if (!nodes) return ENOMEM;
    numa_bitmask_setbit(nodes, node);
    int refused = mbind(base, bytes, MPOL_BIND, nodes->maskp, nodes->size + 1, 0) ? errno : 0;
    numa_bitmask_free(nodes);
    return refused;
}

static void try_placement(uint32_t node, struct cf_check_memory *out) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = PAGES * page;
    int status[PAGES];
    char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        out->mbind = out->move_pages = errno;
        return;
    }
    out->mbind = bind_to(base, bytes, node);
    memset(base, 1, bytes);
    out->move_pages = ask(base, page, status);
    for (int i = 0; i < PAGES && !out->mbind && !out->move_pages; i++)
        if (status[i] != (int)node) out->mbind = -1;
    munmap(base, bytes);
}

void cf_check_memory(uint32_t node, struct cf_check_memory *out) {
    struct cf__memory now;
    struct rlimit lock;
    uint32_t first;
    *out = (struct cf_check_memory){.nodes = (uint32_t)cf__memory_nodes("", &first)};
    if (cf__memory_of_node("", node, out->nodes == 1, &now)) out->free = now.free;
    out->limit = cf__memory_limit_free("");
    out->huge_page = cf__memory_hugepage_size("");
    if (out->huge_page) out->huge_free = cf__memory_free_hugepages("", node, out->huge_page);
    out->memlock = UINT64_MAX;
    if (getrlimit(RLIMIT_MEMLOCK, &lock) == 0 && lock.rlim_cur != RLIM_INFINITY) out->memlock = lock.rlim_cur;
    try_placement(node, out);
}
