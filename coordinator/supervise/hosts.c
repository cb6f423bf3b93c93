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

enum { ASK_MS = 1500, MOST_HOSTS = 4096, MOST_SLOTS = 1 << 16, MOST_BYTES = 1 << 20 };

/* Letters, digits, "._-": what mpirun takes for one; "+n0" is one that it has been given by a scheduler. */
static bool is_name(const char *name, size_t n) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (!n || n >= CF_HOST_NAME || *name == '-') return false;
    for (size_t i = *name == '+'; i < n; i++)
        if (!memchr(letters, name[i], sizeof letters - 1)) return false;
    return true;
}

static int add(struct cf_hosts *h, const char *name, size_t n, int slots, struct cf_error *e) {
    if (!is_name(name, n))
        return cf_fail(e, CF_ERR_USAGE, "'%.*s' is no name of a host (nor an IPv4 address; mpirun takes no others)",
            n < 60 ? (int)n : 60, name);
    for (size_t i = 0; i < h->n; i++) {
        if (strlen(h->at[i].name) != n || memcmp(h->at[i].name, name, n) != 0) continue;
        if (slots > MOST_SLOTS - h->at[i].slots)
            return cf_fail(e, CF_ERR_LIMIT, "more than %d slots of %s", MOST_SLOTS, h->at[i].name);
        return h->at[i].slots += slots, 0;
    }
    if (h->n == MOST_HOSTS) return cf_fail(e, CF_ERR_LIMIT, "more than %d hosts", MOST_HOSTS);
    struct cf_host *more = realloc(h->at, (h->n + 1) * sizeof *more);
    if (!more) return cf_fail(e, CF_ERR_MEMORY, "no memory for hosts");
    h->at = more;
    h->at[h->n] = (struct cf_host){.slots = slots};
    memcpy(h->at[h->n++].name, name, n);
    return 0;
}

static int count(const char *digits, size_t n, int *slots) {
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (digits[i] < '0' || digits[i] > '9') return -1;
        value = 10 * value + digits[i] - '0';
        if (value > MOST_SLOTS) return -1;
    }
    *slots = value;
    return value ? 0 : -1;
}

/* The words behind a name: "slots=4", "slots = 4", and the same with "cpu" or "count", as Open MPI reads them. What
 * other words say is for mpirun alone. slots stays as it is where there is none of these. */
static int read_words(const char *at, int *slots, struct cf_error *e) {
    static const char *const keys[] = {"slots", "cpu", "count"};
    for (at += strspn(at, " \t"); *at; at += strspn(at, " \t")) {
        size_t key = strcspn(at, " \t="), n = 0;
        const char *value = at + key + strspn(at + key, " \t");
        bool has_value = *value == '=';
        if (has_value) value += 1 + strspn(value + 1, " \t");
        if (has_value) n = strcspn(value, " \t");
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            if (strlen(keys[i]) == key && !memcmp(keys[i], at, key) && count(value, n, slots))
                return cf_fail(e, CF_ERR_USAGE, "%s=%.*s: not a number of slots", keys[i], n < 60 ? (int)n : 60, value);
        at = has_value ? value + n : at + key;
    }
    return 0;
}

/* mpirun stops at these as well, in words that do not help. */
static int check_bytes(const char *line, size_t n, struct cf_error *e) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c == '\r' || (i + 2 < n && !memcmp(line + i, "\xef\xbb\xbf", 3)))
            return cf_fail(e, CF_ERR_USAGE,
                "a %s, as Windows writes it: mpirun does not read it (dos2unix mends the file)",
                c == '\r' ? "carriage return" : "byte order mark");
        if ((c < ' ' && c != '\t') || c == 0x7f) return cf_fail(e, CF_ERR_USAGE, "a byte 0x%02x: this is no text", c);
    }
    return 0;
}

static size_t without_comment(const char *line, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (line[i] == '#' || (line[i] == '/' && i + 1 < n && line[i + 1] == '/')) return i;
    return n;
}

static int read_line(struct cf_hosts *h, const char *bytes, size_t n, struct cf_error *e) {
    int slots = 0;
    if (check_bytes(bytes, n, e)) return -1;
    char *line = strndup(bytes, n);
    if (!line) return cf_fail(e, CF_ERR_MEMORY, "no memory for a line");
    const char *name = line + strspn(line, " \t"), *end = name + strcspn(name, " \t");
    bool is_empty = name == end;
    const char *at = memrchr(name, '@', (size_t)(end - name)); /* user@host */
    if (at) name = at + 1;
    int rc = is_empty ? 0 : read_words(end, &slots, e);
    if (!is_empty && !rc) rc = add(h, name, (size_t)(end - name), slots ? slots : 1, e);
    h->listed |= !is_empty && !slots;
    free(line);
    return rc;
}

int cf_hosts_parse(struct cf_hosts *h, const char *file, const char *bytes, size_t n, struct cf_error *e) {
    const char *end = bytes + n;
    for (int number = 1; bytes < end; number++) {
        const char *stop = memchr(bytes, '\n', (size_t)(end - bytes));
        if (!stop) stop = end;
        if (read_line(h, bytes, without_comment(bytes, (size_t)(stop - bytes)), e))
            return cf_fail_in(e, "%s:%d", file, number);
        bytes = stop + (stop < end);
    }
    return h->n ? 0 : cf_fail(e, CF_ERR_USAGE, "%s: there is no host in it", file);
}

