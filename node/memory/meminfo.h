/* Private to this room: how much memory a NUMA node, this host and our cgroups have, read from /proc and /sys.
 *
 * Every function takes `root`, a prefix of all paths: "" on a real machine, a directory of recorded files in tests. A
 * file that cannot be read means "not known", never an error: containers hide some of them.
 */
#ifndef COFFER_NODE_MEMORY_MEMINFO_H
#define COFFER_NODE_MEMORY_MEMINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cf__memory {
    uint64_t total; /* bytes */
    uint64_t free;  /* bytes that can be had without swapping: free, clean page cache and slabs, less a reserve */
};

/* Of node os_index; of the whole host if `only` (the one node that there is). Returns false if nothing could be read.
 */
bool cf__memory_of_node(const char *root, uint32_t os_index, bool only, struct cf__memory *out);

/* Bytes that the cgroup limits (v1 and v2, every level up to the root) leave us; UINT64_MAX: no limit. */
uint64_t cf__memory_limit_free(const char *root);

/* Number of nodes whose memory we may use (Mems_allowed within has_memory), at least 1. *first: the lowest os index;
 * allowed(node) asks for one. */
int cf__memory_nodes(const char *root, uint32_t *first);
bool cf__memory_node_allowed(const char *root, uint32_t os_index);

/* Bytes of the hugetlb pages that this machine uses unless told otherwise (2 MiB on x86, 16 MiB on a POWER8), and of
 * transparent huge pages; 0: it has none, or does not say. */
uint64_t cf__memory_hugepage_size(const char *root);
uint64_t cf__memory_transparent_size(const char *root);

/* Free pages of `size` bytes in the hugetlb pool of a node; 0 if there is no such pool. */
uint64_t cf__memory_free_hugepages(const char *root, uint32_t os_index, uint64_t size);

/* The first "key" of a file of "key: 123 kB" lines, in bytes if it has the unit; false if it is not there. */
bool cf__memory_field(const char *path, const char *key, uint64_t *value);

#endif
