/* How fast a team multiplies when nothing must come from memory: what prefill can reach at best. */
#ifndef COFFER_NODE_ENGINE_RATE_H
#define COFFER_NODE_ENGINE_RATE_H

#include "node/kernels/kernels.h"
#include "node/memory/team.h"

/* Multiplications with addition per second of the table's product with a type, by all threads, each on a few tiles and
 * a chunk of activations that stay in its cache; the best of about ten passes, `seconds` in all. 0 where there is no
 * memory or no product. Called from the team's body. */
double cf_team_product_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, double seconds);

#endif
