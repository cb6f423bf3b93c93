/* See answer.h. A small machine over bytes. Each state looks for at most one marker; what may be the beginning of one
 * is held back. */
#include "coordinator/chat/answer.h"

#include <stdlib.h>
#include <string.h>

enum state {
    START,   /* only white space so far: a block may open */
    CONTENT, /* to the end */
    THINKING,
    CHANNEL, /* gpt-oss: the head of a message, up to <|message|> */
};

static const struct block {
    const char *open, *close;
} blocks[] = {
    {"<think>", "</think>"},
    {"<|START_THINKING|>", "<|END_THINKING|>"},
    {"[THINK]", "[/THINK]"},
    {"<seed:think>", "</seed:think>"},
};
static const char channels[] = ""; /* stands as `close` where channels take the place of blocks */
enum { N_BLOCKS = sizeof blocks / sizeof *blocks };

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int add(struct cf_chat_buffer *b, const char *bytes, size_t n, struct cf_error *e) {
    if (b->n + n + 1 > b->room) {
        size_t room = 2 * (b->n + n) + 256;
        char *more = realloc(b->text, room);
        if (!more) return cf_fail(e, CF_ERR_MEMORY, "no memory for an answer of %zu bytes", room);
        b->text = more;
        b->room = room;
    }
    memcpy(b->text + b->n, bytes, n);
    b->n += n;
    b->text[b->n] = '\0';
    return 0;
}

static int emit(struct cf_chat_answer *a, enum cf_chat_kind kind, const char *bytes, size_t n, struct cf_error *e) {
    return n ? add(kind == CF_CHAT_CONTENT ? &a->content : &a->thinking, bytes, n, e) : 0;
}

static int show_one(struct cf_chat_answer *a, enum cf_chat_kind kind, const struct cf_chat_buffer *b, size_t *shown,
    struct cf_error *e) {
    size_t from = *shown;
    *shown = b->n;
    return a->piece && b->n > from ? a->piece(a->ctx, kind, b->text + from, b->n - from, e) : 0;
}

/* What has been decided since the last time, in one piece. Within one call content never comes before thinking. */
static int show(struct cf_chat_answer *a, struct cf_error *e) {
    if (show_one(a, CF_CHAT_THINKING, &a->thinking, &a->shown_thinking, e)) return -1;
    return show_one(a, CF_CHAT_CONTENT, &a->content, &a->shown_content, e);
}

void cf_chat_answer_begin(struct cf_chat_answer *a, const struct cf_chat_form *form) {
    a->content = a->thinking = (struct cf_chat_buffer){0};
    a->ended = a->marked = false;
    a->close = NULL;
    a->n_held = 0;
    a->channel[0] = '\0';
    a->shown_content = a->shown_thinking = 0;
    a->state = a->raw ? CONTENT : START;
    if (a->raw) return;
    if (!strcmp(form->name, "gpt-oss")) a->state = CONTENT, a->close = channels;
    if (form->thinks) a->state = THINKING, a->close = blocks[0].close, a->marked = true;
}

static int take(struct cf_chat_answer *a, const char *bytes, size_t n, struct cf_error *e);

/* START: white space, then perhaps the name of a block. Returns how many bytes of held are decided. */
static int at_start(struct cf_chat_answer *a, struct cf_error *e) {
    size_t space = 0;
    while (space < a->n_held && is_space(a->held[space]))
        space++;
    size_t n = a->n_held - space;
    for (size_t i = 0; i < N_BLOCKS; i++) {
        size_t length = strlen(blocks[i].open);
        if (memcmp(blocks[i].open, a->held + space, n < length ? n : length) != 0) continue;
        if (n < length && a->n_held < sizeof a->held) return 0; /* not yet known */
        if (n < length) break;
        a->state = THINKING;
        a->close = blocks[i].close;
        a->marked = true;
        a->n_held = 0;
        return 0;
    }
    a->state = CONTENT;
    if (!a->marked) space = 0; /* behind a block white space goes with it */
    n = a->n_held - space;
    if (!n) a->state = START;
    char copy[sizeof a->held];
    memcpy(copy, a->held + space, n);
    a->n_held = 0;
    return take(a, copy, n, e);
}

/* The marker that ends the state, or NULL. */
static const char *awaited(const struct cf_chat_answer *a) {
    if (a->close == channels) return "<|end|>"; /* as text, too: vocabularies may have it as a user-defined token */
    return a->state == THINKING ? a->close : a->end && *a->end ? a->end : NULL;
}

static int marker_came(struct cf_chat_answer *a) {
    a->n_held = 0;
    if (a->close == channels)
        a->state = CHANNEL, a->marked = true, a->channel[0] = '\0';
    else if (a->state == THINKING)
        a->state = START;
    else
        a->ended = true;
    return 0;
}

