/* Attention with AVX2, FMA and F16C. See attend_wide.h. */
#ifdef __AVX2__
#define ISA avx2
#include "node/kernels/vectors/lanes_avx2.h"

/* More than 12 accumulators beside their operands do not fit the 16 registers. */
enum { QUERIES = 6 };
#define FOR_EACH(wide, narrow) wide(1) wide(2) narrow(3) narrow(4) narrow(5) narrow(6)
#include "node/kernels/vectors/attend_wide.h"
#endif
