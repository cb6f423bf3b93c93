/* What `coffer doctor` and `coffer calibrate` want to know about the host of a rank and about its coffer. Facts only,
 * in figures: what they mean, and what is to be done about them, is said on rank 0 (coordinator/commands/doctor).
 * Nothing here fails: what cannot be read is not known (-1, an empty text). Nothing stays behind either.
 *
 * Functions with `root` read under that folder instead of /: "" on a real machine, recorded files in tests.
 */
#ifndef COFFER_NODE_CHECK_CHECK_H
#define COFFER_NODE_CHECK_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "node/gguf/gguf.h"
#include "node/memory/team.h"
#include "node/memory/topology.h"

enum { CF_CHECK_TEXT = 64 };

struct cf_check_host {
    char kernel[CF_CHECK_TEXT];   /* release */
    uint64_t machine;             /* equal in two processes exactly if the same running kernel serves them */
    char governor[CF_CHECK_TEXT]; /* of `cpu`: "DRIVER GOVERNOR" */
    char thp[CF_CHECK_TEXT];      /* transparent huge pages: always, madvise, never */
    int numa_balancing;           /* 0, 1; -1 not known */
    uint64_t shm_free;            /* bytes of /dev/shm */
    bool rdma;                    /* there is an InfiniBand or RoCE device */
};
void cf_check_host(const char *root, uint32_t cpu, struct cf_check_host *out);

struct cf_check_memory {
    uint32_t nodes;                /* whose memory this process may use */
    uint64_t free;                 /* bytes on the node */
    uint64_t limit;                /* bytes that cgroups leave, UINT64_MAX: no limit */
    uint64_t huge_page, huge_free; /* bytes of a page of the hugetlb pool; pages free on the node */
    uint64_t memlock;              /* bytes that may be locked, UINT64_MAX: no limit */
    int mbind;      /* 0: fresh pages, bound to the node, lie there; an errno: refused; -1: they lie elsewhere */
    int move_pages; /* 0: the kernel says where pages lie; else an errno */
};
/* Tries mbind(2) and move_pages(2) on a few pages of its own. node: os index. */
void cf_check_memory(uint32_t node, struct cf_check_memory *out);

/* Physical cores of the node, also those that this process may not use; 0 not known. */
uint32_t cf_check_node_cores(uint32_t node);

/* All cores of the seat compute for so many seconds, one thread each: processor time per second of the core that got
 * least of it. A core that nobody else uses gives 1. */
int cf_check_share(const struct cf_seat *seat, double seconds, double *least, uint32_t *worst, struct cf_error *e);

/* Reads the tensors of a model whose reads go past the page cache (cf_gguf_direct), at most `most` bytes of them, as
 * loading does: every thread of the team has two parts of 4 MiB on their way. Called from the team's body. */
int cf_check_disk(
    struct cf_team *team, const struct cf_gguf *g, uint64_t most, uint64_t *bytes, double *seconds, struct cf_error *e);

/* XXH64 over pieces spread evenly over all tensors, 4 MiB of the model at most; whole: over all of their bytes. poll is
 * called every few MiB. */
int cf_check_content(
    const struct cf_gguf *g, bool whole, void (*poll)(void *ctx), void *ctx, uint64_t *hash, struct cf_error *e);

#endif
