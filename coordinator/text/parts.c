/* See parts.h. The parts are cut at special tokens one by one (special.c); pieces of text that then touch each other
 * are encoded as one. */
#include "coordinator/text/parts.h"

#include "coordinator/text/vocab.h"

#include <stdlib.h>

struct walk {
    const struct cf_tokenizer *t;
    const char *text;
    size_t start, length; /* the piece of text that is still growing */
    bool after_special;
    struct cf__ids out;
};

static int end_text(struct walk *w, struct cf_error *e) {
    if (!w->length) return 0;
    int rc = w->t->kind->encode(w->t, w->text + w->start, w->length, w->after_special, &w->out, e);
    w->length = 0;
    w->after_special = false;
    return rc;
}

static bool is_in(const uint32_t *ids, size_t n, uint32_t id) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

static int add_fragment(
    struct walk *w, const struct cf__fragment *f, const uint32_t *guarded, size_t n, struct cf_error *e) {
    if (f->id == CF__NO_TOKEN || is_in(guarded, n, f->id)) {
        if (!w->length) w->start = f->start;
        w->length = f->start + f->length - w->start; /* with the white space that a guarded token would take with it */
        return 0;
    }
    if (end_text(w, e) || cf__ids_push(&w->out, f->id, e)) return -1;
    w->after_special = true;
    return 0;
}

static int add_part(
    struct walk *w, const struct cf_text_part *p, const uint32_t *guarded, size_t n_guarded, struct cf_error *e) {
    struct cf__fragment *fragments = NULL;
    size_t n = 0;
    if (!p->length) return 0;
    if (cf__special_split(w->t, w->text + p->start, p->length, p->special, &fragments, &n, e)) return -1;
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++) {
        fragments[i].start += p->start;
        rc = add_fragment(w, &fragments[i], guarded, p->special ? 0 : n_guarded, e);
    }
    free(fragments);
    return rc;
}

int cf_tokenize_parts(const struct cf_tokenizer *t, const char *text, const struct cf_text_part *parts, size_t n,
    const uint32_t *guarded, size_t n_guarded, uint32_t **ids, size_t *n_ids, struct cf_error *e) {
    struct walk w = {.t = t, .text = text, .after_special = true};
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        rc = add_part(&w, &parts[i], guarded, n_guarded, e);
    if (!rc) rc = end_text(&w, e);
    if (rc) {
        free(w.out.ids);
        return -1;
    }
    *ids = w.out.ids;
    *n_ids = w.out.n;
    return 0;
}
