/* The reader's memory: vocabularies hold 256,000 strings, which live and die together. */
#include <stdlib.h>

#include "node/gguf/internal.h"

enum { CHUNK = 1 << 16 };

struct cf__pool_chunk {
    struct cf__pool_chunk *next;
    size_t size, used;
    _Alignas(16) unsigned char bytes[];
};

void *cf__pool_alloc(struct cf__pool *p, size_t n, size_t align) {
    struct cf__pool_chunk *c = p->chunks;
    size_t from = c ? (c->used + align - 1) & ~(align - 1) : 0;
    if (!c || from > c->size || n > c->size - from) {
        size_t size = n > CHUNK ? n : CHUNK;
        if (size > SIZE_MAX - sizeof *c) return NULL;
        c = malloc(sizeof *c + size);
        if (!c) return NULL;
        *c = (struct cf__pool_chunk){.next = p->chunks, .size = size};
        p->chunks = c;
        from = 0;
    }
    c->used = from + n;
    return c->bytes + from;
}

void cf__pool_free(struct cf__pool *p) {
    while (p->chunks) {
        struct cf__pool_chunk *next = p->chunks->next;
        free(p->chunks);
        p->chunks = next;
    }
}
