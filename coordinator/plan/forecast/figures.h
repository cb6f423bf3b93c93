/* What the planner knows of the machines: figures of every rank and of the links between their hosts. They are measured
 * (decode/measure/calibrate.h), or described in a file by somebody who has no such machines.
 */
#ifndef COFFER_COORDINATOR_PLAN_FORECAST_FIGURES_H
#define COFFER_COORDINATOR_PLAN_FORECAST_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/kernels/kernels.h"
#include "proto/error.h"

enum { CF_NOISE = 8, CF_FEWER = 12 /* as often can CF_MAX_CORES be halved */ };

/* What a rank does with fewer threads than it has cores. */
struct cf_fewer {
    uint32_t threads;
    double bandwidth, step; /* as in cf_rank_info */
};

/* One rank as the planner sees it. */
struct cf_rank_info {
    char host[64];
    int host_index; /* 0.. in order of first rank */
    int node;       /* NUMA node, os index */
    uint32_t threads;
    uint32_t seat, seat_cores; /* its first core, and how many it has, perhaps together with others; 0: no others */
    uint64_t memory_free;      /* bytes that this rank may use */
    /* Of ranks that share cores these are what each does while all of them work. */
    double bandwidth;             /* bytes/s read by its threads, 0 unknown */
    double rates[CF_TYPE_LIMIT];  /* multiply-adds/s of its kernels with each type of weights, from cache; 0 unknown */
    double single[CF_TYPE_LIMIT]; /* the same with one row at a time, which unpacks all weights for itself */
    double few[CF_TYPE_LIMIT];    /* the same with CF_FEW_ROWS (node/engine/rate.h) at a time */
    double attention;             /* multiply-adds/s of scores and values over an f16 cache, from cache; 0 unknown */
    double between;               /* floats/s into and out of products, see cf_team_between_rate(); 0 unknown */
    /* Pieces of work of the length of a step take so many times as long as at best, each figure an eighth of them,
     * ascending: who else is on the machine. 0: unknown, none. */
    double noise[CF_NOISE];
    uint32_t memory; /* the first rank of those that read the same memory */
    double alone;    /* so many times as fast it reads while those others rest; 0, 1: it has none, or so fast it is */
    double wake;     /* seconds that it wakes up late because the others at its core compute; 0: it has its own */
    double step;     /* seconds that a job of its threads costs beside its work: they meet twice */
    /* With half of the threads, a quarter of them, ... one. 0: none, or how many it runs is not to be chosen. */
    uint32_t n_fewer;
    struct cf_fewer fewer[CF_FEWER];
};

/* Seconds, one way, of messages of these sizes between two ranks, alone on the link. 0: unknown. */
enum { CF_LINK_SIZES = 3 };
extern const size_t cf_link_sizes[CF_LINK_SIZES]; /* bytes: 8, 16 KiB, 1 MiB */
enum { CF_APART = 2 };
extern const uint32_t cf_apart_rows[CF_APART]; /* 1, 4 */
struct cf_link {
    double seconds[CF_LINK_SIZES];
    double both[CF_LINK_SIZES]; /* when a message comes the other way at the same time */
    /* What a sum of ranks of both hosts takes beyond their work and its messages: what these take from each other. Of
     * so many rows as cf_apart_rows has. */
    double apart[CF_APART];
    /* Within a host: bytes/s at which a rank reads what others have left in shared memory, if that is less than its
     * own memory gives. 0: it is not. */
    double window;
};

struct cf_figures {
    uint32_t n_ranks, n_hosts;
    struct cf_rank_info *ranks; /* [n_ranks], ranks of a host need not be neighbours */
    struct cf_link *links;      /* [n_hosts][n_hosts] by host_index, from (row) to (column); diagonal: within a host */
    double row_bytes;           /* that a row of a rehearsed sum has */
};

/* Room for so many, zeroed. */
int cf_figures_new(struct cf_figures *f, uint32_t n_ranks, uint32_t n_hosts, struct cf_error *e);
void cf_figures_free(struct cf_figures *f); /* also of a zeroed one */

/* A host by its host_index: its name, and bytes/s that its ranks read together. */
const char *cf_figures_host(const struct cf_figures *f, uint32_t host);
double cf_figures_host_bandwidth(const struct cf_figures *f, uint32_t host);

/* The link between two ranks' hosts. */
struct cf_link *cf_figures_link(const struct cf_figures *f, uint32_t from, uint32_t to);
/* A link that is given by its latency (seconds, one way) and its bandwidth (bytes/s). */
struct cf_link cf_link_of(double latency, double bandwidth);
/* Seconds of a message of so many bytes: straight lines between the sizes, and on with the last one's slope. seconds:
 * one of a link's two. */
double cf_link_seconds(const double seconds[CF_LINK_SIZES], double bytes);

/* Bytes that a rank may use, of those free on its node, which `sharers` ranks share, and of those that a cgroup grants
 * to all n ranks of its host together (UINT64_MAX: no limit): it holds them all, whatever nodes they sit on. */
uint64_t cf_memory_share(uint64_t node_free, uint32_t sharers, uint64_t limit, uint32_t n);

/* What its sums take beyond work and message, with messages of so many bytes: a straight line between the two numbers
 * of rows, and as with these below and above. */
double cf_figures_apart(const struct cf_figures *f, const struct cf_link *l, double bytes);

/* From what rehearsed sums took beyond their work (`apart` of the links, 0: not rehearsed; of a pair of hosts one may
 * be enough; the less of two, for the quicker of unlike ranks also waits for the other) to what is left of it without
 * the message, of so many bytes a row, and without the wait for the slower of two ranks as their `noise` foretells it
 * for pieces of so many seconds: the mean over all pairs that have rehearsed, for all. */
void cf_figures_settle(struct cf_figures *f, double row_bytes, double piece);

/* Ranks that share cores measure themselves by the time that they had one: turns their rates and bandwidths into what
 * they do while all of these work. */
void cf_figures_crowd(struct cf_figures *f);

/* How often the threads of all ranks may be halved: as often as those of the rank with most of them. 0: not at all. */
uint32_t cf_figures_halvings(const struct cf_figures *f);
/* The figures of all ranks with threads halved so often (a rank that has too few of them: one thread), and nothing left
 * to choose. Kernels do as much less as there are fewer threads. times 0: they stay as they are. */
void cf_figures_halve(struct cf_figures *f, uint32_t times);

/* What is assumed of links that nobody has measured or described: rough allowances for the message and for ranks that
 * arrive unevenly. */
#define CF_HOP_LOCAL 15e-6
#define CF_HOP_REMOTE 150e-6
#define CF_BANDWIDTH_LOCAL 4e9
#define CF_BANDWIDTH_REMOTE 117e6                   /* of gigabit Ethernet */
void cf_figures_assume_links(struct cf_figures *f); /* fills in those that are unknown */

#endif
