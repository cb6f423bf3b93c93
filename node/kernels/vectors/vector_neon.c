/* Norm, activation and attention with NEON. See vector_128.h. */
#if defined(__aarch64__)
#define ISA neon
#include "node/kernels/vectors/lanes_neon.h"
#include "node/kernels/vectors/vector_128.h"
#endif
