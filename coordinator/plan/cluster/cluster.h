/* A cluster that need not be here: hosts and the links between them, as somebody wrote them down (parse.c) or as hwloc
 * exported them (read.c), and the figures that the planner wants to know of it (figures.c). What the description leaves
 * out is assumed (assume.c), and everything that was assumed can be said in words.
 *
 * The file is explained in README.md. It is data from a stranger: every number has bounds, every refusal names the
 * file and the field.
 */
#ifndef COFFER_COORDINATOR_PLAN_CLUSTER_H
#define COFFER_COORDINATOR_PLAN_CLUSTER_H

#include <stdio.h>

#include "coordinator/plan/forecast/figures.h"

enum {
    CF_CLUSTER_HOSTS = 1024,
    CF_CLUSTER_RANKS = 4096,
    CF_CLUSTER_NODES = 64,
    CF_CLUSTER_NAME = 56,
    CF_CLUSTER_NAMED = 40 /* letters that a file may give it */
};

/* 0: unknown, in all that follows. */
struct cf_cluster_node {
    uint32_t os_index;
    uint32_t cores;   /* 0: memory only; no rank lives there */
    uint64_t memory;  /* bytes */
    double bandwidth; /* bytes/s */
};

/* One direction, between two hosts or inside of one. */
struct cf_cluster_link {
    double latency, bandwidth; /* seconds, bytes/s */
};

struct cf_cluster_host {
    char name[CF_CLUSTER_NAME], rack[CF_CLUSTER_NAME];
    uint32_t n_nodes;
    struct cf_cluster_node nodes[CF_CLUSTER_NODES];
    char isa[16];                /* "avx512", "avx2"; "": unknown */
    double rates[CF_TYPE_LIMIT]; /* multiply-adds/s of one core with weights of a type */
    struct cf_cluster_link port; /* to the others, where it is not that of the network */
};

struct cf_cluster {
    uint32_t n_hosts;
    struct cf_cluster_host *hosts;                 /* [n_hosts] owned; equal ones each by itself */
    struct cf_cluster_link network, racks, inside; /* of all hosts, whichever file says so */
};

/* Adds the hosts of a file to *c, zeroed at first: our own description (JSON), or what `lstopo FILE.xml` wrote; an
 * ending ":4" (unless a file is called so) means four such hosts. */
int cf_cluster_read(struct cf_cluster *c, const char *word, struct cf_error *e);
/* The same of a description in memory. `name`: of the file, for messages and to find files that it names; NULL: it may
 * name none. */
int cf_cluster_parse(struct cf_cluster *c, const char *name, const char *text, size_t n, struct cf_error *e);
void cf_cluster_free(struct cf_cluster *c); /* also of a zeroed one, or after a failure */

/* Appends `count` hosts like h; several are numbered: name-1, name-2; those without a name
 * host1, host2 among all. */
int cf__cluster_append(struct cf_cluster *c, const struct cf_cluster_host *h, uint32_t count, struct cf_error *e);

/* A host as an export of hwloc says. bandwidth: of all its nodes, 0 unknown; dealt to those with cores. */
int cf__cluster_export(struct cf_cluster_host *h, const char *path, double bandwidth, struct cf_error *e);
uint32_t cf__cluster_cores(const struct cf_cluster_host *h);

enum { CF__CLUSTER_PATH = 4096 };
/* What the name of a host may consist of. */
#define CF__CLUSTER_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* What was assumed, as a set of bits. */
enum cf_assumed {
    CF_ASSUMED_MEMORY = 1 << 0,
    CF_ASSUMED_BANDWIDTH = 1 << 1,
    CF_ASSUMED_ISA = 1 << 2,
    CF_ASSUMED_RATES = 1 << 3,
    CF_ASSUMED_ATTENTION = 1 << 4,
    CF_ASSUMED_STEP = 1 << 5,
    CF_ASSUMED_LATENCY = 1 << 6,
    CF_ASSUMED_NETWORK = 1 << 7,
    CF_ASSUMED_INSIDE = 1 << 8,
    CF_ASSUMED_QUIET = 1 << 9,
    CF_ASSUMED_FEWER = 1 << 10,
    CF_ASSUMED_BETWEEN = 1 << 11,
};

/* One rank for every node with cores, hosts in the order of the file. */
int cf_cluster_figures(struct cf_figures *f, const struct cf_cluster *c, unsigned *assumed, struct cf_error *e);
/* A line for each bit, each behind `prefix`. */
void cf_cluster_say_assumed(FILE *to, const char *prefix, unsigned assumed);

/* assume.c: fills in what of a rank's figures is 0 and does not depend on other ranks. */
void cf_assume_bandwidth(struct cf_rank_info *r, unsigned *assumed);
int cf_assume_rates(struct cf_rank_info *r, const char *isa, unsigned *assumed, struct cf_error *e);
/* What it does with half of its threads, a quarter of them, ... one; bandwidth is known. */
void cf_assume_fewer(struct cf_rank_info *r, unsigned *assumed);
/* Is there a table of rates for this instruction set? */
bool cf_assume_knows(const char *isa);
/* Of memory that is built in, what a rank may use. */
uint64_t cf_assume_free(uint64_t memory, unsigned *assumed);
/* The other way round: so much is free where this is built in. */
uint64_t cf_assume_built_in(uint64_t free);

#endif
