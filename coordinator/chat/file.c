/* Conversations as JSON files. See message.h. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/chat/message.h"

enum { MAX_FILE = 256 << 20 };

static json_t *message_to_json(const struct cf_chat_message *m) {
    json_t *o = json_pack("{s:s,s:s%}", "role", cf_chat_role_name(m->role), "content", m->content, m->length);
    if (o && m->thinking && json_object_set_new(o, "thinking", json_string(m->thinking))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *chat_to_json(const struct cf_chat *c) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < c->n; i++) {
        if (!json_array_append_new(list, message_to_json(&c->messages[i]))) continue;
        json_decref(list);
        return NULL;
    }
    return list ? json_pack("{s:o}", "messages", list) : NULL;
}

/* Writes all of it to the disk, or leaves nothing behind. */
static int write_beside(json_t *root, const char *path, char *beside, struct cf_error *e) {
    int fd = mkstemp(beside);
    if (fd < 0) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    mode_t mask = umask(0);
    umask(mask);
    struct stat old; /* who may read the file that is replaced may read the new one */
    fchmod(fd, stat(path, &old) ? 0666 & ~mask : old.st_mode & 0777);
    FILE *f = fdopen(fd, "w");
    errno = 0;
    int bad = !f || json_dumpf(root, f, JSON_INDENT(1)) || fputc('\n', f) == EOF || fflush(f) || fsync(fd);
    int why = errno;
    if (f ? fclose(f) : close(fd)) bad = 1, why = errno;
    if (!bad && !rename(beside, path)) return 0;
    if (!bad) why = errno;
    unlink(beside);
    return cf_fail(e, CF_ERR_FILE, "%s: %s", path, why ? strerror(why) : "cannot be written");
}

int cf_chat_save(const struct cf_chat *c, const char *path, struct cf_error *e) {
    struct stat s;
    if (!stat(path, &s) && !S_ISREG(s.st_mode)) return cf_fail(e, CF_ERR_FILE, "%s: not a regular file", path);
    size_t size = strlen(path) + sizeof ".XXXXXX";
    char *beside = malloc(size);
    json_t *root = beside ? chat_to_json(c) : NULL;
    int rc = -1;
    if (root) {
        snprintf(beside, size, "%s.XXXXXX", path);
        rc = write_beside(root, path, beside, e);
    } else {
        cf_fail(e, CF_ERR_MEMORY, "out of memory");
    }
    json_decref(root);
    free(beside);
    return rc;
}

static int role_by_name(const char *name) {
    for (int r = 0; r < CF_CHAT_ROLES; r++)
        if (name && !strcmp(name, cf_chat_role_name((enum cf_chat_role)r))) return r;
    return -1;
}

static int add_json(struct cf_chat *c, const json_t *o, const char *path, struct cf_error *e) {
    json_t *content = json_object_get(o, "content"), *thinking = json_object_get(o, "thinking");
    const char *role = json_string_value(json_object_get(o, "role"));
    int r = role_by_name(role);
    if (r < 0)
        return cf_fail(e, CF_ERR_FORMAT, "%s: message %zu: role is %.32s, not system, user or assistant", path,
            c->n + 1, role ? role : "missing");
    if (!json_is_string(content))
        return cf_fail(e, CF_ERR_FORMAT, "%s: message %zu: content is no text", path, c->n + 1);
    if (r == CF_CHAT_SYSTEM && c->n)
        return cf_fail(e, CF_ERR_FORMAT, "%s: message %zu: a system message is the first or none", path, c->n + 1);
    if (cf_chat_add(c, (enum cf_chat_role)r, json_string_value(content), json_string_length(content), e)) return -1;
    if (!json_is_string(thinking)) return 0;
    struct cf_chat_message *m = &c->messages[c->n - 1];
    m->thinking = strdup(json_string_value(thinking));
    return m->thinking ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
}

static int read_all(const char *path, char **text, size_t *n, struct cf_error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not stop us */
    struct stat s;
    if (fd < 0) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    int rc = 0;
    ssize_t got = 0;
    if (fstat(fd, &s) || !S_ISREG(s.st_mode))
        rc = cf_fail(e, CF_ERR_FILE, "%s: not a regular file", path);
    else if (s.st_size > MAX_FILE)
        rc = cf_fail(e, CF_ERR_LIMIT, "%s: more than %d MiB", path, MAX_FILE >> 20);
    else if (!(*text = malloc((size_t)s.st_size + 1)))
        rc = cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (*n = 0; !rc && *n < (size_t)s.st_size; *n += (size_t)got)
        if ((got = read(fd, *text + *n, (size_t)s.st_size - *n)) <= 0) break;
    if (!rc && got < 0) rc = cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    close(fd);
    return rc;
}

char *cf_chat_to_text(const struct cf_chat *c) {
    json_t *root = chat_to_json(c);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

int cf_chat_from_text(struct cf_chat *c, const char *text, size_t n, const char *path, struct cf_error *e) {
    json_error_t why;
    int rc = 0;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!root) rc = cf_fail(e, CF_ERR_FORMAT, "%s: line %d: %s", path, why.line, why.text);
    json_t *list = json_is_object(root) ? json_object_get(root, "messages") : root;
    if (!rc && !json_is_array(list)) rc = cf_fail(e, CF_ERR_FORMAT, "%s: there is no list of messages in it", path);
    struct cf_chat read = {0};
    for (size_t i = 0; !rc && i < json_array_size(list); i++)
        rc = add_json(&read, json_array_get(list, i), path, e);
    if (!rc) {
        cf_chat_clear(c);
        *c = read;
    } else {
        cf_chat_clear(&read);
    }
    json_decref(root);
    return rc;
}

int cf_chat_load(struct cf_chat *c, const char *path, struct cf_error *e) {
    char *text = NULL;
    size_t n = 0;
    int rc = read_all(path, &text, &n, e);
    if (!rc) rc = cf_chat_from_text(c, text, n, path, e);
    free(text);
    return rc;
}
