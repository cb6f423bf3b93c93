/* Memory that lies where we say: an arena is mapped, bound to one NUMA node before anything touches it, filled, audited.
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
    char *base;
    size_t bytes;          /* mapped */
    size_t used;
    int node;              /* os index it is bound to, -1: not bound */
    bool hugetlb;          /* pages of the hugetlb pool */
    char note[160];        /* what was refused and why, one line, or "" */
};

enum cf_numa_policy { CF_NUMA_DEFAULT, CF_NUMA_STRICT, CF_NUMA_OFF };

/* node: os index. With huge: tries the hugetlb pool, then transparent huge pages (also without `huge`, madvise is given
 * where it costs nothing). A refused mbind (no permission, container, a machine without NUMA) leaves a note, or fails
 * under STRICT naming the cause. Fails with CF_ERR_MEMORY, saying by how much, if the node has too little free memory. */
int cf_arena_open(struct cf_arena *a, size_t bytes, int node, bool huge, enum cf_numa_policy policy, struct cf_error *e);
/* align: a power of two. NULL when the arena is full (a planning error: sizes come from the plan). */
void *cf_arena_take(struct cf_arena *a, size_t bytes, size_t align);
void cf_arena_close(struct cf_arena *a);

struct cf_audit { uint64_t pages, local, huge, absent; }; /* in base pages; huge: those inside huge pages */

/* Asks the kernel (move_pages, retrying -EBUSY) where the used pages lie. Large arenas are sampled evenly (every page up
 * to 65,536, then that many). */
int cf_arena_audit(const struct cf_arena *a, struct cf_audit *out, struct cf_error *e);

/* Resident memory of this process from /proc/self: anonymous + hugetlb bytes. */
uint64_t cf_memory_resident(void);
/* Page cache and read bandwidth: bytes/s of a streaming read by n threads of buf is measured by cf_team users. */

#endif
