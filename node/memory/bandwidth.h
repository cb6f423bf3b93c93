/* A buffer on one NUMA node and the streaming read through it by a whole team: what decoding can reach at best.
 * All calls are made from the team's body.
 */
#ifndef COFFER_NODE_MEMORY_BANDWIDTH_H
#define COFFER_NODE_MEMORY_BANDWIDTH_H

#include "node/memory/arena.h"
#include "node/memory/team.h"

struct cf_reader {
    struct cf_arena arena;
    char *buf; /* [bytes] */
    size_t bytes;
};

/* Maps about `bytes` on node (os index), as weights are mapped, and touches them by all threads. */
int cf_reader_open(struct cf_reader *r, struct cf_team *team, size_t bytes, int node, struct cf_error *e);
void cf_reader_close(struct cf_reader *r); /* also of one whose opening failed */

/* Reads the buffer once, with the widest loads, by all threads. Returns bytes/s. */
double cf_reader_pass(struct cf_reader *r, struct cf_team *team);

/* Reads [at, at + bytes) of the buffer once (multiples of 256 KiB), likewise. Returns seconds. */
double cf_reader_part(struct cf_reader *r, struct cf_team *team, size_t at, size_t bytes);

/* Reads [at, at + bytes) once by `threads` of the team's threads, those of cf_team_spread(). Returns bytes/s. */
double cf_reader_part_by(struct cf_reader *r, struct cf_team *team, size_t at, size_t bytes, uint32_t threads);

#endif
