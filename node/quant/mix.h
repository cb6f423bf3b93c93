/* Which type a tensor gets when its matrix does not fit the wanted one. cf_mix_type (the mixes) is in encode.h. */
#ifndef COFFER_NODE_QUANT_MIX_H
#define COFFER_NODE_QUANT_MIX_H

#include <stdint.h>

/* `type`, or where rows of `columns` elements are no whole number of its blocks: Q8_0 if they are of that type's, else
 * UINT32_MAX. (llama.cpp falls back to Q5_0, Q5_1 and Q8_0.) */
uint32_t cf_fitting_type(uint32_t type, uint64_t columns);

#endif
