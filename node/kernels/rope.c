/* Rotary position embedding (Su et al., "RoFormer", arXiv 2104.09864) with its scalings: linear, llama3 (divisors from
 * the file) and YaRN (Peng et al., arXiv 2309.00071, in the form of llama.cpp, whose files these are). All in double
 * and our own functions, so that every machine rotates by the same angles. */
#include "node/kernels/rope.h"

#include <math.h>

#include "node/kernels/kernels.h"

#define TAU 0x1.921fb54442d18p+2

/* The pair whose wave turns `turns` times within the original context; a fraction. */
static double pair_with_turns(const struct cf_rope *r, double turns) {
    double n_dims = (double)r->n_dims;
    return n_dims * cf_log((double)r->original_context / (turns * TAU)) / (2 * cf_log((double)r->base));
}

/* The pairs between which YaRN goes over from the plain frequencies (below first) to the scaled ones (above last). */
static void yarn_ramp(const struct cf_rope *r, double *first, double *last) {
    *first = floor(pair_with_turns(r, (double)r->beta_fast));
    *last = ceil(pair_with_turns(r, (double)r->beta_slow));
    if (*first < 0) *first = 0;
    if (*last > (double)r->n_dims - 1) *last = (double)r->n_dims - 1;
}

/* 1 where a pair keeps its plain frequency, 0 where it is scaled. */
static double yarn_plain_share(double pair, double first, double last) {
    double width = last - first > 0.001 ? last - first : 0.001;
    double y = (pair - first) / width;
    return 1 - (y < 0 ? 0 : y > 1 ? 1 : y);
}

void cf_rope_frequencies(const struct cf_rope *r, double *freq, float *mscale) {
    double factor = r->scaling == CF_ROPE_NONE || r->factor == 0 ? 1 : (double)r->factor;
    bool yarn = r->scaling == CF_ROPE_YARN && r->ext_factor != 0;
    double first = 0, last = 0;
    if (yarn) yarn_ramp(r, &first, &last);
    for (uint32_t i = 0; i < r->n_dims / 2; i++) {
        double plain = cf_pow((double)r->base, -2.0 * i / r->n_dims);
        if (r->factors) plain /= (double)r->factors[i];
        freq[i] = plain / factor;
        if (yarn) {
            double share = yarn_plain_share(i, first, last) * (double)r->ext_factor;
            freq[i] = freq[i] * (1 - share) + plain * share;
        }
    }
    double scale = (double)r->attn_factor;
    if (yarn) scale *= 1 + 0.1 * cf_log(factor);
    *mscale = (float)scale;
}

void cf_rope_angles(float *cs, const double *freq, uint32_t n_dims, float mscale, uint32_t position) {
    for (uint32_t i = 0; i < n_dims / 2; i++) {
        double angle = (double)position * freq[i];
        cs[2 * i] = (float)(cf_cos(angle) * (double)mscale);
        cs[2 * i + 1] = (float)(cf_sin(angle) * (double)mscale);
    }
}
