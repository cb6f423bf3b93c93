/* What types with a table or a codebook look up: the values of one weight, and the grids, runs of 4 or 8 weights that a
 * file names by one number. Private to node.
 *
 * The numbers are part of the formats as ggml publishes them (ggml-common.h: kvalues_iq4nl, kvalues_fp4, iq2xxs_grid,
 * iq2xs_grid, iq2s_grid, iq3xxs_grid, iq3s_grid), here in a form that packing wants.
 */
#ifndef COFFER_NODE_KERNELS_CODEBOOK_H
#define COFFER_NODE_KERNELS_CODEBOOK_H

#include <stdint.h>

/* Stored weights (weight + offset, tile.h) by index. Of iq3 the index is a magnitude, plus 8 if negative; of iq2
 * likewise plus 4. */
extern const uint8_t cf__values_iq4[16];     /* IQ4_NL, IQ4_XS: offset 128 */
extern const uint8_t cf__values_mxfp4[16];   /* 12: twice the values of e2m1 */
extern const uint8_t cf__values_iq3_s[16];   /* 15 */
extern const uint8_t cf__values_iq3_xxs[16]; /* 62 */
extern const uint8_t cf__values_iq2[16];     /* 43 */

/* Eight magnitudes of 2 bits each, the first in the lowest bits. */
extern const uint16_t cf__grid_iq2xxs[256], cf__grid_iq2xs[512], cf__grid_iq2s[1024];
/* Four magnitudes of 3 bits each. */
extern const uint16_t cf__grid_iq3xxs[256], cf__grid_iq3s[512];

#endif
