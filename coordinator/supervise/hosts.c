/* See hosts.h. */
#include "coordinator/supervise/hosts.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ASK_MS = 1500, MOST_HOSTS = 4096, MOST_SLOTS = 1 << 16 };

static int add(struct cf_hosts *h, const char *name, size_t n, int slots, struct cf_error *e) {
    if (!n || n >= CF_HOST_NAME) return cf_fail(e, CF_ERR_USAGE, "%.60s: this is no name of a host", name);
    for (size_t i = 0; i < h->n; i++)
        if (strlen(h->at[i].name) == n && !memcmp(h->at[i].name, name, n)) return h->at[i].slots += slots, 0;
    if (h->n == MOST_HOSTS) return cf_fail(e, CF_ERR_LIMIT, "more than %d hosts", MOST_HOSTS);
    struct cf_host *more = realloc(h->at, (h->n + 1) * sizeof *more);
    if (!more) return cf_fail(e, CF_ERR_MEMORY, "no memory for hosts");
    h->at = more;
    h->at[h->n] = (struct cf_host){.slots = slots};
    memcpy(h->at[h->n++].name, name, n);
    return 0;
}

static int count(const char *text, int *slots) {
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || n < 1 || n > MOST_SLOTS) return -1;
    *slots = (int)n;
    return 0;
}

static int read_line(struct cf_hosts *h, const char *file, int number, char *line, struct cf_error *e) {
    char *rest = NULL;
    int slots = 1;
    line[strcspn(line, "#\r\n")] = '\0';
    char *name = strtok_r(line, " \t", &rest);
    if (!name) return 0;
    for (char *word; (word = strtok_r(NULL, " \t", &rest));)
        if (!strncmp(word, "slots=", 6) && count(word + 6, &slots))
            return cf_fail(e, CF_ERR_USAGE, "%s:%d: %s: not a number of slots", file, number, word);
    const char *at = strrchr(name, '@'); /* user@host */
    name = at ? name + (at - name) + 1 : name;
    return add(h, name, strlen(name), slots, e);
}

static int read_file(struct cf_hosts *h, const char *file, struct cf_error *e) {
    FILE *f = fopen(file, "re");
    char line[1024];
    int rc = 0;
    if (!f) return cf_fail(e, CF_ERR_FILE, "%s: %s", file, strerror(errno));
    for (int number = 1; !rc && fgets(line, sizeof line, f); number++)
        rc = read_line(h, file, number, line, e);
    fclose(f);
    if (!rc && !h->n) rc = cf_fail(e, CF_ERR_USAGE, "%s: there is no host in it", file);
    return rc;
}

static int read_list(struct cf_hosts *h, const char *list, struct cf_error *e) {
    for (const char *s = list; *s;) {
        size_t n = strcspn(s, ","), name = strcspn(s, ":,");
        int slots = 1;
        if (s[name] == ':' && count(s + name + 1, &slots))
            return cf_fail(e, CF_ERR_USAGE, "--host %.60s: must be names and slots: a:2,b:1", list);
        if (add(h, s, name, slots, e)) return -1;
        s += n + (s[n] == ',');
    }
    return h->n ? 0 : cf_fail(e, CF_ERR_USAGE, "--host names no host");
}

/* A host file that mpirun knows of without us; "" if there is none. */
static void find_file(char *path, size_t size) {
    static const char *const names[] = {"--hostfile", "-hostfile", "--machinefile", "-machinefile"};
    const char *mpirun = getenv("COFFER_MPIRUN"), *set = getenv("OMPI_MCA_orte_default_hostfile");
    char *copy = strdup(mpirun ? mpirun : ""), *rest = NULL;
    snprintf(path, size, "%s", set ? set : "");
    for (char *word = copy ? strtok_r(copy, " \t", &rest) : NULL; word; word = strtok_r(NULL, " \t", &rest))
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            char *value = strcmp(word, names[i]) ? NULL : strtok_r(NULL, " \t", &rest);
            if (value) snprintf(path, size, "%s", value);
        }
    free(copy);
}

