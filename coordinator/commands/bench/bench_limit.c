/* The roofline of a test: the seconds that it would take if nothing cost time but what bounds it, at the rates measured
 * before the tests (decode/measure/measure.h): reading weights and cache at the read bandwidth of all ranks, or
 * multiplying at the rate of their kernels, everything in cache, whichever is longer; of a prompt and its answer in one
 * time, the one after the other. Attention, norms and exchanges are in neither.
 */
#include <math.h>

#include "coordinator/commands/bench/bench.h"

/* Seconds of one row through a role of a layer; of experts through those that it chooses. */
static double seconds_of(const struct cf_job *j, enum cf_role role, uint32_t layer) {
    const struct cf_gguf_tensor *t = cf_model_tensor(&j->model, j->gguf, role, layer);
    if (!t || cf_tensor_specs[role].vector || t->type >= CF_TYPE_LIMIT || j->product_rates[t->type] <= 0) return 0;
    double rows = (double)cf_model_bytes(&j->model, j->gguf, role, layer, true) / (double)t->row_bytes;
    return (double)t->ne[0] * rows / j->product_rates[t->type];
}

void cf__bench_limits(struct cf__bench *b, const struct cf_job *j) {
    const struct cf_model *m = &j->model;
    b->row_seconds = 0;
    for (uint32_t l = 0; l < m->n_layers; l++)
        for (int role = CF_FIRST_LAYER_ROLE; role < CF_ROLES; role++)
            b->row_seconds += seconds_of(j, (enum cf_role)role, l);
    b->head_seconds = seconds_of(j, m->tied ? CF_W_TOKEN_EMBD : CF_W_OUTPUT, 0);
}

void cf__bench_limit(const struct cf__bench *b, struct cf__bench_test *k) {
    double bandwidth = 0;
    for (uint32_t r = 0; r < k->n_ranks; r++)
        bandwidth += k->ranks[r].bandwidth;
    uint64_t bytes_prompt = k->generate ? k->bytes_prompt : k->bytes_read;
    double answers = (double)k->generate * k->sequences;
    bool known = b->row_seconds > 0 && bandwidth > 0 && (!k->prompt || bytes_prompt > 0);
    if (!known) return;
    if (k->prompt) k->limit += fmax((double)bytes_prompt / bandwidth, k->prompt * b->row_seconds + b->head_seconds);
    if (k->generate)
        k->limit +=
            fmax((double)(k->bytes_read - k->bytes_prompt) / bandwidth, answers * (b->row_seconds + b->head_seconds));
}
