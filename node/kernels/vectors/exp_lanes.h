/* cf_expf in every lane, written once for vectors of any length: included after a lanes_*.h, which says what floats,
 * all_f32, fma_f32, fnma_f32, larger, smaller and times_power are.
 */
#ifndef COFFER_NODE_KERNELS_EXP_LANES_H
#define COFFER_NODE_KERNELS_EXP_LANES_H

#include "node/kernels/isa.h"
#include "node/kernels/vectors/vector.h"

INLINE floats exp_lanes(floats x) {
    x = larger(x, all_f32(CF__EXPF_LEAST));
    x = smaller(x, all_f32(CF__EXPF_MOST));
    floats shifted = fma_f32(x, all_f32(CF__EXPF_LOG2E), all_f32(CF__EXPF_RINT));
    floats n = shifted - all_f32(CF__EXPF_RINT);
    floats r = fnma_f32(n, all_f32(CF__EXPF_LN2_HI), x);
    r = fnma_f32(n, all_f32(CF__EXPF_LN2_LO), r);
    floats p = all_f32(CF__EXPF_C6);
    p = fma_f32(p, r, all_f32(CF__EXPF_C5));
    p = fma_f32(p, r, all_f32(CF__EXPF_C4));
    p = fma_f32(p, r, all_f32(CF__EXPF_C3));
    p = fma_f32(p, r, all_f32(CF__EXPF_C2));
    p = fma_f32(p, r, all_f32(1.0f));
    p = fma_f32(p, r, all_f32(1.0f));
    return times_power(p, shifted);
}

#endif
