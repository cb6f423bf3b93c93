/* A part of a tensor on its way: begun now, waited for later, so that a thread can pack one part while the disk brings
 * the next. See gguf.h.
 *
 * Direct reads are submitted with the kernel's own io_submit(2), which needs no thread and which containers permit
 * (io_uring is often forbidden). Where that is refused, and for reads through the page cache, all happens in the wait.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "node/gguf/internal.h"

struct cf_gguf_flight {
    const struct cf_gguf *g;
    aio_context_t kernel; /* 0: none */
    struct cf_gguf_part part;
    char *buf;
    bool submitted;
    struct iocb request;
};

int cf_gguf_flight_open(struct cf_gguf_flight **out, const struct cf_gguf *g, struct cf_error *e) {
    struct cf_gguf_flight *f = *out = calloc(1, sizeof *f);
    if (!f) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory", g->path);
    f->g = g;
    if (g->direct_align && syscall(SYS_io_setup, 1, &f->kernel)) f->kernel = 0;
    return 0;
}

void cf_gguf_flight_close(struct cf_gguf_flight *f) {
    if (!f) return;
    if (f->kernel) syscall(SYS_io_destroy, f->kernel); /* waits for what is still under way */
    free(f);
}

void cf_gguf_begin(struct cf_gguf_flight *f, const struct cf_gguf_part *part, void *buf) {
    f->part = *part, f->buf = buf, f->submitted = false;
    struct cf__span s;
    if (!f->kernel || part->cached || cf__span_of(f->g, part, &s)) return;
    f->request = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)s.fd,
        .aio_buf = (uintptr_t)buf,
        .aio_nbytes = s.bytes,
        .aio_offset = (int64_t)s.at};
    struct iocb *list[] = {&f->request};
    f->submitted = syscall(SYS_io_submit, f->kernel, 1, list) == 1;
}

int cf_gguf_end(struct cf_gguf_flight *f, const char **data, struct cf_error *e) {
    struct cf__span s;
    struct io_event event = {.res = 0};
    if (f->submitted) {
        long n;
        while ((n = syscall(SYS_io_getevents, f->kernel, 1, 1, &event, NULL)) < 0 && errno == EINTR)
            ;
        f->submitted = false;
        if (n == 1 && cf__span_of(f->g, &f->part, &s) == 0 && event.res >= (int64_t)(s.before + f->part.n)) {
            *data = f->buf + s.before;
            return 0;
        }
    }
    return cf_gguf_fetch(f->g, &f->part, f->buf, data, e); /* which finds words for what has gone wrong */
}
