/* See feed.h. */
#include "coordinator/cli/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cf_feed_add(struct cf_feed *f, const char *bytes, size_t n) {
    if (n > f->room - f->n) {
        size_t room = f->room + n + 4096;
        char *more = realloc(f->bytes, room);
        if (!more) return -1;
        f->bytes = more;
        f->room = room;
    }
    if (n) memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
    return 0;
}

void cf_feed_clear(struct cf_feed *f) {
    f->n = f->at = 0;
    f->end = false;
}

void cf_feed_free(struct cf_feed *f) {
    free(f->bytes);
    *f = (struct cf_feed){0};
}

bool cf_feed_waits(const struct cf_feed *f) {
    return f->at < f->n || f->end;
}

bool cf_feed_write(struct cf_feed *f, int fd) {
    while (f->at < f->n) {
        ssize_t done = write(fd, f->bytes + f->at, f->n - f->at);
        if (done < 0 && errno == EAGAIN) return true;
        if (done < 0 && errno != EINTR) return false;
        if (done > 0) f->at += (size_t)done;
    }
    f->at = f->n = 0;
    return !f->end;
}
