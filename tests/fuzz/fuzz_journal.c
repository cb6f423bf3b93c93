/* Fuzz target: records of any bytes into a journal (coordinator/supervise/journal.h). File and memory have the same
 * ones, each on a line of its own, and of a journal that is cut off anywhere the whole ones are read. The input is
 * where to cut (two bytes), then records: what they are (one byte), their length (one), their text. Seeds:
 * corpus/journal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/supervise/journal.h"
#include "coordinator/supervise/replay.h"
#include "coordinator/supervise/story.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The number of records. */
static size_t fill(struct cf_journal *j, const uint8_t *data, size_t size) {
    static const char *const words[] = {"line", "token", "end", "more", "load", "answered"};
    enum { WORDS = sizeof words / sizeof *words };
    size_t records = 0;
    char text[256];
    for (size_t at = 0; at + 2 <= size; records++) {
        unsigned kind = data[at] % (WORDS + 1);
        size_t n = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
        memcpy(text, data + at + 2, n);
        at += 2 + n;
        for (char *c; kind < WORDS && (c = memchr(text, '\n', n));)
            *c = ' '; /* only a remark may have one */
        if (kind == WORDS)
            cf_journal_remark(j, n % 4 ? "input" : n % 8 ? "argument" : "said", text, n);
        else if (cf_journal_add(j, words[kind], text, n))
            abort();
    }
    return records;
}

/* Without its remarks the file[n] is what is in memory. */
static void compare(const struct cf_journal *j, const char *file, size_t n, size_t records) {
    size_t length = sizeof CF_JOURNAL_HEAD - 1, same = 0, lines = 0;
    if (n < length || memcmp(file, CF_JOURNAL_HEAD, length) != 0 || file[n - 1] != '\n') abort();
    for (const char *at = file + length, *end; at < file + n; at = end, lines++) {
        end = (char *)memchr(at, '\n', (size_t)(file + n - at)) + 1;
        if (!strncmp(at, "input ", 6) || !strncmp(at, "argument ", 9) || !strncmp(at, "said ", 5)) continue;
        size_t part = (size_t)(end - at);
        if (part > j->n - same || memcmp(j->bytes + same, at, part) != 0) abort();
        same += part;
    }
    if (same != j->n || lines != records) abort();
}

/* Each "line" record that ends before the cut is read, and no other. */
static void read_part(const struct cf_journal *j, size_t cut) {
    struct cf_replay r = {.bytes = malloc(cut ? cut : 1), .n = cut};
    if (!r.bytes) return;
    if (cut) memcpy(r.bytes, j->bytes, cut);
    for (const char *at = j->bytes, *end; at && at < j->bytes + cut; at = end) {
        size_t n = 0;
        end = (char *)memchr(at, '\n', j->n - (size_t)(at - j->bytes)) + 1;
        r.at = (size_t)(at - j->bytes);
        const char *line = cf_replay_line(&r, &n);
        bool wanted = !strncmp(at, "line ", 5) && end <= j->bytes + cut;
        if (wanted != (line != NULL)) abort();
        if (line && (n != (size_t)(end - at) - 6 || memcmp(line, at + 5, n) != 0)) abort();
    }
    cf_replay_free(&r);
}

/* What is read back was written: whole records, of which some may have been dropped at the end. */
static void read_back(const struct cf_journal *j, const char *file, size_t n) {
    struct cf_story s;
    struct cf_error e;
    char *copy = malloc(n ? n : 1);
    if (!copy) return;
    memcpy(copy, file, n);
    if (!cf_story_parse(&s, copy, n, "the journal", &e)) {
        if (s.whole > n || s.n > j->n || (s.n && memcmp(s.records, j->bytes, s.n) != 0)) abort();
        if (!s.n_words || s.words[s.n_words]) abort();
    }
    cf_story_free(&s);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cf_journal j;
    struct cf_error e;
    struct stat s;
    char path[64];
    int fd = size < 2 ? -1 : memfd_create("journal", MFD_CLOEXEC);
    if (fd < 0) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (cf_journal_open(&j, path, &e)) abort();
    size_t records = fill(&j, data + 2, size - 2);
    if (fstat(fd, &s)) abort();
    size_t n = (size_t)s.st_size;
    char *file = malloc(n);
    if (file && pread(fd, file, n, 0) != (ssize_t)n) abort();
    if (file) compare(&j, file, n, records);
    if (file) read_back(&j, file, n), read_back(&j, file, (data[0] + 256u * data[1]) % (n + 1));
    free(file);
    read_part(&j, (data[0] + 256u * data[1]) % (j.n + 1));
    cf_journal_close(&j, true);
    close(fd);
    return 0;
}
