/* See stop.h. Every string is followed with the automaton of Knuth, Morris and Pratt (1977): `at` is how much of it the
 * text ends with now. What is held back is the beginning of the string of which there is most, so there is no buffer of
 * it.
 */
#include "coordinator/sample/stop.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 512 };

struct string {
    char *text;
    uint32_t length, at;
    uint32_t *back; /* [length + 1]: how much of the string its first i bytes end with, not counting all of them */
};

struct cf_stop {
    struct string *strings; /* [n] */
    size_t n, held;         /* held: the string whose beginning is held back */
    const char *met;
};

static int prepare(struct string *k, const char *text, struct cf_error *e) {
    if (!*text) return cf_fail(e, CF_ERR_USAGE, "a stop string is empty");
    k->length = (uint32_t)strlen(text);
    k->text = strdup(text);
    k->back = calloc((size_t)k->length + 1, sizeof *k->back);
    if (!k->text || !k->back) return cf_fail(e, CF_ERR_MEMORY, "no memory for stop strings");
    for (uint32_t i = 1, at = 0; i < k->length; i++) {
        while (at && text[i] != text[at])
            at = k->back[at];
        at += text[i] == text[at];
        k->back[i + 1] = at;
    }
    return 0;
}

int cf_stop_new(struct cf_stop **out, const char *const *strings, size_t n, struct cf_error *e) {
    struct cf_stop *s = calloc(1, sizeof *s);
    int rc = 0;
    *out = NULL;
    if (s) s->n = n, s->strings = calloc(n + 1, sizeof *s->strings);
    if (!s || !s->strings) rc = cf_fail(e, CF_ERR_MEMORY, "no memory for stop strings");
    for (size_t i = 0; !rc && i < n; i++)
        rc = prepare(&s->strings[i], strings[i], e);
    if (rc)
        cf_stop_free(s);
    else
        *out = s;
    return rc;
}

void cf_stop_free(struct cf_stop *s) {
    if (!s) return;
    for (size_t i = 0; s->strings && i < s->n; i++)
        free(s->strings[i].text), free(s->strings[i].back);
    free(s->strings);
    free(s);
}

void cf_stop_reset(struct cf_stop *s) {
    for (size_t i = 0; i < s->n; i++)
        s->strings[i].at = 0;
    s->held = 0;
    s->met = NULL;
}

/* The byte moves every string on; the one with most of itself is held back from now on. */
static void follow(struct cf_stop *s, char byte) {
    s->held = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct string *k = &s->strings[i];
        while (k->at && k->text[k->at] != byte)
            k->at = k->back[k->at];
        k->at += k->text[k->at] == byte;
        if (k->at == k->length && (!s->met || k->length > strlen(s->met))) s->met = k->text;
        if (k->at > s->strings[s->held].at) s->held = i;
    }
}

/* Pieces of text on their way out. */
struct out {
    char bytes[PIECE];
    size_t n;
    cf_text_sink *to;
    void *ctx;
};

static int put(struct out *o, const char *bytes, size_t n, struct cf_error *e) {
    while (n) {
        size_t part = n < PIECE - o->n ? n : PIECE - o->n;
        memcpy(o->bytes + o->n, bytes, part);
        o->n += part, bytes += part, n -= part;
        if (o->n < PIECE) break;
        if (o->to(o->ctx, o->bytes, o->n, e)) return -1;
        o->n = 0;
    }
    return 0;
}

int cf_stop_push(struct cf_stop *s, const char *bytes, size_t n, cf_text_sink *to, void *ctx, struct cf_error *e) {
    struct out o = {.to = to, .ctx = ctx};
    for (size_t i = 0; i < n && !s->met; i++) {
        const struct string *before = &s->strings[s->held];
        uint32_t had = s->n ? before->at : 0;
        follow(s, bytes[i]);
        uint32_t has = s->n ? s->strings[s->held].at : 0;
        if (s->met) has = (uint32_t)strlen(s->met);
        uint32_t free_now = had + 1 - has; /* of what was held, then the byte */
        if (put(&o, had ? before->text : "", free_now < had ? free_now : had, e)) return -1;
        if (free_now > had && put(&o, bytes + i, 1, e)) return -1;
    }
    return o.n ? to(ctx, o.bytes, o.n, e) : 0;
}

int cf_stop_flush(struct cf_stop *s, cf_text_sink *to, void *ctx, struct cf_error *e) {
    if (s->met || !s->n || !s->strings[s->held].at) return 0;
    const struct string *k = &s->strings[s->held];
    int rc = to(ctx, k->text, k->at, e);
    cf_stop_reset(s);
    return rc;
}

const char *cf_stop_met(const struct cf_stop *s) {
    return s->met;
}
