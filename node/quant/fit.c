/* Least-squares fits of a few numbers by whole numbers. See fit.h. */
#include "node/quant/fit.h"

#include "node/kernels/type.h"

uint16_t cf__half(float v, float *back) {
    float most = 65504.0f;
    if (v != v) v = 0; /* a NaN: of infinite elements */
    uint16_t h = cf_f32_to_f16(v > most ? most : v < -most ? -most : v);
    *back = cf_f16_to_f32(h);
    return h;
}

/* The best scale for the whole numbers that `guess` gives, and its squared error in *error. */
static float refit_scale(const float *x, size_t n, int32_t low, int32_t high, float guess, float *error) {
    float inverse = 1.0f / guess, xq = 0, qq = 0;
    for (size_t i = 0; i < n; i++) {
        float q = (float)cf__nearest_in(x[i] * inverse, low, high);
        xq += x[i] * q;
        qq += q * q;
    }
    float scale = qq > 0 ? xq / qq : 0;
    *error = 0;
    for (size_t i = 0; i < n; i++) {
        float off = x[i] - scale * (float)cf__nearest_in(x[i] * inverse, low, high);
        *error += off * off;
    }
    return scale;
}

float cf__fit_scale(const float *x, size_t n, int32_t low, int32_t high) {
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        if ((x[i] < 0 ? -x[i] : x[i]) > (most < 0 ? -most : most)) most = x[i];
    }
    if ((most < 0 ? -most : most) < 1e-30f) return 0;
    /* The largest element goes to `low`, the longer side, or somewhat beyond or short of it. */
    float best = 0, least = 0, error;
    for (int k = -4; k <= 4; k++) {
        float scale = refit_scale(x, n, low, high, most / ((float)low + 0.15f * (float)k), &error);
        if (k == -4 || error < least) {
            best = scale;
            least = error;
        }
    }
    return best;
}

/* The best scale and minimum for the whole numbers that `inverse` and `bottom` give. */
static float refit_both(const float *x, size_t n, int32_t high, float inverse, float bottom, float *min, float *error) {
    float sx = 0, sq = 0, sqq = 0, sxq = 0, count = (float)n;
    for (size_t i = 0; i < n; i++) {
        float q = (float)cf__nearest_in((x[i] - bottom) * inverse, 0, high);
        sx += x[i];
        sq += q;
        sqq += q * q;
        sxq += x[i] * q;
    }
    float det = count * sqq - sq * sq, floor = bottom;
    float scale = sq > 0 ? (sx - count * bottom) / sq : 0; /* all whole numbers alike: the minimum stays */
    if (det > 0) {
        scale = (count * sxq - sx * sq) / det;
        floor = (sqq * sx - sq * sxq) / det;
    }
    if (floor > 0) {
        floor = 0;
        scale = sqq > 0 ? sxq / sqq : 0;
    }
    *min = -floor;
    *error = 0;
    for (size_t i = 0; i < n; i++) {
        float off = x[i] - (scale * (float)cf__nearest_in((x[i] - bottom) * inverse, 0, high) + floor);
        *error += off * off;
    }
    return scale;
}

float cf__fit_scale_and_min(const float *x, size_t n, int32_t high, float *min) {
    float bottom = 0, top = x[0];
    for (size_t i = 0; i < n; i++) {
        bottom = x[i] < bottom ? x[i] : bottom;
        top = x[i] > top ? x[i] : top;
    }
    *min = -bottom;
    if (top - bottom < 1e-30f) return 0;
    float best = 0, least = 0, m, error;
    for (int k = -3; k <= 5; k++) {
        float inverse = ((float)high + 0.2f * (float)k) / (top - bottom);
        float scale = refit_both(x, n, high, inverse, bottom, &m, &error);
        if (k == -3 || error < least) {
            best = scale < 0 ? 0 : scale;
            *min = m;
            least = error;
        }
    }
    return best;
}
