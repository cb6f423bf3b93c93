/* See journal.h. */
#include "coordinator/supervise/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/supervise/story.h"

enum { SYNC_MS = 1000 };

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Once: then there is no file any more. */
static void lost(struct cf_journal *j, int why) {
    fprintf(stderr,
        "coffer: cannot write the journal %s: %s: from here on it is kept in memory alone, so the answer survives the "
        "loss of ranks and hosts, but not that of this process\n",
        j->path, strerror(why));
    close(j->fd);
    j->fd = -1;
}

static void write_file(struct cf_journal *j, const char *bytes, size_t n) {
    while (j->fd >= 0 && n) {
        ssize_t done = write(j->fd, bytes, n);
        if (done < 0 && errno != EINTR) lost(j, errno);
        if (done > 0) bytes += done, n -= (size_t)done;
    }
}

static void sync_file(struct cf_journal *j) {
    int64_t now = now_ms();
    if (j->fd < 0 || now - j->synced_ms < SYNC_MS) return;
    j->synced_ms = now;
    if (fdatasync(j->fd) && errno != EINVAL && errno != EROFS) lost(j, errno); /* a device or pipe has no disk */
}

/* Folder and file name of a journal that nobody named. */
static int choose_path(struct cf_journal *j) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char folder[2048], date[32];
    time_t now = time(NULL);
    struct tm local;
    if (state && *state == '/')
        snprintf(folder, sizeof folder, "%.1900s", state);
    else if (home && *home == '/')
        snprintf(folder, sizeof folder, "%.1900s/.local/state", home);
    else
        return errno = ENOENT, -1;
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(folder, 0700);
        *slash = '/';
    }
    mkdir(folder, 0700);
    strcat(folder, "/coffer");
    snprintf(j->path, sizeof j->path, "%s", folder);
    if (mkdir(folder, 0700) && errno != EEXIST) return -1;
    strftime(date, sizeof date, "%Y%m%d-%H%M%S", localtime_r(&now, &local));
    snprintf(j->path, sizeof j->path, "%s/%s-%d.journal", folder, date, (int)getpid());
    return 0;
}

/* Locks the file. True: another run writes it. Where a file system knows no locks nobody can tell; devices may be
 * shared. */
static bool is_taken(const struct cf_journal *j) {
    struct stat s;
    return !fstat(j->fd, &s) && S_ISREG(s.st_mode) && flock(j->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
}

int cf_journal_open(struct cf_journal *j, const char *path, struct cf_error *e) {
    *j = (struct cf_journal){.fd = -1, .named = path != NULL, .synced_ms = now_ms()};
    if (path) snprintf(j->path, sizeof j->path, "%s", path);
    if (path || !choose_path(j)) /* A pipe without a reader is refused, not waited for. */
        j->fd = open(path ? path : j->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    struct stat s;
    if (j->fd >= 0 && path && !fstat(j->fd, &s) && S_ISREG(s.st_mode) && s.st_size)
        return cf_fail(e, CF_ERR_USAGE,
            "--journal %s: it exists already, and may be all that is left of a run: go on with that (coffer resume), "
            "remove it, or name another",
            path);
    if (j->fd < 0 && path) return cf_fail(e, CF_ERR_FILE, "--journal %s: %s", path, strerror(errno));
    if (j->fd < 0)
        fprintf(stderr, "coffer: no place for a journal (%s: %s): it is kept in memory alone (--journal FILE)\n",
            *j->path ? j->path : "neither XDG_STATE_HOME nor HOME is set", strerror(errno));
    if (j->fd >= 0 && is_taken(j)) return cf_fail(e, CF_ERR_USAGE, "--journal %s: another run writes to it", j->path);
    write_file(j, CF_JOURNAL_HEAD, sizeof CF_JOURNAL_HEAD - 1);
    return 0;
}

int cf_journal_reopen(struct cf_journal *j, const char *path, bool named, struct cf_story *s, struct cf_error *e) {
    *j = (struct cf_journal){.fd = -1, .named = named, .synced_ms = now_ms()};
    *s = (struct cf_story){0};
    snprintf(j->path, sizeof j->path, "%s", path);
    j->fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY);
    if (j->fd < 0) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    if (is_taken(j)) return cf_fail(e, CF_ERR_USAGE, "%s: its run is still going on", path);
    if (cf_story_read(s, j->fd, path, e)) return -1;
    if (ftruncate(j->fd, (off_t)s->whole)) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    j->bytes = s->records, j->n = j->room = s->n;
    s->records = NULL, s->n = 0;
    return 0;
}

void cf_journal_close(struct cf_journal *j, bool keep) {
    j->synced_ms = 0;
    sync_file(j);
    if (j->fd >= 0 && keep) fprintf(stderr, "coffer: the journal is %s (coffer resume goes on with it)\n", j->path);
    if (j->fd >= 0 && !j->named && !keep) unlink(j->path);
    if (j->fd >= 0 && close(j->fd) && (keep || j->named))
        fprintf(stderr, "coffer: cannot write the journal %s: %s\n", j->path, strerror(errno));
    free(j->bytes);
    *j = (struct cf_journal){.fd = -1};
}

int cf_journal_add(struct cf_journal *j, const char *word, const char *text, size_t n) {
    size_t length = strlen(word), all = length + n + 2;
    if (all > j->room - j->n) {
        size_t room = 2 * (j->room + all) + 4096;
        char *more = realloc(j->bytes, room);
        if (!more) return -1;
        j->bytes = more;
        j->room = room;
    }
    char *at = j->bytes + j->n;
    memcpy(at, word, length);
    at[length] = ' ';
    if (n) memcpy(at + length + 1, text, n);
    at[all - 1] = '\n';
    j->n += all;
    write_file(j, at, all);
    sync_file(j);
    return 0;
}

void cf_journal_remark(struct cf_journal *j, const char *word, const char *text, size_t n) {
    char piece[8192];
    size_t at = (size_t)snprintf(piece, sizeof piece / 2, "%s ", word);
    j->holds_input |= !strcmp(word, "input");
    for (size_t i = 0; i < n; i++) {
        if (at + 3 > sizeof piece) write_file(j, piece, at), at = 0;
        if (text[i] == '\n' || text[i] == '\\') piece[at++] = '\\';
        piece[at++] = text[i] == '\n' ? 'n' : text[i];
    }
    piece[at++] = '\n';
    write_file(j, piece, at);
}

void cf_journal_start(struct cf_journal *j, int start) {
    char text[16];
    j->n = cf_story_without_rest(j->bytes, j->n);
    cf_journal_remark(j, "start", text, (size_t)snprintf(text, sizeof text, "%d", start));
    j->synced_ms -= SYNC_MS;
    sync_file(j);
}
