/* See message.h. */
#include "coordinator/chat/message.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/text/utf8.h"

const char *cf_chat_role_name(enum cf_chat_role role) {
    static const char *const names[CF_CHAT_ROLES] = {"system", "user", "assistant"};
    return names[role];
}

/* A copy that is valid UTF-8 without NUL; malloc'ed. */
static char *clean(const char *text, size_t length, size_t *n) {
    char *out = malloc(3 * length + 1);
    *n = 0;
    for (size_t i = 0; out && i < length;) {
        int step = cf__utf8_step((const unsigned char *)text + i, length - i);
        size_t from = step ? (size_t)(step < 0 ? -step : step) : length - i;
        bool good = step > 0 && text[i];
        memcpy(out + *n, good ? text + i : CF__REPLACEMENT, good ? from : sizeof CF__REPLACEMENT - 1);
        *n += good ? from : sizeof CF__REPLACEMENT - 1;
        i += from;
    }
    if (out) out[*n] = '\0';
    return out;
}

static void free_message(struct cf_chat_message *m) {
    free(m->content);
    free(m->thinking);
    free(m->ids);
}

static int reserve(struct cf_chat *c, struct cf_error *e) {
    if (c->n < c->room) return 0;
    size_t room = c->room ? 2 * c->room : 16;
    struct cf_chat_message *more = realloc(c->messages, room * sizeof *more);
    if (!more) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu messages", room);
    c->messages = more;
    c->room = room;
    return 0;
}

static int insert(
    struct cf_chat *c, size_t at, enum cf_chat_role role, const char *content, size_t length, struct cf_error *e) {
    if (reserve(c, e)) return -1;
    struct cf_chat_message m = {.role = role};
    m.content = clean(content, length, &m.length);
    if (!m.content) return cf_fail(e, CF_ERR_MEMORY, "no memory for a message of %zu bytes", length);
    memmove(c->messages + at + 1, c->messages + at, (c->n - at) * sizeof m);
    c->messages[at] = m;
    c->n++;
    return 0;
}

int cf_chat_add(struct cf_chat *c, enum cf_chat_role role, const char *content, size_t length, struct cf_error *e) {
    return insert(c, c->n, role, content, length, e);
}

const struct cf_chat_message *cf_chat_system(const struct cf_chat *c) {
    return c->n && c->messages[0].role == CF_CHAT_SYSTEM ? &c->messages[0] : NULL;
}

int cf_chat_set_system(struct cf_chat *c, const char *content, size_t length, struct cf_error *e) {
    bool had = cf_chat_system(c) != NULL;
    if (length && insert(c, 0, CF_CHAT_SYSTEM, content, length, e)) return -1;
    if (had) cf_chat_remove(c, length ? 1 : 0, 1);
    return 0;
}

void cf_chat_remove(struct cf_chat *c, size_t first, size_t n) {
    for (size_t i = first; i < first + n; i++)
        free_message(&c->messages[i]);
    memmove(c->messages + first, c->messages + first + n, (c->n - first - n) * sizeof *c->messages);
    c->n -= n;
}

size_t cf_chat_drop_oldest(struct cf_chat *c) {
    size_t first = cf_chat_system(c) ? 1 : 0, next = first + 1;
    while (next < c->n && c->messages[next].role != CF_CHAT_USER)
        next++;
    if (next >= c->n) return 0;
    cf_chat_remove(c, first, next - first);
    return next - first;
}

void cf_chat_clear(struct cf_chat *c) {
    for (size_t i = 0; i < c->n; i++)
        free_message(&c->messages[i]);
    free(c->messages);
    *c = (struct cf_chat){0};
}
