/* Are two model files the same, beyond size and header? A hash over a part of the tensors' bytes that takes no time, or
 * over all of them. See check.h. */
#include "node/check/check.h"

#include <stdlib.h>
#include <xxhash.h>

enum { PIECE = 64 << 10, PIECES = 64, WHOLE_PIECE = 4 << 20 };

struct hashing {
    const struct cf_gguf *g;
    char *buf; /* [WHOLE_PIECE] */
    XXH64_state_t *state;
    struct cf_error *e;
};

static int take(struct hashing *h, const struct cf_gguf_tensor *t, uint64_t offset, uint64_t n) {
    if (cf_gguf_read(h->g, t, offset, h->buf, (size_t)n, h->e)) return -1;
    XXH64_update(h->state, h->buf, (size_t)n);
    return 0;
}

static int take_all(struct hashing *h, void (*poll)(void *ctx), void *ctx) {
    for (size_t i = 0; i < cf_gguf_n_tensors(h->g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(h->g, i);
        for (uint64_t at = 0; at < t->bytes; at += WHOLE_PIECE) {
            if (take(h, t, at, t->bytes - at < WHOLE_PIECE ? t->bytes - at : WHOLE_PIECE)) return -1;
            if (poll) poll(ctx);
        }
    }
    return 0;
}

/* Pieces that begin at multiples of all / PIECES, counted through all tensors as if they were one. */
static int take_samples(struct hashing *h) {
    uint64_t all = 0, before = 0, next = 0;
    for (size_t i = 0; i < cf_gguf_n_tensors(h->g); i++)
        all += cf_gguf_tensor_at(h->g, i)->bytes;
    uint64_t step = all / PIECES < PIECE ? PIECE : all / PIECES;
    for (size_t i = 0; i < cf_gguf_n_tensors(h->g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(h->g, i);
        while (next < before + t->bytes) {
            uint64_t at = next > before ? next - before : 0, n = t->bytes - at < PIECE ? t->bytes - at : PIECE;
            if (take(h, t, at, n)) return -1;
            next = before + at + (n < PIECE ? n : step);
        }
        before += t->bytes;
    }
    return 0;
}

int cf_check_content(
    const struct cf_gguf *g, bool whole, void (*poll)(void *ctx), void *ctx, uint64_t *hash, struct cf_error *e) {
    struct hashing h = {g, malloc(WHOLE_PIECE), XXH64_createState(), e};
    int rc = -1;
    if (h.buf && h.state) {
        XXH64_reset(h.state, 0);
        rc = whole ? take_all(&h, poll, ctx) : take_samples(&h);
        *hash = XXH64_digest(h.state);
    } else {
        cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    XXH64_freeState(h.state);
    free(h.buf);
    return rc;
}
