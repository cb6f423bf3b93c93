/* The vector functions without vectors: the reference that every other table must equal bit for bit. README.md of this
 * folder states the same order of operations in words. */
#include "node/kernels/vectors/vector.h"

#include <math.h>

#include "node/kernels/tree.h"
#include "node/kernels/type.h"

enum { LANES = 16 };

/* lanes l and l+8, +4, +2, +1. Destroys lane[]. */
static float lane_sum(float lane[LANES]) {
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

void cf__rms_norm_scalar(float *y, const float *x, const float *w, size_t n, float eps) {
    float lane[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % LANES] += x[i] * x[i];
    float mean = lane_sum(lane) / (float)n;
    float scale = 1.0f / sqrtf(mean + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = w ? (x[i] * scale) * w[i] : x[i] * scale;
}

static float gated(enum cf_act act, float g, float u) {
    float t = g;
    if (act == CF_ACT_GELU) t = g * (CF__GELU_1 + CF__GELU_3 * (g * g));
    if (act == CF_ACT_SWIGLU_OAI) {
        g = CF__OAI_LIMIT < g ? CF__OAI_LIMIT : g;
        u = CF__OAI_LIMIT < u ? CF__OAI_LIMIT : u;
        u = (-CF__OAI_LIMIT > u ? -CF__OAI_LIMIT : u) + 1.0f;
        t = CF__OAI_SLOPE * g;
    }
    return g / (1.0f + cf_expf(-t)) * u;
}

void cf__gate_mul_scalar(enum cf_act act, float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] = gated(act, g[i], u[i]);
}

void cf__tree_sum_scalar(float *v, size_t n, size_t stride, size_t width) {
    cf__tree_sum(v, n, stride, width);
}

void cf__add_scalar(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

void cf__add_scaled_scalar(float *y, const float *x, float a, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

void cf__rope_scalar(float *x, const float *cs, size_t n_dims, bool neox) {
    size_t pairs = n_dims / 2, step = neox ? 1 : 2, apart = neox ? pairs : 1;
    for (size_t i = 0; i < pairs; i++) {
        float a = x[i * step], b = x[i * step + apart];
        float c = cs[2 * i], s = cs[2 * i + 1];
        x[i * step] = a * c - b * s;
        x[i * step + apart] = a * s + b * c;
    }
}

static void attend_query(struct cf_attention_state *s, const struct cf_attention_page *p) {
    if (s->n == 0) return;
    float score[CF__PAGE], max = s->max;
    for (uint32_t j = s->first; j < s->n; j++) {
        float dot = 0;
        for (uint32_t d = 0; d < p->d_k; d++)
            dot = fmaf(s->q[d], cf_f16_to_f32(p->k[(size_t)d * CF__PAGE + j]), dot);
        score[j] = p->cap > 0 ? dot : dot * p->scale;
    }
    if (p->cap > 0) cf__cap_scores(score, s->first, s->n, p->scale, p->cap);
    for (uint32_t j = s->first; j < s->n; j++)
        max = score[j] > max ? score[j] : max;
    max += 0.0f; /* -0 becomes +0: which of the two a maximum yields depends on the order of comparisons */
    float correction = s->max == -INFINITY ? 0.0f : cf_expf(s->max - max);
    s->max = max;
    for (uint32_t l = 0; l < LANES; l++)
        s->sum[l] *= correction;
    for (uint32_t d = 0; d < p->d_v; d++)
        s->acc[d] *= correction;
    for (uint32_t j = s->first; j < s->n; j++) {
        float share = cf_expf(score[j] - max);
        s->sum[j % LANES] += share;
        for (uint32_t d = 0; d < p->d_v; d++)
            s->acc[d] = fmaf(share, cf_f16_to_f32(p->v[(size_t)j * p->d_v + d]), s->acc[d]);
    }
}

void cf__attend_page_scalar(struct cf_attention_state *s, const struct cf_attention_page *p) {
    for (uint32_t i = 0; i < p->n_queries; i++)
        attend_query(s + i, p);
}

void cf__attend_merge_scalar(struct cf_attention_state *total, const struct cf_attention_state *span, uint32_t d_v) {
    if (span->max == -INFINITY) return; /* no key took part */
    float lane[LANES];
    for (uint32_t l = 0; l < LANES; l++)
        lane[l] = span->sum[l];
    float sum = lane_sum(lane);
    float max = total->max > span->max ? total->max : span->max;
    float of_total = cf_expf(total->max - max), of_span = cf_expf(span->max - max);
    total->max = max;
    total->sum[0] = total->sum[0] * of_total + sum * of_span;
    for (uint32_t d = 0; d < d_v; d++)
        total->acc[d] = total->acc[d] * of_total + span->acc[d] * of_span;
}

void cf__attend_finish_scalar(float *out, const struct cf_attention_state *total, uint32_t d_v) {
    for (uint32_t d = 0; d < d_v; d++)
        out[d] = total->acc[d] / total->sum[0];
}

void cf__to_f16_scalar(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] = cf_f32_to_f16(x[i]);
}
