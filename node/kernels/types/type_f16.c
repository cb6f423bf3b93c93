/* F16: IEEE 754 binary16, packed as half.h says. */
#include "node/kernels/half.h"

CF__HALF_TYPE(f16, F16, cf_f16_to_f32)
