/* With AVX-VNNI, which processors have that lack AVX-512 (Intel's Core since the 12th generation, Xeons of E-cores):
 * the quantised products. Everything else is AVX2's. */
#if defined(__x86_64__)

#include "node/kernels/products/product_256.h"

#define PRODUCT(none, lower, upper)                                                                                    \
    void cf__product_##lower##_avx2_vnni(const struct cf_product *p) {                                                 \
        quantised(p, upper);                                                                                           \
    }
CF__QUANTISED(PRODUCT, )

#endif
