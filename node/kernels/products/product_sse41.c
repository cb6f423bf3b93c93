/* The products and the rounding of activations with SSE4.1. See product_128.h. */
#if defined(__x86_64__)
#define ISA sse41
#include "node/kernels/vectors/lanes_sse41.h"
#include "node/kernels/products/product_128.h"
#endif
