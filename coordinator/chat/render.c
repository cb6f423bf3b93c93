/* See render.h. */
#include "coordinator/chat/render.h"

#include <stdlib.h>
#include <string.h>

static void *grow(void *list, size_t *room, size_t want, size_t each, struct cf_error *e) {
    if (list && want <= *room) return list;
    size_t more = *room ? *room : 64;
    while (more < want)
        more *= 2;
    void *bigger = realloc(list, more * each);
    if (bigger)
        *room = more;
    else
        cf_fail(e, CF_ERR_MEMORY, "no memory for a conversation of %zu bytes", more * each);
    return bigger;
}

static int add_part(struct cf_chat_text *t, const char *text, size_t n, const struct cf_chat_message *source,
    bool special, struct cf_error *e) {
    size_t room = t->room_parts;
    char *bytes = grow(t->text, &t->room, t->n + n + 1, 1, e);
    if (!bytes) return -1;
    t->text = bytes;
    struct cf_text_part *parts = grow(t->parts, &t->room_parts, t->n_parts + 1, sizeof *parts, e);
    if (!parts) return -1;
    t->parts = parts;
    const struct cf_chat_message **sources = grow(t->sources, &room, t->n_parts + 1, sizeof *sources, e);
    if (!sources) return -1;
    t->sources = sources;
    memcpy(t->text + t->n, text, n);
    t->parts[t->n_parts] = (struct cf_text_part){t->n, n, special};
    t->sources[t->n_parts++] = source;
    t->n += n;
    t->text[t->n] = '\0';
    return 0;
}

static int add_marker(struct cf_chat_text *t, const char *marker, struct cf_error *e) {
    return marker && *marker ? add_part(t, marker, strlen(marker), NULL, true, e) : 0;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int add_content(
    const struct cf_chat_form *form, struct cf_chat_text *t, const struct cf_chat_message *m, struct cf_error *e) {
    const char *text = m->content;
    size_t n = m->length;
    while (form->trim >> m->role & 1 && n && is_space(*text))
        text++, n--;
    while (form->trim >> m->role & 1 && n && is_space(text[n - 1]))
        n--;
    return n ? add_part(t, text, n, n == m->length ? m : NULL, false, e) : 0;
}

/* The system message that waits for a place, if there is one. */
static int add_folded(const struct cf_chat_form *form, struct cf_chat_text *t, const struct cf_chat_message **folded,
    struct cf_error *e) {
    if (!*folded) return 0;
    size_t before = t->n;
    if (add_content(form, t, *folded, e)) return -1;
    *folded = NULL;
    return t->n > before ? add_marker(t, form->fold, e) : 0;
}

static int add_message(const struct cf_chat_form *form, struct cf_chat_text *t, const struct cf_chat_message *m,
    const struct cf_chat_message **folded, bool first, bool *open, struct cf_error *e) {
    if (m->role == CF_CHAT_SYSTEM && form->system == CF_CHAT_SYSTEM_DROP) return 0;
    if (m->role == CF_CHAT_SYSTEM && form->system == CF_CHAT_SYSTEM_FOLD) {
        *folded = m;
        return 0;
    }
    if (form->turn && !*open && add_marker(t, form->turn, e)) return -1;
    *open = m->role != CF_CHAT_ASSISTANT;
    const char *before = form->before[m->role];
    if (add_marker(t, before && first ? before + form->first_skip : before, e)) return -1;
    if (m->role == CF_CHAT_USER && add_folded(form, t, folded, e)) return -1;
    return add_content(form, t, m, e) || add_marker(t, form->after[m->role], e) ? -1 : 0;
}

int cf_chat_render(const struct cf_chat_form *form, const struct cf_chat *c, bool generation, struct cf_chat_text *out,
    struct cf_error *e) {
    const struct cf_chat_message *folded = NULL;
    bool open = form->turn_open;
    *out = (struct cf_chat_text){0};
    if (add_marker(out, form->begin, e)) return -1;
    if (!cf_chat_system(c) && add_marker(out, form->no_system, e)) return -1;
    for (size_t i = 0; i < c->n; i++)
        if (add_message(form, out, &c->messages[i], &folded, i == 0, &open, e)) return -1;
    return generation ? add_marker(out, form->generation, e) : 0;
}

void cf_chat_text_free(struct cf_chat_text *t) {
    free(t->text);
    free(t->parts);
    free(t->sources);
    *t = (struct cf_chat_text){0};
}

struct list {
    uint32_t *ids;
    size_t n, room;
};

static int append(struct list *l, const uint32_t *ids, size_t n, struct cf_error *e) {
    uint32_t *more = grow(l->ids, &l->room, l->n + n + 1, sizeof *more, e);
    if (!more) return -1;
    l->ids = more;
    if (n) memcpy(l->ids + l->n, ids, n * sizeof *ids);
    l->n += n;
    return 0;
}

/* The tokens of the form's markers. Those that are user-defined and not control tokens would match in any text: a
 * marker that somebody types must stay text. White space is no marker. */
static int guard(
    const struct cf_chat_form *form, const struct cf_tokenizer *t, struct list *guarded, struct cf_error *e) {
    const char *const markers[] = {form->begin, form->turn, form->no_system, form->generation, form->before[0],
        form->before[1], form->before[2], form->after[0], form->after[1], form->after[2]};
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        struct cf_text_part all = {0, markers[i] ? strlen(markers[i]) : 0, true};
        uint32_t *ids = NULL;
        size_t n = 0;
        if (cf_tokenize_parts(t, markers[i], &all, 1, NULL, 0, &ids, &n, e)) return -1;
        int rc = 0;
        for (size_t k = 0; !rc && k < n; k++) {
            char name[64];
            size_t length = cf_token_bytes(t, ids[k], true, name, sizeof name);
            bool space = true;
            for (size_t b = 0; b < length && b < sizeof name; b++)
                space = space && is_space(name[b]);
            if (!space) rc = append(guarded, &ids[k], 1, e);
        }
        free(ids);
        if (rc) return -1;
    }
    return 0;
}

