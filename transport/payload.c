/* See payload.h. */
#include "transport/payload.h"

#include <string.h>

static const char *const names[CF_DTYPES] = {"f32", "f16", "q8"};

const char *cf_dtype_name(uint32_t dtype) {
    return dtype < CF_DTYPES ? names[dtype] : "?";
}

int cf_dtype_by_name(const char *name) {
    for (int i = 0; i < CF_DTYPES; i++)
        if (!strcmp(name, names[i])) return i;
    return -1;
}

size_t cf_payload_bytes(enum cf_dtype dtype, size_t lines, uint32_t columns) {
    size_t n = columns, blocks = (n + CF_DTYPE_BLOCK - 1) / CF_DTYPE_BLOCK;
    size_t line = dtype == CF_DTYPE_F16 ? 2 * n : dtype == CF_DTYPE_Q8 ? blocks * sizeof(float) + n : n * sizeof(float);
    return lines * ((line + 3) / 4 * 4);
}
