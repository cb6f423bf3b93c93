/* See replay.h. */
#include "coordinator/supervise/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int read_all(int fd, char *bytes, size_t n) {
    while (n) {
        ssize_t got = read(fd, bytes, n);
        if (got == 0 || (got < 0 && errno != EINTR)) return -1;
        if (got > 0) bytes += got, n -= (size_t)got;
    }
    return 0;
}

/* The decimal number at *at, and *at behind it; the text ends at `end`. */
static bool number(const char **at, const char *end, uint64_t *value) {
    const char *digits = *at;
    for (*value = 0; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (*value > (UINT64_MAX - digit) / 10) return false;
        *value = 10 * *value + digit;
    }
    return *at > digits;
}

/* n bytes; a length is believed as far as there are bytes. */
static int fill(struct cf_replay *r, int fd, uint64_t n, struct cf_error *e) {
    enum { PIECE = 1 << 20 };
    size_t room = 0;
    do {
        room = n - room > room + PIECE ? 2 * room + PIECE : n;
        char *more = realloc(r->bytes, room + 1);
        if (!more) return cf_fail(e, CF_ERR_MEMORY, "no memory for a journal of %" PRIu64 " bytes", n);
        r->bytes = more;
        if (read_all(fd, r->bytes + r->n, room - r->n))
            return cf_fail(e, CF_ERR_SYSTEM, "the supervisor's journal ends early");
        r->n = room;
    } while (r->n < n);
    return 0;
}

int cf_replay_read(struct cf_replay *r, int fd, struct cf_error *e) {
    static const char word[] = "journal ";
    char line[64];
    size_t length = 0;
    uint64_t n;
    *r = (struct cf_replay){0};
    do
        if (length + 1 == sizeof line || read_all(fd, line + length, 1))
            return cf_fail(e, CF_ERR_SYSTEM, "the supervisor's journal does not come");
    while (line[length++] != '\n');
    line[--length] = '\0';
    const char *at = line + sizeof word - 1, *end = line + length;
    if (strncmp(line, word, sizeof word - 1) != 0 || !number(&at, end, &n) || at != end)
        return cf_fail(e, CF_ERR_FORMAT, "this is no journal of a supervisor: %.32s", line);
    return fill(r, fd, n, e);
}

void cf_replay_free(struct cf_replay *r) {
    free(r->bytes);
    *r = (struct cf_replay){0};
}

bool cf_replay_over(const struct cf_replay *r) {
    return r->at >= r->n;
}

/* The record at *at, if it begins with this word: its text, and *at behind it. */
static const char *take(const struct cf_replay *r, size_t *at, const char *word, size_t *n) {
    if (*at >= r->n) return NULL;
    const char *line = r->bytes + *at, *end = memchr(line, '\n', r->n - *at);
    size_t length = strlen(word);
    if (!end || (size_t)(end - line) <= length || memcmp(line, word, length) || line[length] != ' ') return NULL;
    *n = (size_t)(end - line) - length - 1;
    *at += (size_t)(end - line) + 1;
    return line + length + 1;
}

const char *cf_replay_line(struct cf_replay *r, size_t *n) {
    return take(r, &r->at, "line", n);
}

char *cf_replay_text(struct cf_replay *r, size_t *n) {
    size_t at = r->at, part;
    const char *piece;
    char *text = NULL;
    *n = 0;
    for (bool last = false; !last;) {
        if (!(piece = take(r, &at, "more", &part))) last = (piece = take(r, &at, "load", &part)) != NULL;
        char *bigger = piece ? realloc(text, *n + part + 1) : NULL;
        if (!bigger) {
            free(text);
            return NULL;
        }
        text = bigger;
        memcpy(text + *n, piece, part);
        *n += part;
        text[*n] = '\0';
    }
    r->at = at;
    return text;
}

void cf_replay_print_token(char text[CF_REPLAY_TOKEN_BYTES], uint32_t id, const uint64_t state[CF_REPLAY_STATE]) {
    int at = snprintf(text, CF_REPLAY_TOKEN_BYTES, "%" PRIu32, id);
    for (int i = 0; i < CF_REPLAY_STATE; i++)
        at += snprintf(text + at, (size_t)(CF_REPLAY_TOKEN_BYTES - at), " %016" PRIx64, state[i]);
}

bool cf_replay_token(const char *text, size_t n, uint32_t *id, uint64_t state[CF_REPLAY_STATE]) {
    char copy[CF_REPLAY_TOKEN_BYTES], again[CF_REPLAY_TOKEN_BYTES];
    uint64_t *s = state;
    if (n >= sizeof copy) return false;
    memcpy(copy, text, n);
    copy[n] = '\0';
    if (sscanf(copy, "%" SCNu32 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, id, s, s + 1, s + 2, s + 3,
            s + 4) != 1 + CF_REPLAY_STATE)
        return false;
    cf_replay_print_token(again, *id, state);
    return strlen(again) == n && !memcmp(text, again, n);
}

bool cf_replay_end(const char *text, size_t n, int *status, int64_t *n_cached) {
    const char *at = text, *end = text + n;
    uint64_t value;
    if (!number(&at, end, &value) || value > INT_MAX || at == end || *at++ != ' ') return false;
    *status = (int)value;
    *n_cached = -1;
    if (end - at == 2 && !memcmp(at, "-1", 2)) return true;
    if (!number(&at, end, &value) || value > UINT32_MAX || at != end) return false;
    *n_cached = (int64_t)value;
    return true;
}

bool cf_replay_index(const char *text, size_t n, uint32_t *index) {
    const char *at = text;
    uint64_t value;
    if (!number(&at, text + n, &value) || value > UINT32_MAX || at != text + n) return false;
    *index = (uint32_t)value;
    return true;
}

static int add(struct cf_replayed *t, uint32_t id) {
    if (t->n == t->room) {
        size_t room = 2 * t->room + 256;
        uint32_t *more = realloc(t->ids, room * sizeof *more);
        if (!more) return -1;
        t->ids = more;
        t->room = room;
    }
    t->ids[t->n++] = id;
    return 0;
}

int cf_replay_tokens(struct cf_replay *r, struct cf_replayed *t, struct cf_error *e) {
    const char *text;
    size_t n;
    uint32_t id;
    *t = (struct cf_replayed){0};
    while ((text = take(r, &r->at, "token", &n))) {
        if (!cf_replay_token(text, n, &id, t->state)) return cf_fail(e, CF_ERR_FORMAT, "the journal has a wrong token");
        if (add(t, id)) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu tokens", t->n);
    }
    if ((text = take(r, &r->at, "end", &n))) {
        t->ended = cf_replay_end(text, n, &t->status, &t->n_cached);
        if (!t->ended) return cf_fail(e, CF_ERR_FORMAT, "the journal has a wrong end");
    }
    return 0;
}

void cf_replayed_free(struct cf_replayed *t) {
    free(t->ids);
    *t = (struct cf_replayed){0};
}

bool cf_replay_answered(const struct cf_replay *r, uint32_t index) {
    size_t at = 0, n;
    uint32_t answered;
    while (at < r->n) {
        const char *text = take(r, &at, "answered", &n);
        if (text && cf_replay_index(text, n, &answered) && answered == index) return true;
        if (text) continue;
        const char *end = memchr(r->bytes + at, '\n', r->n - at);
        if (!end) return false;
        at = (size_t)(end - r->bytes) + 1;
    }
    return false;
}
