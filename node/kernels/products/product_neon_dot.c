/* The products of quantised types with NEON and its dot products (sdot). See product_128.h. */
#if defined(__aarch64__)
#define ISA neon_dot
#define QUANTISED_ONLY
#include "node/kernels/vectors/lanes_neon.h"
#include "node/kernels/products/product_128.h"
#endif
