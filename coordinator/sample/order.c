/* The steps by name and letter, and orders of them (sampler.h). Names and letters are llama.cpp's. */
#include <string.h>
#include <strings.h>

#include "coordinator/sample/internal.h"

const struct cf__step cf__steps[CF_STEPS] = {
    [CF_STEP_PENALTIES] = {"penalties", {0}, 'e', cf__penalties},
    [CF_STEP_DRY] = {"dry", {0}, 'd', cf__dry},
    [CF_STEP_TOP_N_SIGMA] = {"top_n_sigma", {"top-n-sigma", "topnsigma"}, 's', cf__top_n_sigma},
    [CF_STEP_TOP_K] = {"top_k", {"top-k", "topk"}, 'k', cf__top_k},
    [CF_STEP_TYPICAL] = {"typ_p", {"typ-p", "typp", "typ", "typical"}, 'y', cf__typical},
    [CF_STEP_TOP_P] = {"top_p", {"top-p", "topp", "nucleus"}, 'p', cf__top_p},
    [CF_STEP_MIN_P] = {"min_p", {"min-p", "minp"}, 'm', cf__min_p},
    [CF_STEP_XTC] = {"xtc", {0}, 'x', cf__xtc},
    [CF_STEP_TEMPERATURE] = {"temperature", {"temp"}, 't', cf__temperature},
};

static bool is_called(const struct cf__step *k, const char *name, size_t n) {
    if (strlen(k->name) == n && !strncasecmp(k->name, name, n)) return true;
    for (size_t i = 0; i < sizeof k->other / sizeof *k->other && k->other[i]; i++)
        if (strlen(k->other[i]) == n && !strncasecmp(k->other[i], name, n)) return true;
    return false;
}

static int add(struct cf_sampler_order *o, int step, struct cf_error *e) {
    if (o->n == CF_ORDER_LONGEST) return cf_fail(e, CF_ERR_USAGE, "more than %d samplers in a row", CF_ORDER_LONGEST);
    o->step[o->n++] = (enum cf_sampler_step)step;
    return 0;
}

int cf_sampler_order_names(struct cf_sampler_order *order, const char *names, struct cf_error *e) {
    order->n = 0;
    for (const char *s = names; *s;) {
        size_t n = strcspn(s, ";");
        int step = 0;
        while (step < CF_STEPS && !is_called(&cf__steps[step], s, n))
            step++;
        if (step == CF_STEPS)
            return cf_fail(e, CF_ERR_USAGE,
                "--samplers: %.*s is unknown; known: penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature",
                n < 40 ? (int)n : 40, s);
        if (add(order, step, e)) return -1;
        s += n + (s[n] == ';');
    }
    return 0;
}

int cf_sampler_order_letters(struct cf_sampler_order *order, const char *letters, struct cf_error *e) {
    order->n = 0;
    for (const char *s = letters; *s; s++) {
        int step = 0;
        while (step < CF_STEPS && cf__steps[step].letter != *s)
            step++;
        if (step == CF_STEPS)
            return cf_fail(e, CF_ERR_USAGE,
                "--sampler-seq: %c is unknown; known: e penalties, d dry, s top_n_sigma, k top_k, y typ_p, p top_p, "
                "m min_p, x xtc, t temperature",
                *s);
        if (add(order, step, e)) return -1;
    }
    return 0;
}
