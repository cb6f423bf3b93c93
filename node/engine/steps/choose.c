/* From the router's scores of one row to its experts: the same on every rank that holds the layer, because every one of
 * them computes all of it, in this order, with our own exp.
 *
 * Softmax or sigmoid; a bias for the choice alone (DeepSeek-V3, arXiv 2412.19437); choice among the groups whose best
 * two are highest; the best `used`, ties to the lower number; weights divided by their sum and scaled.
 */
#include <math.h>
#include <string.h>

#include "node/engine/steps/job.h"

enum { LANES = 16 };

/* Sixteen lanes, then l and l+8, +4, +2, +1. */
static float sum_of(const float *x, uint32_t n) {
    float lane[LANES] = {0};
    for (uint32_t i = 0; i < n; i++)
        lane[i % LANES] += x[i];
    for (uint32_t half = LANES / 2; half; half /= 2)
        for (uint32_t l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

static void softmax(float *x, uint32_t n) {
    float max = x[0];
    for (uint32_t i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (uint32_t i = 0; i < n; i++)
        x[i] = cf_expf(x[i] - max);
    float sum = sum_of(x, n);
    for (uint32_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* The number of the highest of x[n], the lowest of equal ones; not a number counts as the least. */
static uint32_t best_of(const float *x, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best] || (x[best] != x[best] && x[i] == x[i])) best = i;
    return best;
}

/* Leaves only the best groups in the choice. A group counts as the sum of its best two. */
static void keep_groups(const struct cf_experts *x, float *choice) {
    float score[CF_MAX_EXPERTS];
    bool kept[CF_MAX_EXPERTS] = {false};
    uint32_t size = x->n / x->groups;
    for (uint32_t g = 0; g < x->groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (uint32_t i = g * size; i < (g + 1) * size; i++) {
            if (choice[i] > first)
                second = first, first = choice[i];
            else if (choice[i] > second)
                second = choice[i];
        }
        score[g] = first + second;
    }
    for (uint32_t k = 0; k < x->groups_used; k++) {
        uint32_t g = best_of(score, x->groups);
        kept[g] = true, score[g] = -INFINITY;
    }
    for (uint32_t i = 0; i < x->n; i++)
        if (!kept[i / size]) choice[i] = -INFINITY;
}

/* The best `used` of choice[n] in ascending order of their numbers. */
static void take_best(const struct cf_experts *x, float *choice, uint32_t *chosen) {
    for (uint32_t k = 0; k < x->used; k++) {
        uint32_t best = 0, at = k;
        for (bool found = false; !found;) { /* where nothing is above -inf any more: the lowest that is left */
            best = best_of(choice, x->n);
            found = true;
            for (uint32_t i = 0; i < k; i++)
                if (chosen[i] == best) found = false;
            if (found) break;
            for (best = 0;; best++) {
                uint32_t i = 0;
                while (i < k && chosen[i] != best)
                    i++;
                if (i == k) break;
            }
            found = true;
        }
        choice[best] = -INFINITY;
        for (; at && chosen[at - 1] > best; at--)
            chosen[at] = chosen[at - 1];
        chosen[at] = best;
    }
}

void cf__choose_experts(const struct cf_experts *x, float *scores, const float *choice_bias, float *scratch,
    uint32_t *chosen, float *weights) {
    if (x->gating == CF_GATING_SOFTMAX) softmax(scores, x->n);
    for (uint32_t i = 0; i < x->n && x->gating == CF_GATING_SIGMOID; i++)
        scores[i] = 1.0f / (1.0f + cf_expf(-scores[i]));
    for (uint32_t i = 0; i < x->n; i++)
        scratch[i] = choice_bias ? scores[i] + choice_bias[i] : scores[i];
    if (x->groups > 1) keep_groups(x, scratch);
    take_best(x, scratch, chosen);
    for (uint32_t k = 0; k < x->used; k++)
        weights[k] = scores[chosen[k]];
    if (x->gating == CF_GATING_SOFTMAX_CHOSEN) softmax(weights, x->used);
    if (x->norm) {
        float sum = sum_of(weights, x->used);
        if (sum < 0x1p-14f) sum = 0x1p-14f; /* the least normal f16, as llama.cpp has it */
        for (uint32_t k = 0; k < x->used; k++)
            weights[k] /= sum;
    }
    for (uint32_t k = 0; k < x->used && x->scale != 1.0f; k++)
        weights[k] *= x->scale;
}
