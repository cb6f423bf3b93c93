/* One tensor from its type to another: pieces of the file are read, cut into slices, and each thread takes slices:
 * decode, encode, decode again for the error. See quantize.h. */
#include "coordinator/commands/quantize/quantize.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "node/kernels/type.h"
#include "node/quant/encode.h"

enum {
    SLICE = 1 << 16, /* elements; whole blocks of any type */
    SLICES = 32,     /* of a piece */
    MOST_THREADS = 64,
};

struct piece {
    const struct cf_type *from, *to;
    const unsigned char *source;
    unsigned char *result;
    uint64_t elements;
    atomic_uint next; /* slice that nobody has taken */
    double squares[SLICES], of_source[SLICES];
    int64_t bad[SLICES]; /* element that is not finite: before (>= 0) or after (~element < 0); NONE */
    atomic_bool no_memory;
};

#define NONE INT64_MAX

static size_t bytes_of(const struct cf_type *t, uint64_t elements) {
    return (size_t)(elements / t->block * t->block_bytes);
}

/* values: room for two slices. */
static void convert(struct piece *p, uint32_t slice, float *values) {
    const uint64_t first = (uint64_t)slice * SLICE;
    const size_t n = p->elements - first < SLICE ? (size_t)(p->elements - first) : SLICE;
    unsigned char *to = p->result + bytes_of(p->to, first);
    float *back = values + SLICE;
    p->bad[slice] = NONE;
    p->squares[slice] = p->of_source[slice] = 0;
    p->from->decode(p->source + bytes_of(p->from, first), values, n);
    for (size_t i = 0; i < n && p->bad[slice] == NONE; i++)
        if (!isfinite(values[i])) p->bad[slice] = (int64_t)(first + i);
    if (p->bad[slice] != NONE) return;
    cf_encode(p->to->id, values, to, n);
    p->to->decode(to, back, n);
    for (size_t i = 0; i < n; i++) {
        double off = (double)values[i] - (double)back[i];
        if (!isfinite(back[i]) && p->bad[slice] == NONE) p->bad[slice] = ~(int64_t)(first + i);
        p->squares[slice] += off * off;
        p->of_source[slice] += (double)values[i] * (double)values[i];
    }
}

static void *work(void *arg) {
    struct piece *p = arg;
    const uint32_t n_slices = (uint32_t)((p->elements + SLICE - 1) / SLICE);
    float *values = malloc(2 * SLICE * sizeof *values);
    if (!values) p->no_memory = true;
    for (uint32_t slice; values && (slice = atomic_fetch_add(&p->next, 1)) < n_slices;)
        convert(p, slice, values);
    free(values);
    return NULL;
}

static void convert_all(struct piece *p, uint32_t n_threads) {
    pthread_t threads[MOST_THREADS];
    uint32_t started = 0;
    p->next = 0;
    p->no_memory = false;
    while (started + 1 < n_threads && started < MOST_THREADS && !pthread_create(&threads[started], NULL, work, p))
        started++;
    work(p);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

static int add_up(const struct piece *p, const struct cf_gguf_tensor *t, uint64_t first,
    struct cf__quantize_error *error, struct cf_error *e) {
    if (p->no_memory) return cf_fail(e, CF_ERR_MEMORY, "tensor %s: no memory", t->name);
    for (uint32_t s = 0; (uint64_t)s * SLICE < p->elements; s++) {
        if (p->bad[s] != NONE) {
            const bool before = p->bad[s] >= 0;
            const unsigned long long at = first + (uint64_t)(before ? p->bad[s] : ~p->bad[s]);
            return before ? cf_fail(e, CF_ERR_NUMERIC, "tensor %s: element %llu is not finite", t->name, at)
                          : cf_fail(e, CF_ERR_NUMERIC, "tensor %s: element %llu is too large for %s", t->name, at,
                                p->to->name);
        }
        error->squares += p->squares[s];
        error->of_source += p->of_source[s];
    }
    error->elements += p->elements;
    return 0;
}

int cf__quantize_tensor(struct cf__quantize_job *j, const struct cf_gguf_tensor *t, uint32_t type,
    struct cf__quantize_error *error, struct cf_error *e) {
    const bool copy = type == t->type;
    struct piece p = {.from = cf_type_by_id(t->type), .to = cf_type_by_id(type)};
    const uint64_t elements = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3], most = (uint64_t)SLICE * SLICES;
    const uint64_t at_once = elements < most ? elements : most;
    unsigned char *source = malloc(bytes_of(p.from, at_once) + 1);
    int status = source ? 0 : cf_fail(e, CF_ERR_MEMORY, "tensor %s: no memory", t->name);
    if (!status && !copy) p.result = malloc(bytes_of(p.to, at_once) + 1);
    if (!status && !copy && !p.result) status = cf_fail(e, CF_ERR_MEMORY, "tensor %s: no memory", t->name);
    *error = (struct cf__quantize_error){.elements = 0};
    p.source = source;
    for (uint64_t first = 0; first < elements && !status; first += at_once) {
        p.elements = elements - first < at_once ? elements - first : at_once;
        const size_t n = bytes_of(p.from, p.elements);
        status = cf_gguf_read(j->in, t, bytes_of(p.from, first), source, n, e);
        if (!status && !copy) {
            convert_all(&p, j->n_threads);
            status = add_up(&p, t, first, error, e);
        }
        if (!status)
            status = copy ? cf_gguf_write_data(j->out, source, n, e)
                          : cf_gguf_write_data(j->out, p.result, bytes_of(p.to, p.elements), e);
        j->done += n;
        if (!status && j->progress) j->progress(j->ctx, j->done);
    }
    free(source);
    free(p.result);
    return status;
}
