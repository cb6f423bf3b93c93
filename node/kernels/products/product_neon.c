/* The products and the rounding of activations with NEON. See product_128.h. */
#if defined(__aarch64__)
#define ISA neon
#include "node/kernels/vectors/lanes_neon.h"
#include "node/kernels/products/product_128.h"
#endif
