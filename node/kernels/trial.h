/* A trial of quantised products on the machine at hand: are they equal to those of a table that is known to be right,
 * and are they faster? Private to node/kernels.
 *
 * For code whose worth the instruction set alone does not tell (AMX: how fast tiles are differs between processors and
 * hypervisors). All tables give the same bits, so the outcome changes nothing but the speed.
 */
#ifndef COFFER_NODE_KERNELS_TRIAL_H
#define COFFER_NODE_KERNELS_TRIAL_H

#include "node/kernels/kernels.h"

/* *chosen = *known, with each quantised product of `candidate` that gave the same bits on random tiles of 1 to 48 rows
 * and took less time for 48 of them. Returns how many were taken, -1 for lack of memory (then *chosen = *known). Takes
 * some milliseconds. */
int cf__trial(struct cf_kernels *chosen, const struct cf_kernels *known, const struct cf_kernels *candidate);

/* What came out, as a name: isa ("amx") where all types of the candidate were taken, "amx-Q2_K-Q3_K" where all but a
 * few, "amx:Q8_0+Q4_0" where a few. name[size]; CF_ISA_NAME is room for any. */
void cf__trial_name(
    char *name, size_t size, const char *isa, const struct cf_kernels *chosen, const struct cf_kernels *candidate);

/* The types that a trial tries, ending in CF_TYPE_LIMIT. */
extern const uint32_t cf__trial_types[];

#endif
