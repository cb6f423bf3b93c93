/* How fast a team multiplies when nothing must come from memory: what prefill can reach at best. */
#ifndef COFFER_NODE_ENGINE_RATE_H
#define COFFER_NODE_ENGINE_RATE_H

#include "node/kernels/kernels.h"
#include "node/memory/team.h"

/* Multiplications with addition per second of the table's product with a type, by all threads, each on a few tiles and
 * a chunk of CF_MANY_ROWS activations that stay in its cache, laid out as the engine's; the best of about ten passes,
 * `seconds` in all. The seconds are those in which the threads had a core. 0 where there is no memory or no product.
 * Called from the team's body. */
double cf_team_product_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, double seconds);

/* The same with one row at a time: all weights are unpacked for it alone, as in decoding, but lie in cache. */
double cf_team_single_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, double seconds);

/* The same with CF_FEW_ROWS at a time, as where some sequences are decoded together: tables may have other kernels for
 * them than for many. */
enum { CF_FEW_ROWS = 8, CF_MANY_ROWS = 64 };
double cf_team_few_rate(
    struct cf_team *team, const struct cf_kernels *kernels, const struct cf_type *type, double seconds);

/* Multiplications with addition per second of attention: queries of `heads` query heads per KV head over f16 pages of
 * keys of d_k and values of d_v columns that stay in cache, by all threads; the best of about ten passes. */
double cf_team_attention_rate(
    struct cf_team *team, const struct cf_kernels *kernels, uint32_t d_k, uint32_t d_v, uint32_t heads, double seconds);

/* Floats per second that go into products and come out of them, beside the products: CF_MANY_ROWS rows of results are
 * stored tile by tile, gated, added, normed and rounded, by all threads; the best of about ten passes. */
double cf_team_between_rate(struct cf_team *team, const struct cf_kernels *kernels, double seconds);

/* Seconds that the threads of the team need to meet once, with nothing to do between: the median of many, or of
 * those that 20 ms have room for. */
double cf_team_round_seconds(struct cf_team *team);

#endif
