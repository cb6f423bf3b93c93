/* The products and the rounding of activations with AVX and no FMA. See product_128.h. */
#if defined(__x86_64__)
#define ISA avx
#include "node/kernels/vectors/lanes_sse41.h"
#include "node/kernels/products/product_128.h"
#endif
