/* What a rank would do with fewer threads than it has cores: half of them, a quarter, ... one (cf_rank_info.fewer). A
 * node whose memory some of its cores keep busy reads as fast with those alone, and fewer threads meet sooner.
 *
 * How soon they meet is measured by teams of that size, for a moment each, before the rank's own team; how fast they
 * read by a part of the rank's own team, while it looks at the memory. Fewer threads lie evenly among the rank's cores.
 */
#ifndef COFFER_COORDINATOR_DECODE_FEWER_H
#define COFFER_COORDINATOR_DECODE_FEWER_H

#include "coordinator/plan/forecast/figures.h"
#include "node/memory/bandwidth.h"
#include "node/memory/topology.h"

/* A team of so many threads on the cores of a seat; fewer than these lie evenly among them. `cores` gets their numbers
 * and must live as long as the options. */
struct cf_team_options cf_fewer_team(const struct cf_seat *seat, uint32_t threads, uint32_t cores[CF_MAX_CORES]);

/* Fills to->fewer with threads and steps. Nothing where there is one core, or others use it as well. Outside of a team.
 */
int cf_fewer_meet(struct cf_rank_info *to, const struct cf_seat *seat, struct cf_error *e);

/* The n-th pass (0, 1, ...) through the memory: raises the bandwidths of to->fewer to what a part of the team reads,
 * and *all to what the whole team does with as little. */
void cf_fewer_read(struct cf_rank_info *to, struct cf_reader *r, struct cf_team *team, int pass, double *all);
/* Then to->fewer is brought to the scale of what the team reads of everything: a short look at the memory finds a quiet
 * moment more easily than a long one, and only equally short ones can be compared. */
void cf_fewer_scale(struct cf_rank_info *to, double all, double bandwidth);

#endif
