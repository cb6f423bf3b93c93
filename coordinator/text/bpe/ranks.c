/* See ranks.h. Two hash tables with open addressing: pairs of symbols, and texts that are no tokens. */
#include "coordinator/text/bpe/ranks.h"

#include <stdlib.h>
#include <string.h>

struct merge {
    uint32_t left, right; /* symbols; left is CF__NO_TOKEN in a free place */
    uint32_t rank, whole;
};

struct extra {
    uint32_t hash, length;
    size_t start; /* in texts */
};

struct cf__ranks {
    const struct cf_tokenizer *t;
    struct merge *merges; /* [mask + 1], by hash of left and right */
    uint32_t mask;
    struct extra *extras; /* [n_extras] */
    uint32_t n_extras, extras_room;
    char *texts; /* of the extras, one behind the other */
    size_t n_texts, texts_room;
    uint32_t *index; /* [index_mask + 1] places in extras by hash of the text; NULL before the first extra */
    uint32_t index_mask;
};

/* --- Texts that are no tokens ------------------------------------------------------------------------------------ */

static uint32_t hash_of(const char *text, size_t length) {
    uint64_t h = CF__VOCAB_HASH;
    for (size_t i = 0; i < length; i++)
        h = cf__vocab_hash_step(h, text[i]);
    return (uint32_t)(h ^ h >> 32);
}

/* The place in the index where the text is or could be. */
static uint32_t *place(const struct cf__ranks *r, const char *text, size_t length, uint32_t hash) {
    for (uint32_t i = hash;; i++) {
        uint32_t *at = &r->index[i & r->index_mask];
        if (*at == CF__NO_TOKEN) return at;
        const struct extra *x = &r->extras[*at];
        if (x->hash == hash && x->length == length && !memcmp(r->texts + x->start, text, length)) return at;
    }
}

uint32_t cf__ranks_symbol(const struct cf__ranks *r, const char *text, size_t length) {
    uint32_t id = cf__vocab_find(r->t, text, length);
    if (id != CF__NO_TOKEN || !r->index) return id;
    uint32_t at = *place(r, text, length, hash_of(text, length));
    return at == CF__NO_TOKEN ? at : r->t->n_tokens + at;
}

static int grow_index(struct cf__ranks *r, struct cf_error *e) {
    if (r->index && r->n_extras < r->index_mask / 2) return 0;
    uint32_t size = r->index ? (r->index_mask + 1) * 2 : 64;
    free(r->index);
    r->index = malloc(size * sizeof *r->index);
    if (!r->index) return cf_fail(e, CF_ERR_MEMORY, "no memory for %u merges", size);
    memset(r->index, 0xff, size * sizeof *r->index);
    r->index_mask = size - 1;
    for (uint32_t i = 0; i < r->n_extras; i++) {
        const struct extra *x = &r->extras[i];
        *place(r, r->texts + x->start, x->length, x->hash) = i;
    }
    return 0;
}

static int grow(void **room, size_t wanted, size_t size, struct cf_error *e) {
    void *bigger = realloc(*room, wanted * size);
    if (!bigger) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu bytes of merges", wanted * size);
    *room = bigger;
    return 0;
}

/* The symbol of the text, a new one if need be. */
static int intern(struct cf__ranks *r, const char *text, size_t length, uint32_t *symbol, struct cf_error *e) {
    *symbol = cf__ranks_symbol(r, text, length);
    if (*symbol != CF__NO_TOKEN) return 0;
    if (r->n_extras == r->extras_room) {
        uint32_t room = r->extras_room ? r->extras_room * 2 : 32;
        if (grow((void **)&r->extras, room, sizeof *r->extras, e)) return -1;
        r->extras_room = room;
    }
    if (r->n_texts + length > r->texts_room) {
        size_t room = (r->n_texts + length) * 2;
        if (grow((void **)&r->texts, room, 1, e)) return -1;
        r->texts_room = room;
    }
    if (grow_index(r, e)) return -1;
    uint32_t hash = hash_of(text, length);
    *place(r, text, length, hash) = r->n_extras;
    r->extras[r->n_extras] = (struct extra){.hash = hash, .length = (uint32_t)length, .start = r->n_texts};
    if (length) memcpy(r->texts + r->n_texts, text, length);
    r->n_texts += length;
    *symbol = r->t->n_tokens + r->n_extras++;
    return 0;
}

