/* See dump.h. */
#include "coordinator/decode/dump.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cf_dump {
    FILE *file; /* NULL after a failure ... */
    int why;    /* ... with this errno */
    const char *path;
};

int cf_dump_open(struct cf_dump **out, const char *path, struct cf_error *e) {
    *out = NULL;
    struct cf_dump *d = calloc(1, sizeof *d);
    if (!d) return cf_fail(e, CF_ERR_MEMORY, "no memory for the dump %s", path);
    d->path = path;
    d->file = fopen(path, "wbe");
    if (!d->file) {
        free(d);
        return cf_fail(e, CF_ERR_FILE, "cannot create %s: %s", path, strerror(errno));
    }
    *out = d;
    return 0;
}

/* Devices and pipes stay where they are. */
static void discard(struct cf_dump *d) {
    struct stat st;
    if (d->file && !fstat(fileno(d->file), &st) && S_ISREG(st.st_mode)) unlink(d->path);
    if (d->file) fclose(d->file);
    d->file = NULL;
}

static int fail(struct cf_dump *d, int why, struct cf_error *e) {
    cf_fail(e, CF_ERR_FILE, "cannot write the logits to %s: %s", d->path, strerror(why));
    d->why = why;
    discard(d);
    return -1;
}

/* Files are little-endian; so is nearly every machine, and then the row goes out as it lies. */
static size_t write_row(FILE *f, const float *logits, size_t n) {
    if (__BYTE_ORDER == __LITTLE_ENDIAN) return fwrite(logits, sizeof *logits, n, f);
    size_t done = 0;
    for (; done < n; done++) {
        uint32_t bits;
        memcpy(&bits, &logits[done], sizeof bits);
        bits = htole32(bits);
        if (fwrite(&bits, sizeof bits, 1, f) != 1) break;
    }
    return done;
}

int cf_dump_row(struct cf_dump *d, const float *logits, size_t n_vocab, struct cf_error *e) {
    if (!d->file) return fail(d, d->why, e);
    if (write_row(d->file, logits, n_vocab) == n_vocab) return 0;
    return fail(d, errno, e);
}

int cf_dump_close(struct cf_dump *d, struct cf_error *e) {
    if (!d) return 0;
    int failed = 0;
    if (d->file && fflush(d->file)) failed = fail(d, errno, e);
    if (d->file && fclose(d->file)) {
        int why = errno;
        unlink(d->path); /* a device would have failed in fflush */
        failed = cf_fail(e, CF_ERR_FILE, "cannot write the logits to %s: %s", d->path, strerror(why));
    }
    free(d);
    return failed;
}

void cf_dump_abandon(struct cf_dump *d) {
    if (!d) return;
    discard(d);
    free(d);
}
