/* The bytes of one file's header, in order, by pread into a buffer. Nothing here believes a length that the rest of the
 * file could not hold. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "node/gguf/internal.h"

int cf__bad(const struct cf__scan *c, enum cf_code code, const char *format, ...) {
    char text[384];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return cf_fail(c->e, code, "%s: %s: %s", c->file->path, c->field, text);
}

const char *cf__printable(char *buf, size_t size, const char *text, size_t length) {
    size_t n = length < size - 1 ? length : size - 1;
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)text[i];
        buf[i] = (char)(b < 0x20 || b == 0x7f ? '?' : b);
    }
    buf[n] = 0;
    return buf;
}

void cf__scan_finish(struct cf__scan *c) {
    XXH64_update(c->hash, c->buffer, c->at);
    memmove(c->buffer, c->buffer + c->at, c->filled - c->at);
    c->filled -= c->at;
    c->at = 0;
}

static int refill(struct cf__scan *c) {
    cf__scan_finish(c);
    ssize_t n;
    do
        n = pread(c->file->fd, c->buffer, sizeof c->buffer, (off_t)c->pos);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return cf__bad(c, CF_ERR_FILE, "cannot read at byte %llu: %s", (unsigned long long)c->pos, strerror(errno));
    if (n == 0) return cf__bad(c, CF_ERR_FORMAT, "the file ends at byte %llu", (unsigned long long)c->pos);
    c->filled = (size_t)n;
    return 0;
}

int cf__take(struct cf__scan *c, void *dst, size_t n) {
    if (n > cf__left(c)) {
        return cf__bad(c, CF_ERR_FORMAT,
            "needs %zu bytes from byte %llu on, but the file ends at byte %llu (truncated?)", n,
            (unsigned long long)c->pos, (unsigned long long)c->file->size);
    }
    unsigned char *to = dst;
    while (n) {
        if (c->at == c->filled && refill(c)) return -1;
        size_t m = c->filled - c->at < n ? c->filled - c->at : n;
        memcpy(to, c->buffer + c->at, m);
        c->at += m;
        c->pos += m;
        to += m;
        n -= m;
    }
    return 0;
}

int cf__take_string(struct cf__scan *c, size_t limit, struct cf_gguf_string *s) {
    uint64_t length;
    if (cf__take(c, &length, sizeof length)) return -1;
    if (length > limit)
        return cf__bad(
            c, CF_ERR_LIMIT, "a string of %llu bytes; at most %zu are allowed", (unsigned long long)length, limit);
    if (length > cf__left(c)) {
        return cf__bad(c, CF_ERR_FORMAT,
            "a string of %llu bytes, but only %llu bytes of the file are left (truncated?)", (unsigned long long)length,
            (unsigned long long)cf__left(c));
    }
    char *text = cf__pool_alloc(c->pool, (size_t)length + 1, 1);
    if (!text) return cf__bad(c, CF_ERR_MEMORY, "no memory for a string of %llu bytes", (unsigned long long)length);
    if (cf__take(c, text, (size_t)length)) return -1;
    text[length] = 0;
    *s = (struct cf_gguf_string){text, (size_t)length};
    return 0;
}
