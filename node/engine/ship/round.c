/* One round of --ship. A rank that fetches looks for what it needs in its cache, says how much is missing, asks for
 * block after block, and says that it is done; rank 0 serves all of them at once, and then tells everybody that the
 * round is over. The others wait for that word, with signs of life. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "node/engine/ship/internal.h"

enum { LOOK_AT_ONCE = 16 }; /* blocks hashed between two turns of the transport */

int cf__ship_say(struct cf_ship *s, const Cf__ShipWord *word, struct cf_error *e) {
    Cf__ShipWord copy = *word;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_SHIP_WORD, env.ship_word = &copy;
    return cf_post(s->o.transport, 0, &env, NULL, 0, NULL, e);
}

/* In a callback there is nobody to return an error to. */
static void keep_error(struct cf_ship *s, int rc) {
    if (rc) s->failed = true;
}

/* ---- rank 0 ---- */

static int take_word(struct cf_ship *s, int from, const Cf__ShipWord *w, struct cf_error *e) {
    struct cf__customer *k = &s->customers[from];
    if (w->kind == CF__HAS || w->kind == CF__LACKS) {
        s->lacks[from] = w->kind == CF__LACKS;
        s->n_lacking += w->kind == CF__LACKS;
        s->missing_words--;
        return 0;
    }
    if (!s->in_round) return 1; /* a faster rank is ahead of us */
    if (w->kind == CF__MISSING) {
        s->to_send += w->missing;
        k->count.there += w->there, k->count.damaged += w->damaged;
        return 0;
    }
    if (w->kind == CF__DONE) {
        k->open = false;
        return 0;
    }
    if (w->kind != CF__SEND || k->n == CF__MOST_ASKED || !cf__cache_block_bytes(&s->cache, w->file, w->block))
        return cf_fail(e, CF_ERR_FORMAT, "asks for block %" PRIu64 " of file %u, which cannot be", w->block, w->file);
    k->queue[(k->first + k->n++) % CF__MOST_ASKED] = (struct cf__wanted){w->file, w->block};
    return 0;
}

static int send_block(struct cf_ship *s, int to, int buffer) {
    struct cf__customer *k = &s->customers[to];
    struct cf__wanted w = k->queue[k->first];
    size_t n = cf__cache_block_bytes(&s->cache, w.file, w.block);
    if (!k->buffer[buffer]) k->buffer[buffer] = malloc(CF__BLOCK);
    if (!k->buffer[buffer]) return cf_fail(&s->error, CF_ERR_MEMORY, "out of memory");
    if (cf_gguf_read_file(s->gguf, w.file, w.block * CF__BLOCK, k->buffer[buffer], n, &s->error)) return -1;
    Cf__ShipBlock block = CF__SHIP_BLOCK__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_SHIP_BLOCK, env.ship_block = &block;
    block.file = w.file, block.block = w.block, block.hash = cf__block_hash(k->buffer[buffer], n);
    if (cf_post(s->o.transport, to, &env, k->buffer[buffer], n, &k->pending[buffer], &s->error)) return -1;
    k->first = (k->first + 1) % CF__MOST_ASKED, k->n--;
    k->count.sent += n, s->sent += n;
    return 0;
}

/* Sends what is asked for and has a buffer; true when nobody wants anything any more. */
static bool served(void *ctx) {
    struct cf_ship *s = ctx;
    bool open = false;
    uint64_t before = s->sent;
    for (int r = 0; r < s->size && !s->failed; r++) {
        struct cf__customer *k = &s->customers[r];
        for (int i = 0; i < CF__SEND_BUFFERS && !s->failed; i++)
            if (k->n && !k->pending[i]) keep_error(s, send_block(s, r, i));
        open = open || k->open || k->pending[0] || k->pending[1];
    }
    if (s->sent != before && s->o.progress) s->o.progress(s->o.ctx, s->sent, s->to_send);
    return !open || s->failed;
}

static int serve(struct cf_ship *s, struct cf_error *e) {
    if (cf_wait(s->o.transport, served, s, NULL, e)) return -1;
    if (s->failed) return *e = s->error, -1;
    if (s->to_send && s->o.progress) s->o.progress(s->o.ctx, 1, 1);
    Cf__ShipOver over = CF__SHIP_OVER__INIT;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_SHIP_OVER, env.ship_over = &over;
    for (int r = 1; r < s->size; r++)
        if (cf_post(s->o.transport, r, &env, NULL, 0, NULL, e)) return -1;
    return 0;
}

/* ---- a rank that fetches ---- */

static struct cf__wanted place_of(const struct cf__cache *c, size_t block) {
    uint32_t file = 0;
    while (file + 1 < c->n_files && c->files[file + 1].first <= block)
        file++;
    return (struct cf__wanted){file, block - c->files[file].first};
}

static bool may_fill(void *ctx) {
    return cf__cache_lock(&((struct cf_ship *)ctx)->cache);
}

