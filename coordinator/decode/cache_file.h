/* The form of a prompt cache on disk. Little-endian; all of it is bounded before it is used, and what is outside the
 * pages carries a hash of its own:
 *
 *     offset 0        struct cf_cache_head, 128 bytes
 *            128      XXH64 of each page [n_pages], 8 bytes each
 *                     token ids [n_tokens], 4 bytes each
 *            ...      zeros up to a multiple of 4096
 *            data     pages [n_pages][page_bytes], in the canonical form of cf_engine_kv_export()
 *
 * What this file does not do: read or write files.
 */
#ifndef COFFER_COORDINATOR_DECODE_CACHE_FILE_H
#define COFFER_COORDINATOR_DECODE_CACHE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

enum { CF_CACHE_HEAD = 128, CF_CACHE_ALIGN = 4096, CF_CACHE_VERSION = 1, CF_CACHE_MOST_TOKENS = 1 << 24 };

/* Which model and cache the content belongs to; equal or useless. */
struct cf_cache_identity {
    uint64_t model_bytes, model_hash; /* as ranks compare them in their hello */
    uint64_t weights_hash; /* of a sample of every tensor and of the rotation: tells a model from another training */
    uint32_t n_layers, n_head_kv, d_k, d_v;
    uint32_t kv_type;
    uint32_t page; /* positions of a page */
};

struct cf_cache_head {
    struct cf_cache_identity of;
    uint32_t n_tokens, n_pages;
    uint64_t page_bytes;
    uint64_t head_bytes, data; /* hashes and tokens end, pages begin: offsets in the file */
};

/* Fills n_pages, head_bytes and data from the rest. */
void cf_cache_measure(struct cf_cache_head *h);

/* The first CF_CACHE_HEAD bytes of a file of file_bytes: -1 says what is wrong with it (the text begins in the middle:
 * "is not a prompt cache"). */
int cf_cache_read_head(struct cf_cache_head *h, const unsigned char *in, uint64_t file_bytes, struct cf_error *e);
/* The first h->head_bytes of the file: checks their hash, and gives the tables within them. */
int cf_cache_read_tables(
    const struct cf_cache_head *h, const unsigned char *in, uint64_t *page_hash, uint32_t *tokens, struct cf_error *e);
/* out[h->data]: everything in front of the pages. */
void cf_cache_write(
    const struct cf_cache_head *h, const uint64_t *page_hash, const uint32_t *tokens, unsigned char *out);

#endif
