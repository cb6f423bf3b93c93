/* See story.h. */
#include "coordinator/supervise/story.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/supervise/journal.h"
#include "coordinator/supervise/replay.h"

struct record {
    const char *word, *text; /* [n_word], [n] */
    size_t n_word, n;
};

static bool is(const struct record *r, const char *word) {
    return r->n_word == strlen(word) && !memcmp(r->word, word, r->n_word);
}

/* The line at *at, and *at behind it. False: there is no whole one. */
static bool next(const char *bytes, size_t n, size_t *at, struct record *r) {
    const char *line = bytes + *at, *end = *at < n ? memchr(line, '\n', n - *at) : NULL;
    if (!end) return false;
    const char *blank = memchr(line, ' ', (size_t)(end - line));
    *r = (struct record){
        .word = line, .text = blank ? blank + 1 : end, .n_word = (size_t)((blank ? blank : end) - line)};
    r->n = (size_t)(end - r->text);
    *at += (size_t)(end - line) + 1;
    return true;
}

/* What cf_journal_remark has written, in place of *text: allocated, with a zero behind it. */
static int take_remark(char **text, size_t *n, const struct record *r, struct cf_error *e) {
    char *to = malloc(r->n + 1);
    if (!to) return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu bytes of a journal", r->n);
    free(*text);
    *text = to;
    *n = 0;
    for (size_t i = 0; i < r->n; i++) {
        bool escaped = r->text[i] == '\\' && i + 1 < r->n;
        i += escaped;
        to[(*n)++] = escaped && r->text[i] == 'n' ? '\n' : r->text[i];
    }
    to[*n] = '\0';
    return 0;
}

static int add_word(struct cf_story *s, const struct record *r, struct cf_error *e) {
    char **more = realloc(s->words, ((size_t)s->n_words + 2) * sizeof *more);
    size_t n;
    if (!more) return cf_fail(e, CF_ERR_MEMORY, "no memory for %d words", s->n_words);
    s->words = more;
    more[s->n_words] = more[s->n_words + 1] = NULL;
    return take_remark(&more[s->n_words], &n, r, e) ? -1 : (s->n_words++, 0);
}

/* Is this a record of the ranks, and a right one? */
static bool for_ranks(const struct record *r) {
    uint64_t state[CF_REPLAY_STATE];
    uint32_t id;
    int status;
    int64_t n_cached;
    if (is(r, "token")) return cf_replay_token(r->text, r->n, &id, state);
    if (is(r, "end")) return cf_replay_end(r->text, r->n, &status, &n_cached);
    if (is(r, "answered")) return cf_replay_index(r->text, r->n, &id);
    return is(r, "line") || is(r, "more") || is(r, "load");
}

struct reading {
    char *said; /* [n]: of an answer that is not known to be whole */
    size_t n;
};

size_t cf_story_without_rest(const char *records, size_t n) {
    struct record r;
    size_t left = 0;
    for (size_t at = 0; next(records, n, &at, &r);)
        if (!is(&r, "more")) left = at;
    return left;
}

/* An answer that was cut by the death of the program (128 and a signal, but for Ctrl-C) goes on. */
static size_t without_last_end(const char *records, size_t n) {
    struct record r = {0};
    size_t before = 0;
    int status = 0;
    int64_t n_cached;
    for (size_t at = 0, start = 0; next(records, n, &at, &r); start = at)
        before = start;
    return r.word && is(&r, "end") && cf_replay_end(r.text, r.n, &status, &n_cached) && status > 128 && status != 130
               ? before
               : n;
}

/* There is room for the whole file in records and in shown. 1: it is no record of a journal. */
static int take(struct cf_story *s, struct reading *k, const struct record *r, struct cf_error *e) {
    size_t n = (size_t)(r->text + r->n - r->word) + 1, ignored;
    if (is(r, "argument")) return add_word(s, r, e);
    if (is(r, "directory")) return take_remark(&s->directory, &ignored, r, e);
    if (is(r, "model")) return take_remark(&s->model, &ignored, r, e);
    if (is(r, "input")) return take_remark(&s->input, &s->n_input, r, e);
    if (is(r, "said")) return take_remark(&k->said, &k->n, r, e);
    if (is(r, "start")) {
        s->n = without_last_end(s->records, cf_story_without_rest(s->records, s->n));
        s->started = true;
        return 0;
    }
    if (!for_ranks(r)) return 1;
    if (is(r, "answered") && k->n) memcpy(s->shown + s->n_shown, k->said, k->n), s->n_shown += k->n;
    k->n = 0;
    memcpy(s->records + s->n, r->word, n);
    s->n += n;
    return 0;
}

int cf_story_parse(struct cf_story *s, const char *bytes, size_t n, const char *path, struct cf_error *e) {
    struct reading k = {0};
    struct record r;
    size_t at = sizeof CF_JOURNAL_HEAD - 1, line = 1;
    int rc = 0;
    *s = (struct cf_story){0};
    if (n < at || memcmp(bytes, CF_JOURNAL_HEAD, at) != 0)
        return cf_fail(e, CF_ERR_FORMAT, "%s is no journal of this coffer: its first line is not \"%.*s\"", path,
            (int)at - 1, CF_JOURNAL_HEAD);
    s->records = malloc(n), s->shown = malloc(n);
    if (!s->records || !s->shown) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory for %zu bytes", path, n);
    for (s->whole = at; !rc && next(bytes, n, &at, &r); s->whole = rc ? s->whole : at) {
        rc = take(s, &k, &r, e);
        line++;
    }
    free(k.said);
    if (rc > 0) return cf_fail(e, CF_ERR_FORMAT, "%s: line %zu is no record of a journal", path, line);
    if (rc) return -1;
    if (!s->n_words || !s->started)
        return cf_fail(e, CF_ERR_FORMAT, "%s: it does not say how the run was called", path);
    s->n = without_last_end(s->records, cf_story_without_rest(s->records, s->n));
    return 0;
}

int cf_story_read(struct cf_story *s, int fd, const char *path, struct cf_error *e) {
    struct stat file;
    *s = (struct cf_story){0};
    if (fstat(fd, &file)) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    if (!S_ISREG(file.st_mode)) return cf_fail(e, CF_ERR_FILE, "%s is no file", path);
    size_t n = (size_t)file.st_size, got = 0;
    char *bytes = malloc(n + 1);
    if (!bytes) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory for %zu bytes", path, n);
    for (ssize_t part = 1; got < n && part;) {
        part = pread(fd, bytes + got, n - got, (off_t)got);
        if (part < 0 && errno != EINTR) {
            free(bytes);
            return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
        }
        if (part > 0) got += (size_t)part;
    }
    int rc = cf_story_parse(s, bytes, got, path, e);
    free(bytes);
    return rc;
}

void cf_story_free(struct cf_story *s) {
    for (int i = 0; i < s->n_words; i++)
        free(s->words[i]);
    free(s->words);
    free(s->directory);
    free(s->model);
    free(s->input);
    free(s->shown);
    free(s->records);
    *s = (struct cf_story){0};
}
