/* A conversation: messages in order, each with its role and content. Who writes it: commands/chat.c; who reads it:
 * render.h (the text for the model) and file.c (JSON). Not thread-safe; strings are owned by the conversation.
 */
#ifndef COFFER_COORDINATOR_CHAT_MESSAGE_H
#define COFFER_COORDINATOR_CHAT_MESSAGE_H

#include "coordinator/chat/form.h"

struct cf_chat_message {
    enum cf_chat_role role;
    char *content; /* [length], valid UTF-8, and a NUL behind it */
    size_t length;
    char *thinking; /* what an answer was preceded by; NULL: nothing. Never shown to the model again */
    /* The ids that were generated as this very content, or NULL: they need not come out of the tokenizer again. */
    uint32_t *ids;
    size_t n_ids;
};

struct cf_chat {
    struct cf_chat_message *messages; /* [n] */
    size_t n, room;
};

/* "system", "user", "assistant". */
const char *cf_chat_role_name(enum cf_chat_role role);

/* Appends; the content is copied, with invalid UTF-8 and NUL bytes replaced by U+FFFD. */
int cf_chat_add(struct cf_chat *c, enum cf_chat_role role, const char *content, size_t length, struct cf_error *e);
/* Sets, replaces or (length 0) removes the system message, which is the first. */
int cf_chat_set_system(struct cf_chat *c, const char *content, size_t length, struct cf_error *e);
const struct cf_chat_message *cf_chat_system(const struct cf_chat *c); /* NULL: none */
/* Removes messages[first..first + n). */
void cf_chat_remove(struct cf_chat *c, size_t first, size_t n);
/* Removes the oldest exchange: the first user's message and what follows up to the next one. The last user's message
 * stays. Returns how many messages went; 0: there is nothing to remove. */
size_t cf_chat_drop_oldest(struct cf_chat *c);
void cf_chat_clear(struct cf_chat *c);

/* file.c. As JSON: {"messages": [{"role": "user", "content": "..."}, ...]}, an answer with "thinking" if it had some.
 * Written beside `path` and moved there. Reading replaces *c only if the whole file is good; a bare list of messages is
 * read, too. */
int cf_chat_save(const struct cf_chat *c, const char *path, struct cf_error *e);
int cf_chat_load(struct cf_chat *c, const char *path, struct cf_error *e);
/* The same as a text on one line, malloc'ed (NULL: no memory), and back; path: whose name errors begin with. */
char *cf_chat_to_text(const struct cf_chat *c);
int cf_chat_from_text(struct cf_chat *c, const char *text, size_t n, const char *path, struct cf_error *e);

#endif
