/* Tensor bytes: any part of a tensor by pread, through the page cache or, when asked for, past it (O_DIRECT). See
 * gguf.h.
 *
 * A direct read wants address, offset and size in whole blocks. So it takes the blocks around the bytes that are
 * wanted; at the end of the file the kernel gives what there is. Sources: open(2) on O_DIRECT, statx(2) on
 * STATX_DIOALIGN. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "node/gguf/internal.h"

enum { READ_AHEAD = 16 << 20 }; /* bytes behind the header that the kernel may have read on its own */

static int check_part(const struct cf_gguf *g, const struct cf_gguf_tensor *t, uint64_t offset, size_t n,
    const struct cf__file **file, struct cf_error *e) {
    const struct cf__file *f = *file = &g->files[t->file];
    if (offset <= t->bytes && n <= t->bytes - offset) return 0;
    return cf_fail(e, CF_ERR_LIMIT, "%s: tensor %s: %zu bytes from byte %" PRIu64 " asked for, but it has %" PRIu64,
        f->path, t->name, n, offset, t->bytes);
}

/* Reads bytes [at, at + n) and at most up to at + room. unit: what a call must begin at a multiple of. */
static int read_all(const struct cf__file *f, int fd, const char *name, uint64_t at, size_t n, size_t room, size_t unit,
    void *buf, struct cf_error *e) {
    char *to = buf;
    size_t got = 0;
    while (got < n) {
        size_t begin = got - got % unit; /* a call that was cut short inside a block begins there again */
        ssize_t k = pread(fd, to + begin, room - begin, (off_t)(at + begin));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return cf_fail(e, CF_ERR_FILE, "%s: tensor %s: %s", f->path, name, strerror(errno));
        if (begin + (size_t)k <= got)
            return cf_fail(e, CF_ERR_FILE, "%s: tensor %s: the file became shorter while it was open", f->path, name);
        got = begin + (size_t)k;
    }
    return 0;
}

int cf_gguf_read(
    const struct cf_gguf *g, const struct cf_gguf_tensor *t, uint64_t offset, void *buf, size_t n, struct cf_error *e) {
    const struct cf__file *f;
    if (check_part(g, t, offset, n, &f, e)) return -1;
    if (g->fill) return g->fill(g->fill_ctx, t, offset, buf, n, e);
    return read_all(f, f->fd, t->name, t->offset + offset, n, n, 1, buf, e);
}

int cf_gguf_read_file(const struct cf_gguf *g, uint32_t file, uint64_t at, void *buf, size_t n, struct cf_error *e) {
    const struct cf__file *f = &g->files[file];
    return read_all(f, f->fd, "(any)", at, n, n, 1, buf, e);
}

int cf_gguf_fetch(
    const struct cf_gguf *g, const struct cf_gguf_part *part, void *buf, const char **data, struct cf_error *e) {
    const struct cf__file *f;
    if (check_part(g, part->t, part->offset, part->n, &f, e)) return -1;
    if (g->fill) {
        *data = buf;
        return g->fill(g->fill_ctx, part->t, part->offset, buf, part->n, e);
    }
    uint64_t at = part->t->offset + part->offset;
    struct cf__span s;
    if (part->cached || cf__span_of(g, part, &s)) {
        *data = buf;
        return read_all(f, f->fd, part->t->name, at, part->n, part->n, 1, buf, e);
    }
    *data = (const char *)buf + s.before;
    return read_all(f, s.fd, part->t->name, s.at, s.before + part->n, s.bytes, g->direct_align, buf, e);
}

int cf__span_of(const struct cf_gguf *g, const struct cf_gguf_part *part, struct cf__span *s) {
    uint64_t at = part->t->offset + part->offset, unit = g->direct_align;
    if (!unit || part->offset > part->t->bytes || part->n > part->t->bytes - part->offset) return -1;
    s->fd = g->files[part->t->file].direct_fd;
    s->before = (size_t)(at % unit);
    s->at = at - s->before;
    s->bytes = (s->before + part->n + unit - 1) / unit * unit;
    return 0;
}

size_t cf_gguf_align(const struct cf_gguf *g) {
    return g->direct_align ? g->direct_align : sizeof(max_align_t);
}

