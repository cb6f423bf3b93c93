/* Where this rank lives: the NUMA nodes of this machine, which one is ours, and which cores.
 *
 * Uses hwloc and libnuma, honours an existing binding or cpuset (a core we may not use does not exist), and works where
 * there is no NUMA at all (one node, index 0). The logic that assigns ranks to nodes and cores is separate from the
 * reading of the machine, so that tests feed it synthetic machines (HWLOC_SYNTHETIC, HWLOC_XMLFILE).
 */
#ifndef COFFER_NODE_MEMORY_TOPOLOGY_H
#define COFFER_NODE_MEMORY_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"

enum { CF_MAX_NODES = 1024, CF_MAX_CORES = 4096 };

struct cf_numa_node {
    uint32_t os_index;      /* as numactl and mbind count */
    uint64_t memory;        /* bytes, total */
    uint64_t memory_free;   /* bytes free now (page cache counted as free) */
    uint32_t n_cores;       /* physical cores that we may use */
    uint32_t *cores;        /* [n_cores] first PU (os index) of each physical core */
};

struct cf_machine {
    uint32_t n_nodes;             /* nodes with memory that we may use (memory-only nodes included) */
    struct cf_numa_node *nodes;
    uint64_t llc_bytes;           /* last-level cache of one node, 0 unknown */
    bool widened;                 /* an mpirun default binding to one core was widened to the node */
};

/* local_size: ranks on this host. A binding that is just mpirun's default (OMPI_* environment says that the launcher,
 * not the user, bound this process, one core at 1 or 2 ranks) is widened; any other is honoured. */
int cf_machine_read(struct cf_machine *m, int local_size, struct cf_error *e);
void cf_machine_free(struct cf_machine *m);

/* This rank's share. */
struct cf_seat {
    uint32_t node;          /* index into cf_machine.nodes of the memory */
    uint32_t n_cores;
    uint32_t cores[CF_MAX_CORES]; /* PUs to pin threads to, in order */
    uint32_t sharers;       /* ranks with the same memory node on this host */
};

/* local_rank of local_size ranks on this host; wanted_node: os index or -1 (even distribution: ranks are dealt to nodes in
 * contiguous runs; nodes without cores get none unless asked by name, and then borrow the cores of the nearest node).
 * All ranks compute the same assignment: wanted[local_size] are everybody's wishes (-1 none). */
int cf_seat_assign(struct cf_seat *seat, const struct cf_machine *m, int local_rank, int local_size, const int *wanted,
    struct cf_error *e);

#endif
