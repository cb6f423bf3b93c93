/* The steps that choose by probability, and temperature. Each is one published rule; what is not written there (which
 * comparison is strict, what happens with one candidate) is as in llama.cpp's src/llama-sampler.cpp, but for one thing:
 * what a step has barred is gone for the steps behind it (there top_n_sigma leaves it in with probability 0, of which
 * typical and dynamic temperature then take the logarithm). Sums run over the candidates in double, in the order of the
 * list.
 */
#include "coordinator/sample/internal.h"

double cf__weights(struct cf_sampler *s) {
    float max = cf__list_max(&s->list);
    double total = 0;
    for (uint32_t i = 0; i < s->list.n; i++)
        total += s->weight[i] = cf__weigh(s->list.at[i].logit, max, s->scale);
    return total;
}

void cf__settle(struct cf_sampler *s) {
    if (s->scale == 1) return;
    for (uint32_t i = 0; i < s->list.n; i++)
        s->list.at[i].logit = (float)((double)s->list.at[i].logit / s->scale);
    s->scale = 1;
}

uint32_t cf__draw(struct cf_sampler *s, double total) {
    double target = cf__random_uniform(&s->random) * total, sum = 0;
    uint32_t last = 0; /* rounding may leave target beyond the sum: then the last one that can be */
    for (uint32_t i = 0; i < s->list.n; i++) {
        if (s->weight[i] > 0) last = i;
        sum += s->weight[i];
        if (target < sum) break;
    }
    return last;
}

/* Entropy of the candidates in nats, from their weights. */
static double entropy(const struct cf_sampler *s, double total) {
    double sum = 0;
    for (uint32_t i = 0; i < s->list.n; i++) {
        double p = s->weight[i] / total;
        if (p > 0) sum -= p * cf_log(p);
    }
    return sum;
}

void cf__top_k(struct cf_sampler *s) {
    if (s->p.top_k > 0 && s->p.top_k < s->list.n) cf__list_keep(&s->list, (uint32_t)s->p.top_k);
}

/* Nucleus sampling (Holtzman et al. 2019). */
void cf__top_p(struct cf_sampler *s) {
    if (s->p.top_p >= 1) return;
    float max = cf__list_max(&s->list);
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < s->list.n; i++)
        total += cf__weigh(s->list.at[i].logit, max, s->scale);
    for (uint32_t i = 0; i < s->list.n; i++) {
        sum += cf__weigh(cf__list_nth(&s->list, i).logit, max, s->scale);
        if (sum >= s->p.top_p * total) cf__list_keep(&s->list, i + 1);
    }
}

/* Nguyen et al. 2024. */
void cf__min_p(struct cf_sampler *s) {
    if (s->p.min_p <= 0) return;
    float max = cf__list_nth(&s->list, 0).logit;
    for (uint32_t i = 1; i < s->list.n; i++)
        if (cf__weigh(cf__list_nth(&s->list, i).logit, max, s->scale) < s->p.min_p) cf__list_keep(&s->list, i);
}

/* Locally typical sampling (Meister et al. 2022): nearest to the entropy first. Equals stay in the order of the list.
 */
void cf__typical(struct cf_sampler *s) {
    if (s->p.typical_p >= 1) return;
    cf__list_nth(&s->list, s->list.n - 1); /* best first: so equals are in order */
    double total = cf__weights(s), h = entropy(s, total), sum = 0;
    struct cf__list near = {.at = s->other, .n = s->list.n};
    for (uint32_t i = 0; i < near.n; i++) {
        double p = s->weight[i] / total;
        near.at[i] = (struct cf_candidate){p > 0 ? -(float)fabs(-cf_log(p) - h) : -INFINITY, i};
    }
    for (uint32_t i = 0; i < near.n; i++) {
        sum += s->weight[cf__list_nth(&near, i).id];
        if (sum > s->p.typical_p * total) near.n = i + 1;
    }
    for (uint32_t i = 0; i < near.n; i++)
        near.at[i] = s->list.at[near.at[i].id];
    s->other = s->list.at; /* the two change places */
    s->list = (struct cf__list){.at = near.at, .n = near.n};
}

/* Top-nsigma (Tang et al. 2024): by distance from the best logit in standard deviations of all. */
void cf__top_n_sigma(struct cf_sampler *s) {
    struct cf__list *l = &s->list;
    if (s->p.top_n_sigma <= 0 || l->n < 2) return;
    double sum = 0, squares = 0, max = (double)cf__list_max(l);
    for (uint32_t i = 0; i < l->n; i++)
        sum += (double)l->at[i].logit;
    for (uint32_t i = 0; i < l->n; i++)
        squares += ((double)l->at[i].logit - sum / l->n) * ((double)l->at[i].logit - sum / l->n);
    double least = max - s->p.top_n_sigma * sqrt(squares / l->n);
    uint32_t n = 0, n_sorted = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        if ((double)l->at[i].logit < least) continue;
        n_sorted += i < l->n_sorted;
        l->at[n++] = l->at[i];
    }
    l->n = n, l->n_sorted = n_sorted;
}

/* Exclude top choices (p-e-w 2024, github.com/oobabooga/text-generation-webui/pull/6335). */
void cf__xtc(struct cf_sampler *s) {
    if (s->p.xtc_probability <= 0 || s->p.xtc_threshold > 0.5 || s->list.n < 2) return;
    if (cf__random_uniform(&s->random) > s->p.xtc_probability) return;
    float max = cf__list_max(&s->list);
    double total = cf__weights(s);
    uint32_t last = 0;
    for (uint32_t i = 1; i < s->list.n; i++) {
        if (cf__weigh(cf__list_nth(&s->list, i).logit, max, s->scale) < s->p.xtc_threshold * total) break;
        last = i;
    }
    cf__list_drop(&s->list, last);
}

/* With a range: dynamic temperature (kalomaze 2023), temp -/+ range by the entropy of what is left. */
void cf__temperature(struct cf_sampler *s) {
    double t = s->p.temp;
    if (s->p.dynatemp_range > 0 && !s->p.mirostat) {
        if (s->list.n < 2) return;
        double low = t > s->p.dynatemp_range ? t - s->p.dynatemp_range : 0, high = t + s->p.dynatemp_range;
        double share = entropy(s, cf__weights(s)) / cf_log((double)s->list.n);
        t = low + (high - low) * cf_pow(share > 0 ? share : 0, s->p.dynatemp_exponent);
    }
    if (t > 0)
        s->scale *= t;
    else
        cf__list_keep(&s->list, 1);
}