static enum cf_chat_kind kind_of(const struct cf_chat_answer *a) {
    return a->state == THINKING ? CF_CHAT_THINKING : CF_CHAT_CONTENT;
}

/* Gives out of held what can be no beginning of the marker (nor, in thinking, white space before it). */
static int let_go(struct cf_chat_answer *a, const char *marker, struct cf_error *e) {
    size_t from = 0, length = marker ? strlen(marker) : 0;
    if (length >= sizeof a->held) length = 0;
    for (; from < a->n_held; from++) {
        size_t at = from;
        while (a->state == THINKING && at < a->n_held && is_space(a->held[at]))
            at++;
        size_t n = a->n_held - at;
        if (at == a->n_held && at > from && a->n_held < sizeof a->held) break;
        if (!length || memcmp(a->held + at, marker, n < length ? n : length) != 0) continue;
        if (n >= length) {
            if (emit(a, kind_of(a), a->held, from, e)) return -1;
            return marker_came(a);
        }
        if (a->n_held < sizeof a->held) break;
    }
    size_t skip = 0;
    if (a->state == THINKING && !a->thinking.n)
        while (skip < from && is_space(a->held[skip]))
            skip++;
    if (emit(a, kind_of(a), a->held + skip, from - skip, e)) return -1;
    a->n_held -= from;
    memmove(a->held, a->held + from, a->n_held);
    return 0;
}

static int take(struct cf_chat_answer *a, const char *bytes, size_t n, struct cf_error *e) {
    for (size_t i = 0; i < n && !a->ended; i++) {
        if (a->state == CHANNEL) { /* its name, in the middle of the head */
            size_t used = strlen(a->channel);
            if (used + 1 < sizeof a->channel) a->channel[used] = bytes[i], a->channel[used + 1] = '\0';
            continue;
        }
        const char *marker = awaited(a);
        if (a->state == CONTENT && !marker) return emit(a, CF_CHAT_CONTENT, bytes + i, n - i, e);
        a->held[a->n_held++] = bytes[i];
        if (a->state == START ? at_start(a, e) : let_go(a, marker, e)) return -1;
    }
    return 0;
}

int cf_chat_answer_text(struct cf_chat_answer *a, const char *bytes, size_t n, struct cf_error *e) {
    return take(a, bytes, n, e) || show(a, e) ? -1 : 0;
}

static bool is(const char *name, size_t n, const char *what) {
    return n == strlen(what) && !memcmp(name, what, n);
}

static int flush(struct cf_chat_answer *a, struct cf_error *e) {
    size_t n = a->n_held;
    char copy[sizeof a->held];
    memcpy(copy, a->held, n);
    a->n_held = 0;
    if (a->state == THINKING)
        while (n && is_space(copy[n - 1]))
            n--;
    size_t skip = 0;
    while (a->state == START && a->marked && skip < n && is_space(copy[skip])) /* behind a block */
        skip++;
    return emit(a, kind_of(a), copy + skip, n - skip, e);
}

/* gpt-oss: <|channel|>NAME<|message|>TEXT<|end|><|start|>assistant<|channel|>... */
static int channel_token(struct cf_chat_answer *a, const char *name, size_t n, struct cf_error *e) {
    bool message = is(name, n, "<|message|>");
    if (!message && !is(name, n, "<|channel|>") && !is(name, n, "<|end|>") && !is(name, n, "<|start|>")) return 0;
    a->marked = true;
    if (message && a->state == CHANNEL) {
        bool final = !*a->channel || !strncmp(a->channel, "final", 5) || !strcmp(a->channel, "assistant");
        a->state = final ? CONTENT : THINKING;
    } else if (!message) {
        if (flush(a, e)) return -1;
        a->state = CHANNEL;
        a->channel[0] = '\0';
    }
    return 0;
}

int cf_chat_answer_token(struct cf_chat_answer *a, const char *name, size_t n, struct cf_error *e) {
    if (a->raw || a->ended) return 0;
    if (a->close == channels) return channel_token(a, name, n, e) || show(a, e) ? -1 : 0;
    for (size_t i = 0; i < N_BLOCKS; i++) {
        bool open = a->state == START && is(name, n, blocks[i].open);
        bool shut = a->state == THINKING && is(name, n, blocks[i].close);
        if (!open && !shut) continue;
        if (flush(a, e) || show(a, e)) return -1;
        a->marked = true;
        a->state = open ? THINKING : START;
        a->close = blocks[i].close;
        return 0;
    }
    return 0;
}

int cf_chat_answer_end(struct cf_chat_answer *a, struct cf_error *e) {
    return !a->ended && (flush(a, e) || show(a, e)) ? -1 : 0;
}

void cf_chat_answer_free(struct cf_chat_answer *a) {
    free(a->content.text);
    free(a->thinking.text);
    a->content = a->thinking = (struct cf_chat_buffer){0};
}