static int read_file(struct cf_hosts *h, const char *file, struct cf_error *e) {
    FILE *f = fopen(file, "re");
    char *bytes = f ? malloc(MOST_BYTES) : NULL;
    int rc = 0;
    if (!f) return cf_fail(e, CF_ERR_FILE, "%s: %s", file, strerror(errno));
    size_t n = bytes ? fread(bytes, 1, MOST_BYTES, f) : 0;
    if (!bytes)
        rc = cf_fail(e, CF_ERR_MEMORY, "no memory for %s", file);
    else if (ferror(f))
        rc = cf_fail(e, CF_ERR_FILE, "%s: %s", file, strerror(errno));
    else if (n == MOST_BYTES)
        rc = cf_fail(e, CF_ERR_LIMIT, "%s: more than %d bytes: this is no host file", file, MOST_BYTES - 1);
    else
        rc = cf_hosts_parse(h, file, bytes, n, e);
    free(bytes);
    fclose(f);
    return rc;
}

static int read_list(struct cf_hosts *h, const char *list, struct cf_error *e) {
    for (const char *s = list; *s;) {
        size_t n = strcspn(s, ","), name = strcspn(s, ":,");
        int slots = 1;
        if (memchr(s, '[', n) || (name < n && memchr(s + name + 1, ':', n - name - 1))) name = n; /* IPv6 */
        if (name < n && count(s + name + 1, n - name - 1, &slots))
            return cf_fail(e, CF_ERR_USAGE, "--host %.60s: must be names and slots: a:2,b:1", list);
        if (add(h, s, name, slots, e)) return cf_fail_in(e, "--host %.60s", list);
        s += n + (s[n] == ',');
    }
    return h->n ? 0 : cf_fail(e, CF_ERR_USAGE, "--host names no host");
}

static const char *const list_options[] = {"--host", "-host", "-H", NULL};

bool cf_hosts_names_list(const char *word) {
    for (size_t i = 0; list_options[i]; i++)
        if (!strcmp(word, list_options[i])) return true;
    return false;
}

/* What stands behind one of these words in COFFER_MPIRUN: the last time, or with `all` each time, with commas between;
 * else `text` stays as it is. */
static void find_word(const char *const *names, bool all, char *text, size_t size) {
    const char *mpirun = getenv("COFFER_MPIRUN");
    char *copy = strdup(mpirun ? mpirun : ""), *rest = NULL;
    for (char *word = copy ? strtok_r(copy, " \t", &rest) : NULL; word; word = strtok_r(NULL, " \t", &rest))
        for (size_t i = 0; names[i]; i++) {
            char *value = strcmp(word, names[i]) ? NULL : strtok_r(NULL, " \t", &rest);
            if (!value) continue;
            size_t n = all ? strlen(text) : 0;
            snprintf(text + n, size - n, "%s%s", n ? "," : "", value);
            break;
        }
    free(copy);
}

/* Where Open MPI has them from. What is not understood is mpirun's affair. */
static void open_slurm(struct cf_hosts *h, const char *nodes, const char *tasks) {
    struct cf_error ignored;
    if (cf_hosts_allocated(h, nodes, tasks, &ignored)) cf_hosts_close(h);
    h->listed = false;
    h->borrowed = h->allocated = h->n > 0;
}

int cf_hosts_open(struct cf_hosts *h, const char *file, const char *list, struct cf_error *e) {
    char path[4096];
    *h = (struct cf_hosts){.file = file, .listed = list != NULL};
    if (file && list) return cf_fail(e, CF_ERR_USAGE, "--hostfile and --host: one of them is enough");
    if (list) return read_list(h, list, e);
    if (file) return read_file(h, file, e);
    static const char *const files[] = {"--hostfile", "-hostfile", "--machinefile", "-machinefile", NULL};
    const char *set = getenv("OMPI_MCA_orte_default_hostfile");
    *path = '\0';
    find_word(list_options, true, path, sizeof path); /* mpirun counts hosts of the list among those of a file */
    if (*path) {
        struct cf_error
            ignored; /* mpirun knows more forms: then nothing is known of its hosts, and they are its affair */
        bool known = !read_list(h, path, &ignored);
        if (!known) cf_hosts_close(h);
        h->listed = h->borrowed = known; /* --host takes the place of that word: spawn.c */
        return 0;
    }
    find_word(files, false, path, sizeof path);
    const char *nodes = getenv("SLURM_NODELIST"), *tasks = getenv("SLURM_TASKS_PER_NODE");
    if (!*path && getenv("SLURM_JOBID") && nodes && tasks) return open_slurm(h, nodes, tasks), 0;
    if (!*path && set) snprintf(path, sizeof path, "%s", set);
    int rc = *path ? read_file(h, path, e) : 0;
    h->listed = false; /* mpirun's own affair, then */
    return rc;
}

void cf_hosts_close(struct cf_hosts *h) {
    free(h->at);
    free(h->words);
    *h = (struct cf_hosts){0};
}

void cf_hosts_deal(struct cf_hosts *h, int slots) {
    for (size_t i = 0; i < h->n; i++)
        h->at[i].slots = slots;
    h->listed = true;
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

/* answers[i]: does host i? Lost ones are not asked, nor those that did not answer the first time; and nobody once the
 * time is up: a resolver that is silent takes long for a single name. */
static void ask_all(const struct cf_hosts *h, bool first, struct pollfd *fds, bool *answers) {
    int64_t end = now_ms() + ASK_MS;
    size_t open = 0;
    for (size_t i = 0; i < h->n; i++) {
        bool asked = !h->at[i].lost && (first || h->at[i].answered) && (!first || now_ms() < end);
        int fd = asked ? knock(h->at[i].name) : -2;
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
    if (fds && answers) ask_all(h, first, fds, answers);
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
