/* See error.h. */
#include "proto/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int cf_fail(struct cf_error *e, enum cf_code code, const char *format, ...) {
    if (!e) return -1;
    e->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return -1;
}

int cf_fail_in(struct cf_error *e, const char *format, ...) {
    if (!e) return -1;
    char old[sizeof e->text];
    memcpy(old, e->text, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n + 2 >= sizeof e->text) return -1;
    size_t at = (size_t)n, room = sizeof e->text - at - 3, length = strlen(old);
    if (length > room) length = room; /* a long text loses its end */
    memcpy(e->text + at, ": ", 2);
    memcpy(e->text + at + 2, old, length);
    e->text[at + 2 + length] = 0;
    return -1;
}

const char *cf_code_name(enum cf_code code) {
    static const char *const names[] = {"ok", "usage", "file", "format", "unsupported", "memory", "plan", "peer",
        "numeric", "limit", "interrupted", "system", "lost"};
    return (unsigned)code < sizeof names / sizeof *names ? names[code] : "unknown";
}