/* Fills s->missing and the word about it. */
static int look_into_cache(struct cf_ship *s, Cf__ShipWord *word, struct cf_error *e) {
    struct cf__cache *c = &s->cache;
    char *buf = malloc(CF__BLOCK);
    s->missing = malloc((c->n_blocks + 1) * sizeof *s->missing);
    int rc = buf && s->missing ? cf__cache_read_map(c, s->model->key, e) : cf_fail(e, CF_ERR_MEMORY, "out of memory");
    s->n_missing = s->asked = s->got = 0;
    for (size_t i = 0, looked = 0; i < c->n_blocks && !rc; i++) {
        if (!s->needed[i] || s->known[i]) continue;
        struct cf__wanted w = place_of(c, i);
        int there = cf__cache_look(c, w.file, w.block, buf);
        uint64_t n = cf__cache_block_bytes(c, w.file, w.block);
        if (there == 1) word->there += n, s->known[i] = true;
        if (there == -1) word->damaged += n;
        if (there != 1) word->missing += n, s->missing[s->n_missing++] = i;
        if (++looked % LOOK_AT_ONCE == 0 && cf_progress(s->o.transport, e) < 0) rc = -1;
    }
    free(buf);
    return rc ? rc : cf__cache_room(c, word->missing, e);
}

static int take_block(struct cf_ship *s, const Cf__ShipBlock *b, const void *data, size_t n, struct cf_error *e) {
    if (!s->in_round || s->got >= s->asked || !n || n != cf__cache_block_bytes(&s->cache, b->file, b->block))
        return cf_fail(e, CF_ERR_FORMAT, "rank 0 sent %zu bytes as block %" PRIu64 " of file %u", n, b->block, b->file);
    if (cf__block_hash(data, n) != b->hash)
        return cf_fail(
            e, CF_ERR_FORMAT, "block %" PRIu64 " of %s was damaged on its way", b->block, s->cache.files[b->file].path);
    s->got++;
    s->known[s->cache.files[b->file].first + b->block] = true;
    if (!s->failed) keep_error(s, cf__cache_put(&s->cache, b->file, b->block, data, b->hash, &s->error));
    return 0;
}

/* Asks for more; true when all that is missing has come. */
static bool fetched(void *ctx) {
    struct cf_ship *s = ctx;
    while (!s->failed && s->asked < s->n_missing && s->asked - s->got < CF__MOST_ASKED) {
        struct cf__wanted w = place_of(&s->cache, s->missing[s->asked++]);
        Cf__ShipWord word = CF__SHIP_WORD__INIT;
        word.kind = CF__SEND, word.file = w.file, word.block = w.block;
        keep_error(s, cf__ship_say(s, &word, &s->error));
    }
    return s->failed || s->got == s->n_missing;
}

static int fetch(struct cf_ship *s, struct cf_error *e) {
    Cf__ShipWord word = CF__SHIP_WORD__INIT;
    word.kind = CF__MISSING;
    if (cf_wait(s->o.transport, may_fill, s, NULL, e)) return -1;
    if (look_into_cache(s, &word, e) || cf__ship_say(s, &word, e)) return -1;
    if (cf_wait(s->o.transport, fetched, s, NULL, e)) return -1;
    if (s->failed) return *e = s->error, -1;
    cf__cache_unlock(&s->cache);
    word = (Cf__ShipWord)CF__SHIP_WORD__INIT;
    word.kind = CF__DONE;
    return cf__ship_say(s, &word, e);
}

static bool is_over(void *ctx) {
    return ((const struct cf_ship *)ctx)->over;
}

/* ---- all ---- */

int cf__ship_on_message(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    struct cf_ship *s = ctx;
    (void)offset; /* a block is one piece */
    switch (env->body_case) {
    case CF__ENVELOPE__BODY_SHIP_WORD: return s->rank ? 1 : take_word(s, from, env->ship_word, e);
    case CF__ENVELOPE__BODY_SHIP_BLOCK: return from ? 1 : take_block(s, env->ship_block, data, n, e);
    case CF__ENVELOPE__BODY_SHIP_OVER:
        if (!s->in_round || s->over) return 1; /* of a round that has not begun here */
        s->over = true;
        return 0;
    case CF__ENVELOPE__BODY_SHIP_MODEL:
        s->model = cf_transport_copy(&env->ship_model->base, e);
        return s->model ? 0 : -1;
    default: return 1;
    }
}

int cf__ship_round(struct cf_ship *s, struct cf_error *e) {
    s->failed = s->over = false;
    s->sent = s->to_send = 0;
    for (int r = 0; r < s->size && s->customers; r++)
        s->customers[r].open = s->customers[r].fetches;
    s->in_round = true;
    int rc = s->rank == 0 ? serve(s, e) : s->fetcher == s->rank ? fetch(s, e) : 0;
    if (!rc && s->rank) rc = cf_wait(s->o.transport, is_over, s, NULL, e);
    s->in_round = false;
    free(s->missing);
    s->missing = NULL;
    return rc;
}
