/* Private to this room: the cores that this process may use, and whether a launcher's default has narrowed them.
 *
 * Open MPI 4 and 5 bind each rank to one core when a job has one or two ranks and nobody asked for anything. Nobody
 * wants a one-core rank, so this very case is recognised and undone; a binding that anybody asked for is a wish and
 * stays.
 */
#ifndef COFFER_NODE_MEMORY_BINDING_H
#define COFFER_NODE_MEMORY_BINDING_H

#include <hwloc.h>
#include <stdbool.h>

enum cf__widening {
    CF__KEEP,    /* honour the binding */
    CF__TO_NODE, /* the user mapped ranks to nodes or sockets: all cores of the node where we are */
    CF__TO_ALL,  /* nothing was asked for: all that the launcher itself may use */
};

/* Pure: what the environment says (get is getenv, or a test's), for a process bound to one core. */
enum cf__widening cf__binding_asked(const char *(*get)(void *ctx, const char *name), void *ctx, int local_size);

/* cpus: what this process may use of the topology. Returns true if it was widened. */
bool cf__binding_read(hwloc_topology_t topology, int local_size, hwloc_bitmap_t cpus);

#endif
