/* With AVX-512: the products of the other quantised types (product_512.h). Fewer sizes of groups of rows than the types
 * in product_avx512.c have, so that they do not take a megabyte of code.
 */
#if defined(__x86_64__)

#include "node/kernels/products/product_512.h"

INLINE void by_rows(const struct cf_product *p, const enum kind kind) {
    for (uint32_t i0 = 0, n; i0 < p->n; i0 += n) {
        const uint32_t left = p->n - i0;
        n = left >= 16 ? 16 : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        switch (n) {
        case 1: quantised_rows(p, i0, 1, kind); break;
        case 2: quantised_rows(p, i0, 2, kind); break;
        case 4: quantised_rows(p, i0, 4, kind); break;
        case 8: quantised_rows(p, i0, 8, kind); break;
        default: quantised_rows(p, i0, 16, kind); break;
        }
    }
}

#define PRODUCT(none, lower, upper)                                                                                    \
    void cf__product_##lower##_avx512(const struct cf_product *p) {                                                    \
        by_rows(p, upper);                                                                                             \
    }
CF__QUANTISED_MORE(PRODUCT, )

#endif
