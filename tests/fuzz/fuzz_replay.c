/* Fuzz target: any bytes as the journal that rank 0 finds on its stdin (coordinator/supervise/replay.h), and as its
 * records alone. What was read is journaled again as the supervisor does it, and then reads the same. Seeds:
 * corpus/replay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "coordinator/supervise/journal.h"
#include "coordinator/supervise/replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add(struct cf_journal *j, const char *word, const char *text, size_t n) {
    if (memchr(text, '\n', n) || cf_journal_add(j, word, text, n)) abort();
}

static void copy_tokens(struct cf_replay *r, struct cf_journal *to) {
    struct cf_replayed t;
    struct cf_error e;
    char text[CF_REPLAY_TOKEN_BYTES];
    if (cf_replay_tokens(r, &t, &e)) {
        cf_replayed_free(&t);
        add(to, "other", "", 0);
        return;
    }
    for (size_t i = 0; i < t.n; i++) {
        cf_replay_print_token(text, t.ids[i], t.state);
        add(to, "token", text, strlen(text));
    }
    if (t.ended) snprintf(text, sizeof text, "%d %lld", t.status, (long long)t.n_cached);
    if (t.ended) add(to, "end", text, strlen(text));
    cf_replayed_free(&t);
}

/* A record that none of the readers wants, or half a one at the end. */
static void copy_other(struct cf_replay *r, struct cf_journal *to) {
    static const char word[] = "answered ";
    const char *line = r->bytes + r->at, *end = memchr(line, '\n', r->n - r->at);
    uint32_t index;
    r->at = end ? (size_t)(end - r->bytes) + 1 : r->n;
    if (!end) return;
    size_t n = (size_t)(end - line), length = sizeof word - 1;
    if (n > length && !memcmp(line, word, length) && cf_replay_index(line + length, n - length, &index)) {
        if (!cf_replay_answered(r, index)) abort();
        add(to, "answered", line + length, n - length);
    } else {
        add(to, "other", "", 0);
    }
}

static void copy(struct cf_replay *r, struct cf_journal *to) {
    while (!cf_replay_over(r)) {
        size_t before = r->at, n;
        const char *line = cf_replay_line(r, &n);
        char *text = line ? NULL : cf_replay_text(r, &n);
        if (line) {
            if (line < r->bytes || (size_t)(line - r->bytes) + n + 1 != r->at || line[n] != '\n') abort();
            add(to, "line", line, n);
        } else if (text) {
            if (n > r->at - before || text[n]) abort();
            add(to, "load", text, n);
        } else {
            copy_tokens(r, to);
        }
        free(text);
        if (r->at > r->n) abort();
        if (r->at == before) copy_other(r, to);
    }
}

static void check(struct cf_replay *r) {
    struct cf_journal once = {.fd = -1}, twice = {.fd = -1};
    copy(r, &once);
    struct cf_replay again = {.bytes = once.bytes, .n = once.n};
    copy(&again, &twice);
    if (once.n != twice.n || (once.n && memcmp(once.bytes, twice.bytes, once.n) != 0)) abort();
    free(once.bytes);
    free(twice.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cf_replay r;
    struct cf_error e;
    int fd = memfd_create("stdin", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET)) return 0;
    if (!cf_replay_read(&r, fd, &e)) {
        const uint8_t *head = memchr(data, '\n', size);
        if (!head || (size_t)lseek(fd, 0, SEEK_CUR) != (size_t)(head - data) + 1 + r.n) abort(); /* not one byte more */
        if (r.n && memcmp(r.bytes, head + 1, r.n) != 0) abort();
        check(&r);
    }
    cf_replay_free(&r);
    close(fd);

    r = (struct cf_replay){.bytes = malloc(size ? size : 1), .n = size}; /* nothing behind the last byte */
    if (r.bytes && size) memcpy(r.bytes, data, size);
    if (r.bytes) check(&r);
    cf_replay_free(&r);
    return 0;
}
