/* Memory that lies where we say: an arena is mapped, bound to one NUMA node before anything touches it, filled,
 * audited.
 *
 * Thread safety: cf_arena_take is called by one thread; the memory it returns may be touched by any.
 */
#ifndef COFFER_NODE_MEMORY_ARENA_H
#define COFFER_NODE_MEMORY_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct cf_arena {
    char *base;   /* aligned to a huge page, 2 MiB at least; between two pages that fault: an overrun is seen */
    size_t bytes; /* mapped, a multiple of 2 MiB (of the huge page with hugetlb) */
    size_t used;
    int node;       /* os index it is bound to (also where there is no other node), -1: not bound */
    int wanted;     /* os index that was asked for: what the audit compares with */
    bool hugetlb;   /* pages of the hugetlb pool */
    char note[160]; /* what was refused and why, one line, or "" */
    void *map;      /* private: what to unmap */
    size_t map_bytes;
};

struct cf_team;
enum cf_numa_policy { CF_NUMA_DEFAULT, CF_NUMA_STRICT, CF_NUMA_OFF };

/* node: os index. With huge: tries the hugetlb pool (of the machine's own page size, or 2 MiB), then transparent huge
 * pages (also without `huge`, madvise is given where it costs nothing). A refused mbind (no permission, container, a
 * kernel without NUMA, a node that is not there) leaves a note, or fails under STRICT naming the cause; where there is
 * one node only nothing needs binding and there is no note. OFF binds nothing. filler: takes the pool's pages, which
 * are zeroed then and there, with its poll function between them; NULL: this thread does.
 *
 * Fails with CF_ERR_MEMORY, saying by how much, if the node has too little free memory: a bound page beyond that gets
 * the process killed, it does not spill. The check sees what is free now: arenas that are open but not yet touched,
 * here or in another rank, are the planner's to add up. */
int cf_arena_open(struct cf_arena *a, size_t bytes, int node, bool huge, enum cf_numa_policy policy,
    struct cf_team *filler, struct cf_error *e);
/* An arena in memory that somebody else has mapped and nobody has touched (a part of a host's shared window, page
 * aligned): binds it as cf_arena_open does and touches every page, so that none is missing later. close leaves it
 * mapped. */
int cf_arena_adopt(
    struct cf_arena *a, void *base, size_t bytes, int node, enum cf_numa_policy policy, struct cf_error *e);
/* align: a power of two. NULL when the arena is full (a planning error: sizes come from the plan). */
void *cf_arena_take(struct cf_arena *a, size_t bytes, size_t align);
void cf_arena_close(struct cf_arena *a); /* also of a zeroed one, or of one whose opening failed */

struct cf_audit {
    uint64_t pages;  /* examined, in base pages */
    uint64_t local;  /* of them on the wanted node */
    uint64_t huge;   /* of them inside huge pages */
    uint64_t absent; /* of them not there: never touched, so they count for no node */
};

/* Asks the kernel (move_pages, retrying -EBUSY) where the used pages lie. Large arenas are sampled evenly (every page
 * up to 65,536, then that many). Where the syscall is refused (containers) /proc/self/numa_maps answers for the whole
 * arena. Fails with CF_ERR_SYSTEM only if neither answers and there is more than one node: the caller warns, or fails
 * under STRICT. */
int cf_arena_audit(const struct cf_arena *a, struct cf_audit *out, struct cf_error *e);

/* Per cent of the pages that are there: on the wanted node, and inside huge pages. 100 and 0 where there are none. */
static inline double cf_audit_local_percent(const struct cf_audit *a) {
    return a->pages > a->absent ? 100.0 * (double)a->local / (double)(a->pages - a->absent) : 100.0;
}
static inline double cf_audit_huge_percent(const struct cf_audit *a) {
    return a->pages > a->absent ? 100.0 * (double)a->huge / (double)(a->pages - a->absent) : 0.0;
}

/* Resident memory of this process from /proc/self: anonymous + hugetlb bytes. */
uint64_t cf_memory_resident(void);
/* The most that was ever resident (VmHWM: programs and shared memory count too), + hugetlb bytes of now. */
uint64_t cf_memory_peak(void);

#endif
