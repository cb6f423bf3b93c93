/* Norm, activation and attention with NEON. See vector_128.h. */
#if defined(__aarch64__)
#define ISA neon
#include "node/kernels/lanes_neon.h"
#include "node/kernels/vector_128.h"
#endif
