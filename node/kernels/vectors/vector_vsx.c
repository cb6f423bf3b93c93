/* Norm, activation and attention with the vector unit of POWER8. See vector_128.h. */
#if defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define ISA vsx
#include "node/kernels/vectors/lanes_vsx.h"
#include "node/kernels/vectors/vector_128.h"
#endif
