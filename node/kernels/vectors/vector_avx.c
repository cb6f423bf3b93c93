/* Norm, activation and attention with AVX and no FMA. See vector_128.h. */
#if defined(__x86_64__)
#define ISA avx
#include "node/kernels/vectors/lanes_sse41.h"
#include "node/kernels/vectors/vector_128.h"
#endif