size_t cf_gguf_slack(const struct cf_gguf *g) {
    return g->direct_align ? 2 * g->direct_align : 0;
}

bool cf_gguf_is_direct(const struct cf_gguf *g) {
    return g->direct_align != 0;
}

/* ---- direct reads ---- */

/* What addresses, offsets and sizes must be multiples of; 0: the file system says that it does no direct reads. A page
 * holds whole blocks wherever the kernel does not say otherwise. */
static size_t alignment_of(int fd) {
    size_t unit = (size_t)sysconf(_SC_PAGESIZE);
#ifdef STATX_DIOALIGN
    struct statx x;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) || !(x.stx_mask & STATX_DIOALIGN)) return unit;
    if (!x.stx_dio_offset_align) return 0;
    if (x.stx_dio_offset_align > unit) unit = x.stx_dio_offset_align;
    if (x.stx_dio_mem_align > unit) unit = x.stx_dio_mem_align;
#else
    (void)fd;
#endif
    return unit;
}

static int refuse(const struct cf__file *f, const char *why, struct cf_error *e) {
    return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: no direct reads: %s", f->path, why);
}

/* Some file systems open such a file and refuse the first read. */
static int try_read(const struct cf__file *f, size_t unit, struct cf_error *e) {
    void *block = aligned_alloc(unit, unit);
    if (!block) return cf_fail(e, CF_ERR_MEMORY, "%s: no memory", f->path);
    ssize_t n = pread(f->direct_fd, block, unit, 0);
    int cause = errno;
    free(block);
    return n > 0 ? 0 : refuse(f, n < 0 ? strerror(cause) : "nothing could be read", e);
}

static int open_direct(struct cf__file *f, size_t *unit, struct cf_error *e) {
    struct statfs s;
    if (!fstatfs(f->fd, &s) && (s.f_type == TMPFS_MAGIC || s.f_type == RAMFS_MAGIC))
        return refuse(f, "the file lies in memory (tmpfs)", e);
    f->direct_fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT);
    if (f->direct_fd < 0) return refuse(f, strerror(errno), e);
    struct stat was, is;
    if (fstat(f->fd, &was) || fstat(f->direct_fd, &is) || was.st_dev != is.st_dev || was.st_ino != is.st_ino)
        return refuse(f, "another file has taken its name", e);
    size_t wants = alignment_of(f->direct_fd);
    if (!wants || (wants & (wants - 1))) return refuse(f, "the file system does none", e);
    if (wants > *unit) *unit = wants;
    return try_read(f, wants, e);
}

int cf_gguf_direct(struct cf_gguf *g, struct cf_error *e) {
    if (g->direct_align) return 0;
    size_t unit = 1;
    int rc = 0;
    for (uint32_t i = 0; !rc && i < g->n_files; i++)
        rc = open_direct(&g->files[i], &unit, e);
    for (uint32_t i = 0; i < g->n_files; i++) {
        struct cf__file *f = &g->files[i];
        if (!rc) {
            /* Random: what still goes through the cache brings no neighbours along. */
            posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
            posix_fadvise(f->fd, 0, (off_t)f->data + READ_AHEAD, POSIX_FADV_DONTNEED);
        } else if (f->direct_fd >= 0) {
            close(f->direct_fd);
            f->direct_fd = -1;
        }
    }
    if (!rc) g->direct_align = unit;
    return rc;
}

/* ---- hints ---- */

/* Whole pages, also those that the part shares with its neighbours: the kernel spares a page that is not wholly named.
 */
static void advise(const struct cf_gguf *g, const struct cf_gguf_part *p, int advice) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), first = p->t->offset + p->offset, last = first + p->n;
    first -= first % page, last = (last + page - 1) / page * page;
    posix_fadvise(g->files[p->t->file].fd, (off_t)first, (off_t)(last - first), advice);
}

void cf_gguf_soon(const struct cf_gguf *g, const struct cf_gguf_part *part) {
    advise(g, part, POSIX_FADV_WILLNEED);
}

void cf_gguf_done(const struct cf_gguf *g, const struct cf_gguf_part *part) {
    advise(g, part, POSIX_FADV_DONTNEED);
}
