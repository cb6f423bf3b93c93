/* See straggler.h. */
#include "coordinator/plan/forecast/straggler.h"

static const double AT_LEAST = 2, BEYOND_OTHERS = 1.5, SECONDS = 0.05;

static double ratio_of(const double *predicted, const double *measured, uint32_t r) {
    return predicted[r] > 0 ? measured[r] / predicted[r] : 0;
}

/* Of all ranks that work but one: the ratio that half of them do not pass. 0: there are no others. */
static double middle_of_others(const double *predicted, const double *measured, uint32_t n, uint32_t but) {
    uint32_t others = 0;
    for (uint32_t r = 0; r < n; r++)
        others += r != but && predicted[r] > 0;
    for (uint32_t r = 0; r < n; r++) {
        if (r == but || predicted[r] <= 0) continue;
        uint32_t below = 0, same = 0;
        double mine = ratio_of(predicted, measured, r);
        for (uint32_t k = 0; k < n; k++) {
            if (k == but || predicted[k] <= 0) continue;
            below += ratio_of(predicted, measured, k) < mine;
            same += ratio_of(predicted, measured, k) <= mine;
        }
        if (below <= (others - 1) / 2 && same > (others - 1) / 2) return mine;
    }
    return 0;
}

int cf_straggler(const double *predicted, const double *measured, uint32_t n, double *ratio) {
    int worst = -1;
    *ratio = 0;
    for (uint32_t r = 0; r < n; r++)
        if (ratio_of(predicted, measured, r) > *ratio) *ratio = ratio_of(predicted, measured, r), worst = (int)r;
    if (worst < 0 || *ratio < AT_LEAST || measured[worst] - predicted[worst] < SECONDS) return -1;
    return *ratio < BEYOND_OTHERS * middle_of_others(predicted, measured, n, (uint32_t)worst) ? -1 : worst;
}