int cf_hosts_open(struct cf_hosts *h, const char *file, const char *list, struct cf_error *e) {
    char path[4096];
    *h = (struct cf_hosts){.file = file, .listed = list != NULL};
    if (file && list) return cf_fail(e, CF_ERR_USAGE, "--hostfile and --host: one of them is enough");
    if (list) return read_list(h, list, e);
    if (file) return read_file(h, file, e);
    find_file(path, sizeof path);
    return *path ? read_file(h, path, e) : 0;
}

void cf_hosts_close(struct cf_hosts *h) {
    free(h->at);
    free(h->words);
    *h = (struct cf_hosts){0};
}

int cf_hosts_slots(const struct cf_hosts *h) {
    int slots = 0;
    for (size_t i = 0; i < h->n; i++)
        if (!h->at[i].lost) slots += h->at[i].slots;
    return slots;
}

/* ---- asking ---- */

/* A connection under way; -1: there is an answer already, -2: there can be none. */
static int knock(const char *name) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *a;
    if (getaddrinfo(name, "22", &hints, &a)) return -2;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -1 : connect(fd, a->ai_addr, a->ai_addrlen), why = errno;
    freeaddrinfo(a);
    if (fd >= 0 && rc && why == EINPROGRESS) return fd;
    if (fd >= 0) close(fd);
    return !rc || why == ECONNREFUSED ? -1 : -2;
}

static bool opened(int fd) {
    int why = 0;
    socklen_t n = sizeof why;
    return !getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) && (!why || why == ECONNREFUSED);
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* answers[i]: does host i? Lost ones are not asked. */
static void ask_all(const struct cf_hosts *h, struct pollfd *fds, bool *answers) {
    int64_t end = now_ms() + ASK_MS;
    size_t open = 0;
    for (size_t i = 0; i < h->n; i++) {
        int fd = h->at[i].lost ? -2 : knock(h->at[i].name);
        answers[i] = fd == -1;
        fds[i] = (struct pollfd){.fd = fd < 0 ? -1 : fd, .events = POLLOUT};
        open += fd >= 0;
    }
    for (int64_t left; open && (left = end - now_ms()) > 0;) {
        if (poll(fds, h->n, (int)left) < 0 && errno != EINTR) break;
        for (size_t i = 0; i < h->n; i++) {
            if (fds[i].fd < 0 || !fds[i].revents) continue;
            answers[i] = opened(fds[i].fd);
            close(fds[i].fd);
            fds[i].fd = -1;
            open--;
        }
    }
    for (size_t i = 0; i < h->n; i++)
        if (fds[i].fd >= 0) close(fds[i].fd);
}

size_t cf_hosts_ask(struct cf_hosts *h, bool first) {
    struct pollfd *fds = calloc(h->n + 1, sizeof *fds);
    bool *answers = calloc(h->n + 1, sizeof *answers);
    size_t newly = 0;
    if (fds && answers) ask_all(h, fds, answers);
    for (size_t i = 0; fds && answers && i < h->n; i++) {
        struct cf_host *k = &h->at[i];
        if (first) k->answered = answers[i];
        if (first || k->lost || !k->answered || answers[i]) continue;
        k->lost = true;
        newly++;
    }
    free(fds);
    free(answers);
    h->n_lost += newly;
    return newly;
}

void cf_hosts_forgive(struct cf_hosts *h) {
    for (size_t i = 0; i < h->n; i++)
        h->at[i].lost = false;
    h->n_lost = 0;
}

const char *cf_hosts_list(struct cf_hosts *h) {
    size_t at = 0, size = h->n * (CF_HOST_NAME + 16) + 1;
    free(h->words);
    h->words = NULL;
    if ((!h->listed && !h->n_lost) || !(h->words = calloc(1, size))) return NULL;
    for (size_t i = 0; i < h->n; i++)
        if (!h->at[i].lost)
            at += (size_t)snprintf(h->words + at, size - at, "%s%s:%d", at ? "," : "", h->at[i].name, h->at[i].slots);
    return h->words;
}
