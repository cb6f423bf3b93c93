/* A conversation as the text that the model reads, in parts: the form's own markers, whose names become special tokens,
 * and what people and the model wrote, in which such names are only text. So nobody can forge the end of a message.
 *
 *     messages -> cf_chat_render -> parts of one text -> cf_chat_tokens -> ids
 */
#ifndef COFFER_COORDINATOR_CHAT_RENDER_H
#define COFFER_COORDINATOR_CHAT_RENDER_H

#include "coordinator/chat/message.h"
#include "coordinator/text/parts.h"

struct cf_chat_text {
    char *text; /* [n], and a NUL behind it */
    size_t n, room;
    struct cf_text_part *parts;             /* [n_parts], one behind the other: all of the text */
    const struct cf_chat_message **sources; /* [n_parts]: the message whose whole content this is, or NULL */
    size_t n_parts, room_parts;
};

/* generation: end by asking for an answer. Freed by cf_chat_text_free, also after a failure. */
int cf_chat_render(const struct cf_chat_form *form, const struct cf_chat *c, bool generation, struct cf_chat_text *out,
    struct cf_error *e);
void cf_chat_text_free(struct cf_chat_text *t);

/* The ids: those that were generated for the content of an answer, the tokenizer's for the rest. BOS as the model wants
 * it, once. *ids is malloc'ed. */
int cf_chat_tokens(const struct cf_chat_form *form, const struct cf_tokenizer *t, const struct cf_chat_text *text,
    uint32_t **ids, size_t *n, struct cf_error *e);

/* One question, without a conversation around it: its ids, as above. system may be NULL. */
int cf_chat_question(const struct cf_chat_form *form, const struct cf_tokenizer *t, const char *system,
    const char *question, size_t length, uint32_t **ids, size_t *n, struct cf_error *e);

#endif
