/* gate_mul in every lane, written once for vectors of any length: included after exp_lanes.h, with what that wants.
 */
#ifndef COFFER_NODE_KERNELS_GATE_LANES_H
#define COFFER_NODE_KERNELS_GATE_LANES_H

#include "node/kernels/vectors/exp_lanes.h"

INLINE floats gated(const enum cf_act act, floats g, floats u) {
    floats t = g;
    if (act == CF_ACT_GELU) t = g * (all_f32(CF__GELU_1) + all_f32(CF__GELU_3) * (g * g));
    if (act == CF_ACT_SWIGLU_OAI) {
        g = smaller(g, all_f32(CF__OAI_LIMIT));
        u = larger(smaller(u, all_f32(CF__OAI_LIMIT)), all_f32(-CF__OAI_LIMIT)) + all_f32(1.0f);
        t = all_f32(CF__OAI_SLOPE) * g;
    }
    return g / (all_f32(1.0f) + exp_lanes(-t)) * u;
}

/* GATE_LOOP(act) is the loop of one instruction set, with a constant for act. */
#define GATE_MUL(act)                                                                                                  \
    switch (act) {                                                                                                     \
    case CF_ACT_GELU: GATE_LOOP(CF_ACT_GELU); break;                                                                   \
    case CF_ACT_SWIGLU_OAI: GATE_LOOP(CF_ACT_SWIGLU_OAI); break;                                                       \
    default: GATE_LOOP(CF_ACT_SILU); break;                                                                            \
    }

#endif
