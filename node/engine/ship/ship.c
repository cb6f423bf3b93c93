/* The two rounds of --ship seen from outside: who lacks the model, and which blocks does it need. See ship.h. */
#include "node/engine/ship/ship.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "node/engine/memory/weights.h"
#include "node/engine/ship/internal.h"
#include "proto/wire.h"

/* ---- who lacks it ---- */

static bool is_missing(const char *path) {
    struct stat st;
    return stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* Names the model for the caches: other content, or a file written anew, has another key. */
static uint64_t key_of(const struct cf_gguf *g) {
    uint64_t what[2], key;
    cf_gguf_identity(g, &what[0], &what[1]);
    key = XXH64(what, sizeof what, 0);
    for (uint32_t i = 0; i < cf_gguf_files(g); i++) {
        struct stat st;
        if (stat(cf_gguf_file(g, i).path, &st)) continue;
        uint64_t when[3] = {(uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
        key = XXH64(when, sizeof when, key);
    }
    return key;
}

static char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return cf_wire_text(slash ? slash + 1 : path);
}

static bool all_words(void *ctx) {
    return ((const struct cf_ship *)ctx)->missing_words == 0;
}
static bool model_here(void *ctx) {
    return ((const struct cf_ship *)ctx)->model != NULL;
}

/* Rank 0: everybody hears what the model is called and who lacks it. */
static int tell_model(struct cf_ship *s, struct cf_error *e) {
    uint32_t n = cf_gguf_files(s->gguf);
    Cf__ShipModel m = CF__SHIP_MODEL__INIT;
    Cf__ShipFile *files = calloc(n, sizeof *files), **list = calloc(n, sizeof(Cf__ShipFile *));
    uint32_t *lacking = calloc((size_t)s->size, sizeof *lacking);
    int rc = files && list && lacking ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < n && !rc; i++) {
        struct cf_gguf_file f = cf_gguf_file(s->gguf, i);
        cf__ship_file__init(&files[i]);
        files[i].name = name_of(f.path), files[i].bytes = f.bytes, files[i].header = f.header;
        list[i] = &files[i];
    }
    m.files = list, m.n_files = n, m.key = key_of(s->gguf), m.lacking = lacking;
    for (int r = 0; r < s->size && !rc; r++)
        if (s->lacks[r]) lacking[m.n_lacking++] = (uint32_t)r;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_SHIP_MODEL, env.ship_model = &m;
    for (int r = 1; r < s->size && !rc; r++)
        rc = cf_post(s->o.transport, r, &env, NULL, 0, NULL, e);
    if (!rc && !(s->model = cf_transport_copy(&m.base, e))) rc = -1;
    free(lacking);
    free(list);
    free(files);
    return rc;
}

static int meet(struct cf_ship *s, struct cf_error *e) {
    Cf__ShipWord word = CF__SHIP_WORD__INIT;
    word.kind = is_missing(s->o.model) ? CF__LACKS : CF__HAS;
    if (s->rank) {
        if (cf__ship_say(s, &word, e) || cf_wait(s->o.transport, model_here, s, NULL, e)) return -1;
    } else if (cf_gguf_open(&s->gguf, s->o.model, e) || cf_wait(s->o.transport, all_words, s, NULL, e) ||
               tell_model(s, e)) {
        return -1;
    }
    s->fetcher = -1;
    s->n_lacking = (int)s->model->n_lacking;
    for (size_t i = 0; i < s->model->n_lacking; i++) {
        uint32_t r = s->model->lacking[i];
        if (r >= (uint32_t)s->size) return cf_fail(e, CF_ERR_FORMAT, "rank %u, of %d, lacks the model", r, s->size);
        s->lacks[r] = true;
    }
    return 0;
}

/* The lowest rank of a host that lacks the file, -1: none does. */
static int fetcher_of(const struct cf_ship *s, int rank) {
    for (int r = 0; r < s->size; r++)
        if (s->lacks[r] && cf_transport_host_of(s->o.transport, r) == cf_transport_host_of(s->o.transport, rank))
            return r;
    return -1;
}

static int appoint(struct cf_ship *s, struct cf_error *e) {
    for (int r = 0; r < s->size && s->customers; r++)
        s->customers[r].fetches = fetcher_of(s, r) == r;
    if (s->rank && !s->lacks[s->rank]) return 0;
    if (cf__cache_name(&s->cache, s->model, s->o.cache, e)) return -1;
    if (s->rank == 0) return 0; /* only the sizes of blocks matter there */
    s->fetcher = fetcher_of(s, s->rank);
    free(s->path);
    s->path = strdup(s->cache.files[0].path);
    if (!s->path) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    if (s->fetcher != s->rank) return 0;
    s->needed = calloc(s->cache.n_blocks + 1, sizeof *s->needed);
    s->known = calloc(s->cache.n_blocks + 1, sizeof *s->known);
    if (!s->needed || !s->known) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    return cf__cache_open(&s->cache, e);
}

/* ---- what is needed ---- */

static void need(struct cf_ship *s, uint32_t file, uint64_t at, uint64_t n) {
    const struct cf__cache_file *f = &s->cache.files[file];
    for (uint64_t b = at / CF__BLOCK; n && b <= (at + n - 1) / CF__BLOCK; b++)
        if (cf__cache_block_bytes(&s->cache, file, b)) s->needed[f->first + b] = true;
}

static int need_part(void *ctx, const struct cf_gguf_part *part, struct cf_error *e) {
    (void)e;
    need(ctx, part->t->file, part->t->offset + part->offset, part->n);
    return 0;
}

static int need_slices(struct cf_ship *s, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g,
    int rank, struct cf_error *e) {
    struct cf_weights w = {0};
    int rc = cf_weights_measure(&w, p, m, g, rank, e);
    if (!rc) rc = cf_weights_parts(&w, m, g, need_part, s, e);
    cf_weights_free(&w);
    return rc;
}

/* Tensors that opening a model reads; they are small. */
static int need_at_open(struct cf_ship *s, struct cf_error *e) {
    struct cf_gguf *g = NULL;
    if (cf_gguf_open(&g, s->path, e)) return -1;
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(g, i);
        if (cf_model_reads_at_open(t->name)) need(s, t->file, t->offset, t->bytes);
    }
    cf_gguf_close(g);
    return 0;
}

