/* How fast the file system brings a model, nothing of it from the page cache. See check.h. */
#include <stdlib.h>

#include "node/check/check.h"
#include "transport/clock.h"

enum { PART = 4 << 20, DEPTH = 2 };

/* What one thread has under way. */
struct lane {
    struct cf_gguf_flight *flight[DEPTH];
    void *buf[DEPTH];
    bool flies[DEPTH];
    struct cf_error error;
};

struct reading {
    const struct cf_gguf *g;
    struct cf_gguf_part *parts; /* [n_parts] */
    uint32_t n_parts;
    uint64_t bytes;
    struct lane *lanes; /* [threads] */
    uint32_t threads;
};

/* The first `most` bytes of tensors, in parts. */
static int cut(struct reading *k, uint64_t most) {
    size_t room = (size_t)(most / PART) + cf_gguf_n_tensors(k->g) + 1;
    k->parts = calloc(room, sizeof *k->parts);
    if (!k->parts) return -1;
    for (size_t i = 0; i < cf_gguf_n_tensors(k->g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(k->g, i);
        for (uint64_t at = 0; at < t->bytes && k->bytes < most; at += PART) {
            uint64_t n = t->bytes - at < PART ? t->bytes - at : PART;
            if (n > most - k->bytes) n = most - k->bytes;
            k->parts[k->n_parts++] = (struct cf_gguf_part){.t = t, .offset = at, .n = (size_t)n};
            k->bytes += n;
        }
    }
    return 0;
}

static int open_lanes(struct reading *k, struct cf_error *e) {
    size_t align = cf_gguf_align(k->g), room = (PART + cf_gguf_slack(k->g) + align - 1) / align * align;
    k->lanes = calloc(k->threads, sizeof *k->lanes);
    if (!k->lanes) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < k->threads; i++)
        for (int d = 0; d < DEPTH; d++) {
            if (cf_gguf_flight_open(&k->lanes[i].flight[d], k->g, e)) return -1;
            k->lanes[i].buf[d] = aligned_alloc(align, room);
            if (!k->lanes[i].buf[d]) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
        }
    return 0;
}

static void close_lanes(struct reading *k) {
    for (uint32_t i = 0; k->lanes && i < k->threads; i++)
        for (int d = 0; d < DEPTH; d++) {
            cf_gguf_flight_close(k->lanes[i].flight[d]);
            free(k->lanes[i].buf[d]);
        }
    free(k->lanes);
    free(k->parts);
}

static void land(struct lane *l, int d) {
    const char *data;
    struct cf_error e = {0};
    if (l->flies[d] && cf_gguf_end(l->flight[d], &data, &e)) l->error = e;
    l->flies[d] = false;
}

static void read_parts(struct cf_team *team, uint32_t thread, void *ctx) {
    struct reading *k = ctx;
    struct lane *l = &k->lanes[thread];
    uint32_t i, last;
    int d = 0;
    for (; cf_team_next(team, thread, 1, &i, &last); d = (d + 1) % DEPTH) {
        land(l, d);
        cf_gguf_begin(l->flight[d], &k->parts[i], l->buf[d]);
        l->flies[d] = true;
    }
    for (int n = 0; n < DEPTH; n++)
        land(l, (d + n) % DEPTH);
}

int cf_check_disk(struct cf_team *team, const struct cf_gguf *g, uint64_t most, uint64_t *bytes, double *seconds,
    struct cf_error *e) {
    struct reading k = {.g = g, .threads = cf_team_size(team)};
    int rc = cut(&k, most) ? cf_fail(e, CF_ERR_MEMORY, "out of memory") : open_lanes(&k, e);
    if (!rc) {
        double start = cf_now();
        cf_team_do(team, read_parts, &k, k.n_parts);
        *seconds = cf_now() - start, *bytes = k.bytes;
    }
    for (uint32_t i = 0; !rc && i < k.threads; i++)
        if (k.lanes[i].error.code) *e = k.lanes[i].error, rc = -1;
    close_lanes(&k);
    return rc;
}