/* --- Pairs ------------------------------------------------------------------------------------------------------- */

static struct merge *find(const struct cf__ranks *r, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    for (uint32_t i = (uint32_t)(h >> 32);; i++) {
        struct merge *m = &r->merges[i & r->mask];
        if (m->left == CF__NO_TOKEN || (m->left == left && m->right == right)) return m;
    }
}

bool cf__ranks_find(const struct cf__ranks *r, uint32_t left, uint32_t right, uint32_t *rank, uint32_t *whole) {
    const struct merge *m = find(r, left, right);
    *rank = m->rank;
    *whole = m->whole;
    return m->left != CF__NO_TOKEN;
}

/* "left right"; the space is one at the earliest behind the first byte. Of two equal merges the first counts, and a
 * line without a space is none: some converters have written such lines. */
static int add(struct cf__ranks *r, const struct cf_gguf_string *s, uint32_t rank, struct cf_error *e) {
    const char *space = s->length > 1 ? memchr(s->text + 1, ' ', s->length - 1) : NULL;
    if (!space) return 0;
    size_t n_left = (size_t)(space - s->text), n_right = s->length - n_left - 1;
    uint32_t left, right, whole;
    if (!n_right) return 0;
    if (intern(r, s->text, n_left, &left, e) || intern(r, space + 1, n_right, &right, e)) return -1;
    struct merge *m = find(r, left, right);
    if (m->left != CF__NO_TOKEN) return 0;
    char *joined = malloc(n_left + n_right);
    if (!joined) return cf_fail(e, CF_ERR_MEMORY, "no memory for a merge of %zu bytes", s->length);
    memcpy(joined, s->text, n_left);
    memcpy(joined + n_left, space + 1, n_right);
    int rc = intern(r, joined, n_left + n_right, &whole, e);
    free(joined);
    if (!rc) *m = (struct merge){left, right, rank, whole};
    return rc;
}

static int load(struct cf__ranks *r, const struct cf_gguf *g, struct cf_error *e) {
    const char *key = "tokenizer.ggml.merges";
    const struct cf_gguf_value *v;
    if (cf__vocab_array(g, key, CF_GGUF_STRING, &v, e)) return -1;
    if (!v) return cf_fail(e, CF_ERR_FORMAT, "%s: %s is missing", cf_gguf_path(g), key);
    if (v->count > 1 << 26) return cf_fail(e, CF_ERR_LIMIT, "%s: %s has %zu entries", cf_gguf_path(g), key, v->count);
    uint32_t size = 16;
    while (size < v->count * 2)
        size *= 2;
    r->merges = malloc(size * sizeof *r->merges);
    if (!r->merges) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu merges", v->count);
    memset(r->merges, 0xff, size * sizeof *r->merges);
    r->mask = size - 1;
    const struct cf_gguf_string *texts = v->array;
    for (size_t i = 0; i < v->count; i++)
        if (add(r, &texts[i], (uint32_t)i, e)) return -1;
    return 0;
}

int cf__ranks_new(struct cf__ranks **out, const struct cf_tokenizer *t, const struct cf_gguf *g, struct cf_error *e) {
    struct cf__ranks *r = *out = calloc(1, sizeof *r);
    if (!r) return cf_fail(e, CF_ERR_MEMORY, "no memory for merges");
    r->t = t;
    return load(r, g, e);
}

void cf__ranks_free(struct cf__ranks *r) {
    if (!r) return;
    free(r->merges);
    free(r->extras);
    free(r->texts);
    free(r->index);
    free(r);
}
