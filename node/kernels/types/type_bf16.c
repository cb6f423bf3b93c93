/* BF16: the upper half of a float, packed as half.h says. */
#include "node/kernels/half.h"

CF__HALF_TYPE(bf16, BF16, cf_bf16_to_f32)
