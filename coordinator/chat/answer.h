/* Reading an answer as it comes: what of it is thinking and what is said. Pieces of text and the names of control
 * tokens go in; pieces marked as thinking or content come out, and both are collected.
 *
 * Thinking is a block at the very beginning of an answer (<think> ... </think> and its relatives), or every channel but
 * "final" of gpt-oss. White space around it goes with it. In the middle of an answer such words are only words.
 */
#ifndef COFFER_COORDINATOR_CHAT_ANSWER_H
#define COFFER_COORDINATOR_CHAT_ANSWER_H

#include "coordinator/chat/form.h"

enum cf_chat_kind { CF_CHAT_CONTENT, CF_CHAT_THINKING };

struct cf_chat_buffer {
    char *text; /* [n], and a NUL behind it; NULL while n is 0 */
    size_t n, room;
};

struct cf_chat_answer {
    /* Set by the caller. */
    const char *end; /* this text ends the answer; NULL: only the model's end token does */
    bool raw;        /* everything is content */
    int (*piece)(void *ctx, enum cf_chat_kind kind, const char *bytes, size_t n, struct cf_error *e);
    void *ctx;

    /* Out: */
    struct cf_chat_buffer content, thinking;
    bool ended;  /* `end` has come */
    bool marked; /* there was more than content: its ids are not those of the content */

    /* Private. */
    size_t shown_content, shown_thinking;
    int state;
    const char *close; /* of the block that is open */
    char held[64];     /* the beginning of what may become a marker */
    size_t n_held;
    char channel[32];
};

/* Begins with what the caller has set. */
void cf_chat_answer_begin(struct cf_chat_answer *a, const struct cf_chat_form *form);
int cf_chat_answer_text(struct cf_chat_answer *a, const char *bytes, size_t n, struct cf_error *e);
/* A control token, which is no text. */
int cf_chat_answer_token(struct cf_chat_answer *a, const char *name, size_t n, struct cf_error *e);
/* No more will come. */
int cf_chat_answer_end(struct cf_chat_answer *a, struct cf_error *e);
void cf_chat_answer_free(struct cf_chat_answer *a);

#endif
