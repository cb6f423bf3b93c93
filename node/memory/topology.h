/* Where this rank lives: the NUMA nodes of this machine, which one is ours, and which cores.
 *
 * topology.c reads the machine (hwloc and libnuma); it honours an existing binding, cpuset or numactl --membind (a core
 * or node that we may not use does not exist), and works where there is no NUMA at all (one node, index 0). seat.c
 * deals ranks to nodes and cores: pure logic on struct cf_machine, so that tests feed it machines that nobody has. With
 * HWLOC_SYNTHETIC or HWLOC_XMLFILE set the machine is the described one and its memory is all free.
 *
 * Neither binds anything: arenas bind memory (arena.h), the team pins threads (team.h).
 */
#ifndef COFFER_NODE_MEMORY_TOPOLOGY_H
#define COFFER_NODE_MEMORY_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"

enum { CF_MAX_NODES = 1024, CF_MAX_CORES = 4096 };

struct cf_numa_node {
    uint32_t os_index;    /* as numactl and mbind count */
    uint64_t memory;      /* bytes, total */
    uint64_t memory_free; /* bytes free now: clean page cache counts as free, a cgroup's limit is applied */
    uint32_t n_cores;     /* physical cores that we may use; 0: memory only, or its cores are not ours */
    uint32_t *cores;      /* [n_cores] first PU (os index) that we may use of each physical core */
    uint32_t near;        /* nodes[] index of the node whose cores work here: itself, or the nearest that has cores */
};

struct cf_machine {
    uint32_t n_nodes; /* nodes with memory that we may use (memory-only nodes included), ascending os_index */
    struct cf_numa_node *nodes;
    uint64_t llc_bytes;  /* last-level cache of one node, 0 unknown */
    uint64_t limit_free; /* bytes that cgroups still grant to all our processes here together, UINT64_MAX: no limit */
    uint64_t cpus_hash;  /* names the set of cores: equal on two ranks of a host exactly if they see the same cores */
    bool widened;        /* an mpirun default binding to one core was widened: say so */
};

/* local_size: ranks on this host. A binding that is just mpirun's default (OMPI_* environment says that the launcher,
 * not the user, bound this process: one core at 1 or 2 ranks) is widened to what the launcher itself may use, or, if
 * the user chose a mapping (--map-by numa), to the cores of that node; every other binding is honoured. */
int cf_machine_read(struct cf_machine *m, int local_size, struct cf_error *e);
void cf_machine_free(struct cf_machine *m); /* also of a zeroed one, or of one whose reading failed */

/* Another machine, as `lstopo FILE.xml` there wrote it: all its cores, and all its memory free. Whatever stands in the
 * file ends in a machine or an error (export.c). */
int cf_machine_read_file(struct cf_machine *m, const char *path, struct cf_error *e);
/* The same by this process itself: hwloc ends it where it is not prepared for what it reads. */
int cf__machine_read_export(struct cf_machine *m, const char *path, struct cf_error *e);

/* This machine seen through a cpuset and a memory set ("0-3,8"; NULL: all) instead of this process's own. */
int cf__machine_read_within(struct cf_machine *m, const char *cpus, const char *mems, struct cf_error *e);

/* This rank's share. */
struct cf_seat {
    uint32_t node;                /* index into cf_machine.nodes of the memory */
    uint32_t n_cores;             /* at least 1 */
    uint32_t cores[CF_MAX_CORES]; /* PUs to pin threads to, in order */
    uint32_t sharers;             /* ranks with the same memory node on this host, this one included */
    bool crowded;                 /* more ranks than cores: these cores belong to others as well (sleep, do not spin) */
};

/* local_rank of local_size ranks on this host; wanted: [local_size] everybody's wishes (os index, -1 none; NULL: nobody
 * wishes), so that all ranks compute the same assignment. Ranks without a wish are dealt evenly, in contiguous runs, to
 * the nodes that have cores: every node gets a rank before one gets two, and the larger node gets the odd one. A node
 * without cores gets none unless asked by name, and then borrows the cores of the nearest node. Ranks that use the same
 * node's cores share them evenly in contiguous runs. A wish for a node that is not there is CF_ERR_USAGE. */
int cf_seat_assign(struct cf_seat *seat, const struct cf_machine *m, int local_rank, int local_size, const int *wanted,
    struct cf_error *e);

/* The same where the launcher may have bound the ranks of this host to different cores (mpirun --bind-to numa): each
 * rank then sees a machine of its own. cpus_hash: [local_size] everybody's cf_machine.cpus_hash, as told in the hello
 * round. Ranks that see the same cores share them as above; cores that only this rank sees are all its own. If all
 * hashes are equal this is cf_seat_assign. If not, sharers counts only ranks that see the same cores: whoever needs the
 * true number counts the ranks of the host that report the same os_index. */
int cf_seat_assign_bound(struct cf_seat *seat, const struct cf_machine *m, int local_rank, int local_size,
    const int *wanted, const uint64_t *cpus_hash, struct cf_error *e);

#endif
