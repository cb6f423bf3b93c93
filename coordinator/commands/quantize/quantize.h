/* Private to `coffer quantize`: what is to be done (quantize.c), and doing it to one tensor (quantize_tensor.c). */
#ifndef COFFER_COORDINATOR_COMMANDS_QUANTIZE_H
#define COFFER_COORDINATOR_COMMANDS_QUANTIZE_H

#include <stdint.h>

#include "node/gguf/write.h"

struct cf__quantize_job {
    const struct cf_gguf *in;
    struct cf_gguf_writer *out;
    uint32_t n_threads;
    /* Called from time to time by the thread that called; done: source bytes read so far, of all tensors. */
    void (*progress)(void *ctx, uint64_t done);
    void *ctx;
    uint64_t done;
};

/* How far decode(written) is from the source. */
struct cf__quantize_error {
    double squares, of_source; /* sums of squares: of the differences, of the source */
    uint64_t elements;
};

/* Reads t from j->in and writes it to j->out, whose next tensor it is, as `type`; a few megabytes at a time, whatever
 * its size. The same bytes and sums for any number of threads. A value that is not finite is an error that names it. */
int cf__quantize_tensor(struct cf__quantize_job *j, const struct cf_gguf_tensor *t, uint32_t type,
    struct cf__quantize_error *error, struct cf_error *e);

#endif
