/* Mirostat 1 and 2 (Basu et al. 2020): keeps the surprise of the tokens, -log2 p, near a target. mu is the surprise
 * that is allowed now; it begins at twice the target.
 */
#include "coordinator/sample/internal.h"

enum { BEST_LOOKED_AT = 100 }; /* m of the paper */

static double log2_of(double x) {
    return cf_log(x) * 1.44269504088896340736;
}

/* The paper's equation 30 estimates the exponent of Zipf's law from the best tokens, and section 3 how many tokens to
 * keep for a surprise of mu. */
static void cut_1(struct cf_sampler *s) {
    double bt = 0, tt = 0;
    for (uint32_t i = 0; i + 1 < s->list.n && i < BEST_LOOKED_AT - 1; i++) {
        double t = cf_log((double)(i + 2) / (double)(i + 1));
        float a = cf__list_nth(&s->list, i).logit, b = cf__list_nth(&s->list, i + 1).logit;
        bt += t * (a == b ? 0 : ((double)a - (double)b) / s->scale);
        tt += t * t;
    }
    double exponent = bt / tt, epsilon = exponent - 1;
    double k = cf_pow(epsilon * cf_pow(2, s->mu) / (1 - cf_pow((double)s->n_vocab, -epsilon)), 1 / exponent);
    if (!(k >= 1)) k = 1; /* not a number, too */
    if (k < s->list.n) cf__list_keep(&s->list, (uint32_t)k);
}

static void cut_2(struct cf_sampler *s) {
    float max = cf__list_max(&s->list);
    double total = cf__weights(s);
    for (uint32_t i = 1; i < s->list.n; i++) {
        double p = cf__weigh(cf__list_nth(&s->list, i).logit, max, s->scale) / total;
        if (!(p > 0) || -log2_of(p) > s->mu) cf__list_keep(&s->list, i);
    }
}

void cf__mirostat_cut(struct cf_sampler *s) {
    if (s->list.n > 1) (s->p.mirostat == 1 ? cut_1 : cut_2)(s);
}

void cf__mirostat_learn(struct cf_sampler *s, double p) {
    s->mu -= s->p.mirostat_lr * (-log2_of(p) - s->p.mirostat_ent);
}