/* ---- outside ---- */

static int ship_headers(struct cf_ship *s, struct cf_error *e) {
    bool fetches = s->fetcher == s->rank;
    for (uint32_t i = 0; i < s->model->n_files && fetches; i++)
        need(s, i, 0, s->model->files[i]->header);
    if (cf__ship_round(s, e)) return -1;
    if (fetches && need_at_open(s, e)) return -1;
    return cf__ship_round(s, e);
}

static int open_ship(struct cf_ship *s, struct cf_error *e) {
    s->path = strdup(s->o.model);
    s->lacks = calloc((size_t)s->size, sizeof *s->lacks);
    if (s->rank == 0) s->customers = calloc((size_t)s->size, sizeof *s->customers);
    if (!s->path || !s->lacks || (s->rank == 0 && !s->customers)) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    s->missing_words = s->size - 1;
    if (meet(s, e)) return -1;
    if (!s->n_lacking) return 0;
    return appoint(s, e) || ship_headers(s, e) ? -1 : 0;
}

int cf_ship_open(struct cf_ship **out, const struct cf_ship_options *o, struct cf_error *e) {
    struct cf_ship *s = *out = calloc(1, sizeof *s);
    if (!s) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    s->o = *o;
    s->rank = cf_transport_rank(o->transport), s->size = cf_transport_size(o->transport);
    s->fetcher = -1, s->cache.map = -1;
    cf_transport_on_message(o->transport, cf__ship_on_message, s);
    int rc = open_ship(s, e);
    cf_transport_on_message(o->transport, NULL, NULL);
    return rc;
}

int cf_ship_slices(
    struct cf_ship *s, const struct cf_plan *p, const struct cf_model *m, const struct cf_gguf *g, struct cf_error *e) {
    if (!s->n_lacking) return 0;
    cf_transport_on_message(s->o.transport, cf__ship_on_message, s);
    if (s->fetcher == s->rank) {
        memset(s->needed, 0, s->cache.n_blocks * sizeof *s->needed);
        for (int r = 0; r < s->size; r++)
            if (s->lacks[r] && fetcher_of(s, r) == s->rank && need_slices(s, p, m, g, r, e)) return -1;
    }
    return cf__ship_round(s, e);
}

const char *cf_ship_path(const struct cf_ship *s) {
    return s->path;
}

struct cf_ship_count cf_ship_counts(const struct cf_ship *s, int rank) {
    return s->customers ? s->customers[rank].count : (struct cf_ship_count){0};
}

/* A buffer that MPI still reads, after a failure, stays until the process ends. */
static void free_customers(struct cf_ship *s) {
    for (int r = 0; r < s->size && s->customers; r++)
        for (int i = 0; i < CF__SEND_BUFFERS; i++)
            if (!s->customers[r].pending[i]) free(s->customers[r].buffer[i]);
    free(s->customers);
}

void cf_ship_close(struct cf_ship *s) {
    if (!s) return;
    free_customers(s);
    cf__cache_close(&s->cache);
    cf_gguf_close(s->gguf);
    if (s->model) cf__ship_model__free_unpacked(s->model, NULL);
    free(s->needed);
    free(s->known);
    free(s->missing);
    free(s->lacks);
    free(s->path);
    free(s);
}
