/* Lines of activations as they travel between hosts, and back: the types of transport/payload.h.
 *
 *   f16  the nearest half, ties to even. What is beyond the largest one becomes that (65504), and is counted.
 *   q8   blocks of 32 columns as quantised products round them (DESIGN.md section 6): d = absmax / 127, rint(x * (127 /
 *        absmax)), an absmax below 2^-100 gives zeros. Back: d * q.
 *
 * The same on every instruction set. A number that is not finite does not travel.
 */
#ifndef COFFER_NODE_ENGINE_PAYLOAD_H
#define COFFER_NODE_ENGINE_PAYLOAD_H

#include "node/kernels/kernels.h"
#include "transport/payload.h"

/* x[columns] to cf_payload_bytes(dtype, 1, columns) at `out`, which is aligned to 4. Returns how many numbers were too
 * large for f16, or -1: one is not finite. */
int64_t cf_payload_pack(const struct cf_kernels *k, enum cf_dtype dtype, const float *x, uint32_t columns, void *out);

/* Columns [first, first + n) of a line back to x[n]; first is a multiple of 32. */
void cf_payload_unpack(enum cf_dtype dtype, const void *line, uint32_t columns, uint32_t first, uint32_t n, float *x);

#endif
