/* Fuzz target: the head and tables of a prompt cache file, as prompt_cache.c reads them. What is accepted can be
 * written again, and gives the same bytes. Seeds: corpus/prompt_cache, by make_prompt_cache.py. */
#include "coordinator/decode/cache_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char first[CF_CACHE_HEAD] = {0};
    struct cf_cache_head h;
    struct cf_error e;
    memcpy(first, data, size < sizeof first ? size : sizeof first);
    if (cf_cache_read_head(&h, first, size, &e)) return 0;
    if (h.data > size || h.head_bytes > h.data) abort();
    uint64_t *hash = malloc(8ull * h.n_pages + 1);
    uint32_t *tokens = malloc(4ull * h.n_tokens + 1);
    unsigned char *again = malloc(h.data);
    if (hash && tokens && again && !cf_cache_read_tables(&h, data, hash, tokens, &e)) {
        cf_cache_write(&h, hash, tokens, again);
        struct cf_cache_head same;
        if (cf_cache_read_head(&same, again, size, &e) || memcmp(&same, &h, sizeof h)) abort();
        if (cf_cache_read_tables(&same, again, hash, tokens, &e)) abort();
    }
    free(hash);
    free(tokens);
    free(again);
    return 0;
}
