/* Prompt caches: the tokens of a prompt and what the KV cache holds of them, in a file, so that a later run with a
 * prompt that begins alike need not compute that part again. Any number of ranks in any layout reads what any other
 * wrote, and what follows is the same, bit for bit, as without.
 *
 * A file is never changed: it is written under another name beside it, flushed, and renamed, so that a full disk or a
 * crash leaves the old one as it was.
 */
#ifndef COFFER_COORDINATOR_DECODE_PROMPT_CACHE_H
#define COFFER_COORDINATOR_DECODE_PROMPT_CACHE_H

#include "coordinator/decode/cache_file.h"
#include "coordinator/decode/job.h"

struct cf_prompt_cache {
    const char *path;
    struct cf_cache_identity of; /* the model and cache at hand */
    int fd;                      /* -1: there is no such file yet */
    struct cf_cache_head head;
    uint64_t *page_hash; /* [head.n_pages] */
    uint32_t *tokens;    /* [head.n_tokens] */
};

/* Before the model is loaded (rank 0): opens the file if there is one, and checks that it belongs to this model and
 * kind of cache. *c must be zeros; close it also after a failure. */
int cf_prompt_cache_open(struct cf_prompt_cache *c, const char *path, const struct cf_job *j, struct cf_error *e);
/* How many of these tokens the file begins with. */
uint32_t cf_prompt_cache_common(const struct cf_prompt_cache *c, const uint32_t *ids, size_t n);
/* The first n positions of the file into sequence 0, with nothing in flight. */
int cf_prompt_cache_load(struct cf_prompt_cache *c, struct cf_job *j, uint32_t n, struct cf_error *e);
/* ids[n], whose positions the cache of sequence 0 holds, with nothing in flight. In place of what the file was. */
int cf_prompt_cache_save(
    struct cf_prompt_cache *c, struct cf_job *j, const uint32_t *ids, uint32_t n, struct cf_error *e);
void cf_prompt_cache_close(struct cf_prompt_cache *c);

#endif
