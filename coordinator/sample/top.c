/* See top.h. */
#include "coordinator/sample/top.h"

#include "coordinator/sample/internal.h"

uint32_t cf_sampler_top(const float *logits, uint32_t n, uint32_t k, struct cf_top *out, struct cf_candidate *scratch) {
    if (k > n) k = n;
    if (!k) return 0;
    cf_select(logits, n, scratch, k);
    float max = scratch[0].logit;
    double sum = 0;
    for (uint32_t id = 0; id < n; id++)
        sum += cf__weigh(logits[id], max, 1);
    double log_sum = cf_log(sum);
    for (uint32_t i = 0; i < k; i++) {
        struct cf_candidate c = scratch[i];
        out[i] = (struct cf_top){c.id, c.logit, c.logit == max ? -log_sum : (double)c.logit - (double)max - log_sum};
    }
    return k;
}
