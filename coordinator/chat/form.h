/* Chat templates: how a model wants a conversation written. Of the Jinja text in tokenizer.chat_template only the
 * family is recognised, by its markers; what the family writes is a row of a table (forms.c). Names, markers and texts
 * are those of llama.cpp's built-in templates (src/llama-chat.cpp), so that the same list of messages becomes the same
 * text.
 *
 *     cf_chat_choose(option, file, tokenizer) -> form        cf_chat_render(form, messages) -> text in parts (render.h)
 */
#ifndef COFFER_COORDINATOR_CHAT_FORM_H
#define COFFER_COORDINATOR_CHAT_FORM_H

#include "coordinator/text/tokenizer.h"
#include "node/gguf/gguf.h"

enum cf_chat_role { CF_CHAT_SYSTEM, CF_CHAT_USER, CF_CHAT_ASSISTANT, CF_CHAT_ROLES };

/* What becomes of a system message. */
enum cf_chat_system {
    CF_CHAT_SYSTEM_OWN,  /* it has a place of its own */
    CF_CHAT_SYSTEM_FOLD, /* it goes before the next user's message, with `fold` between them */
    CF_CHAT_SYSTEM_DROP, /* the form has no place for it */
};

/* Conversation: begin, then for each message before[role], its content, after[role]; generation at the end. */
struct cf_chat_form {
    const char *name;
    const char *begin;     /* once, before all else */
    const char *no_system; /* behind begin, if the first message is no system message */
    const char *turn;      /* opens an exchange: before the first message and before each that follows an answer */
    const char *before[CF_CHAT_ROLES], *after[CF_CHAT_ROLES];
    const char *generation; /* asks for an answer */
    const char *fold;
    enum cf_chat_system system;
    unsigned trim;       /* bits of the roles whose content loses the white space around it */
    unsigned first_skip; /* bytes of before[] that the first message goes without */
    bool turn_open;      /* begin has opened the first exchange */
    bool thinks;         /* generation opens a thinking block */
};

/* NULL: there is none of this name. */
const struct cf_chat_form *cf_chat_form_by_name(const char *name);

/* All names, ascending, parted by ", ". Static. */
void cf_chat_form_names(char *text, size_t size);

/* The form that a Jinja text belongs to, or NULL. */
const struct cf_chat_form *cf_chat_recognise(const char *jinja, size_t length);

/* The form in use. option: NULL or "auto": that of the file, by its template, else by its architecture or the names of
 * its special tokens, else chatml as in llama.cpp, and *why says so (else it is empty). Otherwise a name, a Jinja text,
 * or the name of a file that holds one. why[size]: one line for the user, empty if there is nothing to say. */
int cf_chat_choose(const struct cf_chat_form **form, const char *option, const struct cf_gguf *g,
    const struct cf_tokenizer *t, char *why, size_t size, struct cf_error *e);

/* Is this word a name, a Jinja text or a file with one? For looking at an option before a model is loaded. */
int cf_chat_check_option(const char *option, struct cf_error *e);

#endif
