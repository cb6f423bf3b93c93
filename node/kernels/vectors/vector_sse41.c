/* Norm, activation and attention with SSE4.1. See vector_128.h. */
#if defined(__x86_64__)
#define ISA sse41
#include "node/kernels/vectors/lanes_sse41.h"
#include "node/kernels/vectors/vector_128.h"
#endif
