/* See input.h. */
#include "coordinator/commands/shared/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 1 << 16, MOST = 1 << 30 };

static int read_stream(FILE *f, const char *path, char **text, size_t *n, struct cf_error *e) {
    size_t room = FIRST_ROOM, got;
    *text = malloc(room + 1);
    while (*text && (got = fread(*text + *n, 1, room - *n, f)) > 0) {
        *n += got;
        if (*n < room) continue;
        if (room >= MOST) return cf_fail(e, CF_ERR_LIMIT, "%s: the text is longer than %d bytes", path, MOST);
        char *more = realloc(*text, (room *= 2) + 1);
        if (!more) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory for the text", path);
        *text = more;
    }
    if (!*text) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory for the text", path);
    (*text)[*n] = 0;
    return ferror(f) ? cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno)) : 0;
}

int cf__read_text(const char *path, char **text, size_t *n, struct cf_error *e) {
    *text = NULL, *n = 0;
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!f) return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
    int rc = read_stream(f, f == stdin ? "stdin" : path, text, n, e);
    if (f != stdin) fclose(f);
    return rc;
}
