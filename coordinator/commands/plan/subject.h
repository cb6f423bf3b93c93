/* Private to plan, fit and simulate: what their questions are about. A model that is only looked at: a file, or a shape
 * without one. Machines: a cluster that is described (plan/cluster), or ranks like shares of this machine. And what is
 * wished of the placement.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_SUBJECT_H
#define COFFER_COORDINATOR_COMMANDS_SUBJECT_H

#include "coordinator/commands/shared/placement.h"
#include "coordinator/plan/search.h"
#include "node/memory/topology.h"

struct cf__synth_tensors;

struct cf__subject {
    struct cf_gguf *gguf;
    struct cf_model model;
    struct cf__synth_tensors *weights; /* of a shape without a file */
    char name[128];                    /* of the file without its folder, or of the shape */
    struct cf_figures figures;
    unsigned assumed; /* of the figures, enum cf_assumed */
    struct cf_plan_wish wish;
    char note[512];
    bool halves;       /* would --wire f16 be quicker? Takes as long as the choice */
    char advice[2560]; /* lines: what of the choice should not be overlooked (plan/advice.h) */
};

/* Opens the model: of a file, or of a shape if that is not NULL. experts: as --experts says. */
int cf__subject_model(
    struct cf__subject *s, const char *file, const char *shape, const char *experts, struct cf_error *e);
void cf__subject_model_close(struct cf__subject *s); /* also of a zeroed one */

/* The machines, as the command line says. */
struct cf__machines {
    struct cf_option_list cluster;
    int64_t ranks, hosts, threads, memory; /* 0: not given. Without a cluster: ranks like shares of this machine */
    double bandwidth;
    bool by_node; /* rank i sits on node i, as --map wants it */
};
extern const struct cf_option cf__machine_options[];

/* Fills in the figures: of the cluster, or of this machine, where the kernels of the model's types are measured. No
 * --ranks: one for every node of this machine. */
int cf__subject_machines(struct cf__subject *s, const struct cf__machines *k, struct cf_error *e);

/* The part of it that knows no clock (imagine.c): ranks on machines like m, whose nodes do what `here` says of one.
 * f: cf_figures_free(). */
int cf__imagine(struct cf_figures *f, const struct cf__machines *k, const struct cf_machine *m,
    const struct cf_rank_info *here, struct cf_error *e);

/* What is wished: from the options, after the model. */
int cf__subject_wish(struct cf__subject *s, struct cf_placement *p, uint32_t sequences, struct cf_error *e);

/* The plan: the best one, unless a layout is wished for or nothing is known of the machines; and with as many threads
 * as make it quickest, which the figures are for afterwards. *found may come out empty; after a failure it holds what
 * was tried. */
int cf__subject_plan(struct cf__subject *s, struct cf_plan *p, struct cf_search *found, struct cf_error *e);

/* The advice, each line behind a prefix. */
void cf__subject_say_advice(const char *advice, FILE *to, const char *prefix);

/* Lines about what was assumed. */
void cf__subject_say_assumed(const struct cf__subject *s, FILE *to);

void cf__subject_close(struct cf__subject *s);

/* All numbers of a rank's part of one domain: first and last layer + 1, bytes as they lie in memory (of TEMPORAL the
 * cache); 0 bytes: it has no part in it. */
struct cf__held {
    uint32_t layer0, layer1;
    double bytes;
};
int cf__subject_held(const struct cf__subject *s, const struct cf_plan *p, uint32_t rank,
    struct cf__held held[CF_DOMAINS], struct cf_rank_need *need, struct cf_error *e);

/* "1.50 GiB" (base 1024), "12.3 kB" (base 1000) into buf. */
const char *cf__size_text(double bytes, int base, char buf[16]);

#endif
