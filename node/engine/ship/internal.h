/* Private to --ship: the cache of a host (cache.c), the ship of a rank, and a round (round.c). */
#ifndef COFFER_NODE_ENGINE_SHIP_INTERNAL_H
#define COFFER_NODE_ENGINE_SHIP_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/engine/ship/ship.h"
#include "node/gguf/gguf.h"

enum {
    CF__BLOCK = CF_PIECE, /* bytes: one piece of a message */
    CF__MOST_ASKED = 8,   /* blocks that a rank has asked for and not yet got */
    CF__SEND_BUFFERS = 2, /* of rank 0 for each rank that fetches */
};

/* ---- the cache: files, and the map of their blocks ---- */

struct cf__cache_file {
    char *path;
    int fd; /* -1: not open */
    uint64_t bytes;
    size_t first; /* its first block, counted through all files */
};

struct cf__cache {
    char *folder;
    struct cf__cache_file *files;
    uint32_t n_files;
    size_t n_blocks;
    int map;        /* -1: not open */
    uint64_t *hash; /* [n_blocks], 0: not there */
};

/* Names, from what rank 0 says about its model. Touches no file. */
int cf__cache_name(struct cf__cache *c, const Cf__ShipModel *m, const char *folder, struct cf_error *e);
/* Opens the files for filling, makes them if need be. */
int cf__cache_open(struct cf__cache *c, struct cf_error *e);
/* Nobody else fills it: true if it could be locked now. The lock goes with cf__cache_unlock or with the process. */
bool cf__cache_lock(struct cf__cache *c);
void cf__cache_unlock(struct cf__cache *c);
/* Reads the map, under the lock; one of another kind or length is begun anew, and then no block is there. */
int cf__cache_read_map(struct cf__cache *c, uint64_t key, struct cf_error *e);
size_t cf__cache_block_bytes(const struct cf__cache *c, uint32_t file, uint64_t block); /* 0: there is none */
/* 1: it is there; 0: it is not; -1: it is, but its bytes are not what the map says. buf: [CF__BLOCK]. */
int cf__cache_look(const struct cf__cache *c, uint32_t file, uint64_t block, void *buf);
int cf__cache_put(
    struct cf__cache *c, uint32_t file, uint64_t block, const void *data, uint64_t hash, struct cf_error *e);
/* -1, naming folder and figures, if so many bytes more do not fit. */
int cf__cache_room(const struct cf__cache *c, uint64_t bytes, struct cf_error *e);
void cf__cache_close(struct cf__cache *c);
uint64_t cf__block_hash(const void *data, size_t n); /* never 0 */

/* ---- the ship ---- */

enum { CF__HAS, CF__LACKS, CF__MISSING, CF__SEND, CF__DONE }; /* ShipWord.kind */

struct cf__wanted {
    uint32_t file;
    uint64_t block;
};

/* Rank 0: a rank that fetches. */
struct cf__customer {
    bool fetches; /* for its host */
    bool open;    /* has not said that it is done */
    struct cf__wanted queue[CF__MOST_ASKED];
    int first, n;
    char *buffer[CF__SEND_BUFFERS]; /* [CF__BLOCK] */
    int pending[CF__SEND_BUFFERS];  /* MPI is still reading it */
    struct cf_ship_count count;
};

struct cf_ship {
    struct cf_ship_options o;
    int rank, size;
    char *path;
    bool *lacks; /* [size] */
    int n_lacking, missing_words;
    int fetcher; /* of our host, -1: it has the file */
    struct cf__cache cache;
    Cf__ShipModel *model; /* what rank 0 said */
    /* a round */
    bool in_round, over;
    bool *needed;    /* [n_blocks] */
    bool *known;     /* [n_blocks] there and right: looked at, or fetched, by this run */
    size_t *missing; /* [n_missing] blocks, counted through all files */
    size_t n_missing, asked, got;
    struct cf_error error; /* of what happens in callbacks */
    bool failed;
    /* rank 0 */
    struct cf_gguf *gguf;
    struct cf__customer *customers; /* [size] */
    uint64_t sent, to_send;         /* bytes, in this round */
};

/* round.c */
int cf__ship_on_message(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e);
/* All ranks: s->needed is marked on those that fetch; afterwards those blocks are there. */
int cf__ship_round(struct cf_ship *s, struct cf_error *e);
int cf__ship_say(struct cf_ship *s, const Cf__ShipWord *word, struct cf_error *e);

#endif
