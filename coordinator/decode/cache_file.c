/* See cache_file.h. The head: magic, version, the fields in order, zeros, and the XXH64 of all that follows it up to
 * head_bytes together with itself up to there. */
#include "coordinator/decode/cache_file.h"

#include <stdbool.h>
#include <string.h>

#include <xxhash.h>

static const unsigned char magic[8] = {'C', 'o', 'f', 'f', 'e', 'r', 'K', 'V'};
enum { AT_VERSION = 8, AT_FIELDS = 16, AT_HASH = CF_CACHE_HEAD - 8 };

/* Walks over the head's fields in one order for reading and writing. */
struct walk {
    unsigned char *at;
    bool write;
};

static void number(struct walk *w, void *value, size_t bytes) {
    uint64_t v = 0;
    uint32_t v32;
    if (w->write && bytes == 8)
        memcpy(&v, value, 8);
    else if (w->write)
        memcpy(&v32, value, 4), v = v32;
    for (size_t i = 0; i < bytes; i++)
        if (w->write)
            w->at[i] = (unsigned char)(v >> 8 * i);
        else
            v |= (uint64_t)w->at[i] << 8 * i;
    v32 = (uint32_t)v;
    if (!w->write) memcpy(value, bytes == 8 ? (void *)&v : (void *)&v32, bytes);
    w->at += bytes;
}

static void fields(struct walk *w, struct cf_cache_head *h) {
    struct cf_cache_identity *of = &h->of;
    void *const wide[] = {&of->model_bytes, &of->model_hash, &of->weights_hash, &h->page_bytes};
    void *const narrow[] = {
        &of->n_layers, &of->n_head_kv, &of->d_k, &of->d_v, &of->kv_type, &of->page, &h->n_tokens, &h->n_pages};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        number(w, wide[i], 8);
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        number(w, narrow[i], 4);
}

void cf_cache_measure(struct cf_cache_head *h) {
    h->n_pages = (h->n_tokens + h->of.page - 1) / h->of.page;
    h->head_bytes = CF_CACHE_HEAD + 8ull * h->n_pages + 4ull * h->n_tokens;
    h->data = (h->head_bytes + CF_CACHE_ALIGN - 1) / CF_CACHE_ALIGN * CF_CACHE_ALIGN;
}

int cf_cache_read_head(struct cf_cache_head *h, const unsigned char *in, uint64_t file_bytes, struct cf_error *e) {
    unsigned char head[CF_CACHE_HEAD];
    if (file_bytes < sizeof head || memcmp(in, magic, sizeof magic))
        return cf_fail(e, CF_ERR_FORMAT, "is not a prompt cache of coffer");
    memcpy(head, in, sizeof head);
    uint32_t version, n_pages;
    number(&(struct walk){head + AT_VERSION, false}, &version, 4);
    if (version != CF_CACHE_VERSION)
        return cf_fail(
            e, CF_ERR_FORMAT, "is a prompt cache of version %u, this program reads %d", version, CF_CACHE_VERSION);
    memset(h, 0, sizeof *h);
    fields(&(struct walk){head + AT_FIELDS, false}, h);
    n_pages = h->n_pages;
    if (!h->of.page || h->of.page > 1 << 16 || h->n_tokens > CF_CACHE_MOST_TOKENS || h->page_bytes > (uint64_t)1 << 36)
        return cf_fail(e, CF_ERR_FORMAT, "is damaged: %u tokens in pages of %u, %llu bytes each", h->n_tokens,
            h->of.page, (unsigned long long)h->page_bytes);
    cf_cache_measure(h);
    if (n_pages != h->n_pages)
        return cf_fail(e, CF_ERR_FORMAT, "is damaged: %u pages for %u tokens", n_pages, h->n_tokens);
    uint64_t want = h->data + h->n_pages * h->page_bytes;
    if (file_bytes != want)
        return cf_fail(e, CF_ERR_FORMAT, "has %llu bytes instead of %llu (truncated?)", (unsigned long long)file_bytes,
            (unsigned long long)want);
    return 0;
}

/* Of everything in front of the pages but the hash itself. */
static uint64_t hash_of(const struct cf_cache_head *h, const unsigned char *in) {
    return XXH64(in + CF_CACHE_HEAD, h->head_bytes - CF_CACHE_HEAD, XXH64(in, AT_HASH, 0));
}

int cf_cache_read_tables(
    const struct cf_cache_head *h, const unsigned char *in, uint64_t *page_hash, uint32_t *tokens, struct cf_error *e) {
    union {
        const unsigned char *in;
        unsigned char *out;
    } u = {.in = in};
    uint64_t hash;
    number(&(struct walk){u.out + AT_HASH, false}, &hash, 8);
    if (hash != hash_of(h, in)) return cf_fail(e, CF_ERR_FORMAT, "is damaged: its head does not match its checksum");
    struct walk w = {u.out + CF_CACHE_HEAD, false};
    for (uint32_t i = 0; i < h->n_pages; i++)
        number(&w, &page_hash[i], 8);
    for (uint32_t i = 0; i < h->n_tokens; i++)
        number(&w, &tokens[i], 4);
    return 0;
}

void cf_cache_write(
    const struct cf_cache_head *h, const uint64_t *page_hash, const uint32_t *tokens, unsigned char *out) {
    struct cf_cache_head copy = *h;
    uint32_t version = CF_CACHE_VERSION;
    memset(out, 0, h->data);
    memcpy(out, magic, sizeof magic);
    number(&(struct walk){out + AT_VERSION, true}, &version, 4);
    fields(&(struct walk){out + AT_FIELDS, true}, &copy);
    struct walk w = {out + CF_CACHE_HEAD, true};
    for (uint32_t i = 0; i < h->n_pages; i++) {
        uint64_t hash = page_hash[i];
        number(&w, &hash, 8);
    }
    for (uint32_t i = 0; i < h->n_tokens; i++) {
        uint32_t token = tokens[i];
        number(&w, &token, 4);
    }
    uint64_t hash = hash_of(h, out);
    number(&(struct walk){out + AT_HASH, true}, &hash, 8);
}
