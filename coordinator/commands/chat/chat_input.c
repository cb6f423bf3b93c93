/* Where the user's messages come from: lines on stdin, from a file, a pipe, or the front process that reads them from
 * the terminal when asked (cli/talk.c). See chat.h. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/commands/chat/chat.h"

enum { CHUNK = 65536, MAX_MESSAGE = 64 << 20 };

static bool has_line(struct cf__chat_input *in) {
    if (in->looked < in->n && memchr(in->bytes + in->looked, '\n', in->n - in->looked)) return true;
    in->looked = in->n;
    return in->at_end || in->failed || in->n > MAX_MESSAGE;
}

/* Ctrl-C while nothing is being answered. In a talk the front has kept it for itself: what arrives was late. */
static bool stopped(const struct cf__chat_input *in) {
    if (in->terminal->talk) cf_interrupt_clear();
    return cf_interrupted() != 0;
}

/* For cf_wait: reads what is there, and says whether a line is. */
static bool ready(void *ctx) {
    struct cf__chat_input *in = ctx;
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    if (has_line(in) || stopped(in)) return true;
    if (poll(&fd, 1, 0) <= 0) return false;
    if (in->room - in->n < CHUNK) {
        char *more = realloc(in->bytes, in->n + 2 * CHUNK);
        if (!more) return in->failed = true;
        in->bytes = more;
        in->room = in->n + 2 * CHUNK;
    }
    ssize_t got = read(STDIN_FILENO, in->bytes + in->n, CHUNK);
    if (got > 0) in->n += (size_t)got;
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) in->at_end = true;
    return has_line(in);
}

struct line {
    const char *text; /* [n], without its newline */
    size_t n, used;   /* used: bytes of in->bytes that belong to it */
};

/* As other systems end their lines. */
static enum cf__chat_got without_return(struct line *l) {
    if (l->n && l->text[l->n - 1] == '\r') l->n--;
    return CF__CHAT_GOT;
}

/* The next line: from before a failure, or new. */
static enum cf__chat_got read_line(
    struct cf__chat_input *in, struct cf_terminal *t, const char *prompt, struct line *l, struct cf_error *e) {
    t->quiet = false;
    l->text = cf_replay_line(in->replay, &l->n);
    l->used = 0;
    if (l->text) {
        t->quiet = !cf_replay_over(in->replay);
        if (!l->n || *l->text != *CF_TALK_FORGET) /* nor CF_TALK_NOTHING */
            cf_terminal_event(t, "asked", "%.*s", l->n < INT_MAX ? (int)l->n : INT_MAX, l->text);
        return without_return(l);
    }
    in->looked = 0;
    cf_terminal_ask(t, prompt);
    if (cf_wait(in->transport, ready, in, NULL, e)) return CF__CHAT_FAILED;
    if (in->failed) return cf_fail(e, CF_ERR_MEMORY, "no memory for a line of %zu bytes", in->n), CF__CHAT_FAILED;
    if (stopped(in)) return CF__CHAT_END;
    char *end = in->n ? memchr(in->bytes, '\n', in->n) : NULL;
    if (!end && in->n > MAX_MESSAGE)
        return cf_fail(e, CF_ERR_LIMIT, "a line of more than %d MiB", MAX_MESSAGE >> 20), CF__CHAT_FAILED;
    if (!end && !in->n) return CF__CHAT_END;
    l->text = in->bytes;
    l->n = end ? (size_t)(end - in->bytes) : in->n;
    l->used = l->n + (end ? 1 : 0);
    return without_return(l);
}

static void drop_line(struct cf__chat_input *in, size_t used) {
    in->n -= used;
    memmove(in->bytes, in->bytes + used, in->n);
}

static int append(struct cf__chat_input *in, const char *text, size_t n, struct cf_error *e) {
    if (in->n_message + n + 2 > in->room_message) {
        size_t room = 2 * (in->n_message + n) + 256;
        char *more = room < 2u * MAX_MESSAGE ? realloc(in->message, room) : NULL;
        if (!more) return cf_fail(e, CF_ERR_LIMIT, "the message is too long");
        in->message = more;
        in->room_message = room;
    }
    if (n) memcpy(in->message + in->n_message, text, n);
    in->n_message += n;
    in->message[in->n_message] = '\0';
    return 0;
}

static bool is(const char *line, size_t n, const char *word) {
    return n == strlen(word) && !memcmp(line, word, n);
}

static bool has_fence(const char *line, size_t n, bool at_end) {
    return n >= 3 && !memcmp(at_end ? line + n - 3 : line, "\"\"\"", 3);
}

struct reading {
    bool in_block, more;
};

/* One line more of a message. */
static int take(
    struct cf__chat_input *in, struct reading *r, bool first, const char *line, size_t n, struct cf_error *e) {
    size_t slashes = 0;
    if (first && has_fence(line, n, false)) {
        r->in_block = r->more = true;
        line += 3, n -= 3;
        if (!n) return 0; /* the text begins on the next line */
    }
    if (r->in_block) {
        r->more = !has_fence(line, n, true);
        if (!r->more && n == 3 && in->n_message) in->n_message--; /* the fence stands alone: so does no empty line */
        return append(in, line, r->more ? n : n - 3, e) || (r->more && append(in, "\n", 1, e)) ? -1 : 0;
    }
    while (slashes < n && line[n - 1 - slashes] == '\\')
        slashes++;
    r->more = slashes % 2;
    return append(in, line, r->more ? n - 1 : n, e) || (r->more && append(in, "\n", 1, e)) ? -1 : 0;
}

enum cf__chat_got cf__chat_read(
    struct cf__chat_input *in, struct cf_terminal *t, char **message, size_t *n, bool *block, struct cf_error *e) {
    struct reading r = {0};
    bool first = true;
    in->n_message = 0;
    if (append(in, "", 0, e)) return CF__CHAT_FAILED;
    do {
        struct line l;
        enum cf__chat_got got = read_line(in, t, first ? "> " : ". ", &l, e);
        if (got == CF__CHAT_END && !first && !stopped(in)) break; /* the last message has no end: it counts */
        if (got != CF__CHAT_GOT) return got;
        bool nothing = t->talk && is(l.text, l.n, CF_TALK_NOTHING);
        if (nothing && first) return CF__CHAT_END;
        if (nothing || (t->talk && is(l.text, l.n, CF_TALK_FORGET))) {
            r = (struct reading){.more = true};
            in->n_message = 0;
            first = true;
        } else {
            if (take(in, &r, first, l.text, l.n, e)) return CF__CHAT_FAILED;
            first = false;
        }
        if (l.used) drop_line(in, l.used);
    } while (r.more);
    *message = in->message;
    *n = in->n_message;
    in->message[*n] = '\0';
    *block = r.in_block;
    return CF__CHAT_GOT;
}

void cf__chat_input_free(struct cf__chat_input *in) {
    free(in->bytes);
    free(in->message);
}
