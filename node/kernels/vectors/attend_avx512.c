/* Attention with AVX-512 (F, BW, VL, DQ). See attend_wide.h. */
#ifdef __AVX512F__
#define ISA avx512
#include "node/kernels/vectors/lanes_avx512.h"

/* More than 24 accumulators beside their operands do not fit the 32 registers. */
enum { QUERIES = 12 };
#define FOR_EACH(wide, narrow)                                                                                         \
    wide(1) wide(2) wide(3) wide(4) wide(5) wide(6) narrow(7) narrow(8) narrow(9) narrow(10) narrow(11) narrow(12)
#include "node/kernels/vectors/attend_wide.h"
#endif