static bool begins_with_bos(const struct cf_tokenizer *t, const struct cf_chat_text *text) {
    char name[64];
    int32_t bos = cf_tokenizer_bos(t);
    size_t n = bos < 0 ? 0 : cf_token_bytes(t, (uint32_t)bos, true, name, sizeof name);
    return n && n <= sizeof name && n <= text->n && text->n_parts && text->parts[0].special &&
           !memcmp(text->text, name, n);
}

/* parts[first..end) through the tokenizer. */
static int append_parts(const struct cf_tokenizer *t, const struct cf_chat_text *text, size_t first, size_t end,
    const struct list *guarded, struct list *out, struct cf_error *e) {
    uint32_t *ids = NULL;
    size_t n = 0;
    if (first == end) return 0; /* there may be no text at all */
    if (cf_tokenize_parts(t, text->text, text->parts + first, end - first, guarded->ids, guarded->n, &ids, &n, e))
        return -1;
    int rc = append(out, ids, n, e);
    free(ids);
    return rc;
}

static int append_all(const struct cf_tokenizer *t, const struct cf_chat_text *text, const struct list *guarded,
    struct list *out, struct cf_error *e) {
    size_t from = 0;
    for (size_t i = 0; i < text->n_parts; i++) {
        const struct cf_chat_message *m = text->sources[i];
        if (!m || !m->ids) continue;
        if (append_parts(t, text, from, i, guarded, out, e) || append(out, m->ids, m->n_ids, e)) return -1;
        from = i + 1;
    }
    return append_parts(t, text, from, text->n_parts, guarded, out, e);
}

int cf_chat_tokens(const struct cf_chat_form *form, const struct cf_tokenizer *t, const struct cf_chat_text *text,
    uint32_t **ids, size_t *n, struct cf_error *e) {
    struct list out = {0}, guarded = {0};
    uint32_t bos = (uint32_t)cf_tokenizer_bos(t);
    bool wants = cf_tokenizer_adds_bos(t) && !begins_with_bos(t, text);
    int rc = guard(form, t, &guarded, e);
    if (!rc) rc = append(&out, &bos, wants ? 1 : 0, e);
    if (!rc) rc = append_all(t, text, &guarded, &out, e);
    free(guarded.ids);
    if (rc) {
        free(out.ids);
        return -1;
    }
    *ids = out.ids;
    *n = out.n;
    return 0;
}

int cf_chat_question(const struct cf_chat_form *form, const struct cf_tokenizer *t, const char *system,
    const char *question, size_t length, uint32_t **ids, size_t *n, struct cf_error *e) {
    struct cf_chat c = {0};
    struct cf_chat_text text = {0};
    int rc = system ? cf_chat_set_system(&c, system, strlen(system), e) : 0;
    if (!rc) rc = cf_chat_add(&c, CF_CHAT_USER, question, length, e);
    if (!rc) rc = cf_chat_render(form, &c, true, &text, e);
    if (!rc) rc = cf_chat_tokens(form, t, &text, ids, n, e);
    cf_chat_text_free(&text);
    cf_chat_clear(&c);
    return rc;
}
