/* Private to `coffer chat`: one session. chat.c has the options and the loop, chat_turn.c one question and its answer,
 * chat_words.c the words that begin with a slash, chat_input.c where lines come from.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_CHAT_H
#define COFFER_COORDINATOR_COMMANDS_CHAT_H

#include "coordinator/chat/answer.h"
#include "coordinator/chat/render.h"
#include "coordinator/commands/shared/sampling.h"
#include "coordinator/decode/generate.h"

struct cf__chat_input {
    const struct cf_terminal *terminal;
    struct cf_transport *transport;
    struct cf_replay *replay; /* lines from before a failure come first */
    char *bytes;              /* [n] of stdin, not yet used */
    size_t n, room, looked;
    bool at_end, failed;
    char *message; /* what the caller gets */
    size_t n_message, room_message;
};

enum cf__chat_got { CF__CHAT_GOT, CF__CHAT_END, CF__CHAT_FAILED };

/* A message: one line, or several, if a line ends with a backslash or the first begins and the last ends with """.
 * Other ranks hear of us while we wait. *message is valid until the next call; *block: it stood between """. END: also
 * after an interruption. */
enum cf__chat_got cf__chat_read(
    struct cf__chat_input *in, struct cf_terminal *t, char **message, size_t *n, bool *block, struct cf_error *e);
void cf__chat_input_free(struct cf__chat_input *in);

enum cf__chat_reasoning { CF__CHAT_SHOW, CF__CHAT_HIDE, CF__CHAT_RAW };

struct cf__chat_session {
    struct cf_job *job;
    struct cf_terminal *terminal;
    const struct cf_chat_form *form;
    char why[160];          /* about the form */
    const char *end_marker; /* the form's end of an answer, if it is no token of the model; NULL: it is one */
    char marker[64];
    struct cf_sampling_set set;
    struct cf_sampler *sampler; /* one for all turns */
    struct cf_stop *stop;       /* NULL: no stop strings */
    struct cf_chat chat;
    struct cf__chat_input input;
    struct cf_replay replay; /* of a supervisor */
    int64_t predict;
    bool ignore_eos;
    enum cf__chat_reasoning reasoning;

    /* What the cache holds: [n_cached] ids from position 0 on. */
    uint32_t *cached;
    size_t n_cached, room_cached;
    uint32_t n_ready; /* what it holds in earnest: less, where the rest was computed before a failure */

    /* The answer in hand. */
    struct cf_chat_answer answer;
    uint32_t *ids; /* [n_ids] generated */
    size_t n_ids, room_ids;
    bool odd;             /* they are not the content: there was a control token or a stop string */
    bool dim;             /* the text on the screen is */
    struct cf_error lost; /* why an id could not be kept */
    struct cf_generate *generate;
    double *worked; /* [n_ranks] seconds that ranks had worked when it was last asked; NULL: it was not */

    bool end;   /* /exit */
    int status; /* exit status other than 0: 143 */
};

/* Adds the message, lets the model answer, prints, says how fast. Returns -1 only if the session cannot go on. */
int cf__chat_turn(struct cf__chat_session *s, const char *text, size_t n, struct cf_error *e);

/* Acts on a line that begins with a slash. What goes wrong is said; -1 only if the session cannot go on. */
int cf__chat_word(struct cf__chat_session *s, const char *line, struct cf_error *e);

#endif
