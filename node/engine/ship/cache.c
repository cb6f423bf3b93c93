/* The cache of a host: FOLDER/KEY/NAME.gguf, sparse and of the model's size (one for each file of a split set), and
 * FOLDER/KEY/map: four numbers (magic, key, blocks, bytes of a block), then the XXH64 of each block, 0 where there is
 * none. A block is written before its hash, so a hash never speaks of bytes that were not written; what a crash of the
 * whole machine makes of the two is found by hashing. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include "node/engine/ship/internal.h"

static const uint64_t MAGIC = 0x3130504948534643; /* "CFSHIP01" */
static const uint64_t MOST_BYTES = (uint64_t)1 << 50;
enum { MOST_FILES = 512, HEAD = 4 };

uint64_t cf__block_hash(const void *data, size_t n) {
    uint64_t h = XXH64(data, n, 0);
    return h ? h : 1;
}

/* ---- names ---- */

/* NULL if neither is set. */
static char *default_folder(void) {
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *folder = NULL;
    if (base && *base == '/') return asprintf(&folder, "%s/coffer", base) < 0 ? NULL : folder;
    if (home && *home == '/') return asprintf(&folder, "%s/.cache/coffer", home) < 0 ? NULL : folder;
    return NULL;
}

/* What rank 0 calls a file becomes a name in our folder, and nothing else. */
static bool is_plain_name(const char *name) {
    return *name && *name != '.' && !strchr(name, '/') && strlen(name) < 256;
}

static int name_file(struct cf__cache *c, const Cf__ShipFile *f, struct cf_error *e) {
    struct cf__cache_file *mine = &c->files[c->n_files];
    if (!is_plain_name(f->name) || f->bytes > MOST_BYTES)
        return cf_fail(e, CF_ERR_FORMAT, "rank 0 calls a model file of %" PRIu64 " bytes %.100s", f->bytes, f->name);
    *mine = (struct cf__cache_file){.fd = -1, .bytes = f->bytes, .first = c->n_blocks};
    c->n_blocks += (f->bytes + CF__BLOCK - 1) / CF__BLOCK;
    c->n_files++;
    if (asprintf(&mine->path, "%s/%s", c->folder, f->name) < 0) mine->path = NULL;
    return mine->path ? 0 : cf_fail(e, CF_ERR_MEMORY, "out of memory");
}

int cf__cache_name(struct cf__cache *c, const Cf__ShipModel *m, const char *folder, struct cf_error *e) {
    c->map = -1;
    if (!m->n_files || m->n_files > MOST_FILES) return cf_fail(e, CF_ERR_FORMAT, "a model of %zu files", m->n_files);
    char *base = folder ? strdup(folder) : default_folder();
    if (!base) return cf_fail(e, CF_ERR_FILE, "--ship needs a folder for the model: set XDG_CACHE_HOME or HOME");
    if (asprintf(&c->folder, "%s/%016" PRIx64, base, m->key) < 0) c->folder = NULL;
    free(base);
    c->files = calloc(m->n_files, sizeof *c->files);
    if (!c->folder || !c->files) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < m->n_files; i++)
        if (name_file(c, m->files[i], e)) return -1;
    return 0;
}

/* ---- files ---- */

static int failed(const char *path, struct cf_error *e) {
    return cf_fail(e, CF_ERR_FILE, "%s: %s", path, strerror(errno));
}

static int make_folders(char *path, struct cf_error *e) {
    for (char *at = path + 1;; at++) {
        if (*at && *at != '/') continue;
        char was = *at;
        *at = '\0';
        int rc = mkdir(path, 0700);
        bool there = rc == 0 || errno == EEXIST;
        if (!there) failed(path, e);
        *at = was;
        if (!there) return -1;
        if (!was) return 0;
    }
}

static int write_all(int fd, const char *path, const void *data, size_t n, uint64_t at, struct cf_error *e) {
    for (size_t done = 0; done < n;) {
        ssize_t k = pwrite(fd, (const char *)data + done, n - done, (off_t)(at + done));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return failed(path, e);
        done += (size_t)k;
    }
    return 0;
}

static bool read_all(int fd, void *data, size_t n, uint64_t at) {
    for (size_t done = 0; done < n;) {
        ssize_t k = pread(fd, (char *)data + done, n - done, (off_t)(at + done));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        done += (size_t)k;
    }
    return true;
}

static size_t map_bytes(const struct cf__cache *c) {
    return c->n_blocks * sizeof(uint64_t);
}

static int open_map(struct cf__cache *c, struct cf_error *e) {
    char path[4096];
    snprintf(path, sizeof path, "%s/map", c->folder);
    c->map = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    c->hash = calloc(c->n_blocks + 1, sizeof *c->hash);
    if (!c->hash) return cf_fail(e, CF_ERR_MEMORY, "out of memory");
    return c->map < 0 ? failed(path, e) : 0;
}

int cf__cache_read_map(struct cf__cache *c, uint64_t key, struct cf_error *e) {
    uint64_t head[HEAD], want[HEAD] = {MAGIC, key, c->n_blocks, CF__BLOCK};
    struct stat st;
    if (fstat(c->map, &st)) return failed(c->folder, e);
    uint64_t whole = sizeof head + map_bytes(c);
    bool good =
        (uint64_t)st.st_size == whole && read_all(c->map, head, sizeof head, 0) && !memcmp(head, want, sizeof head);
    if (good && read_all(c->map, c->hash, map_bytes(c), sizeof head)) return 0;
    memset(c->hash, 0, map_bytes(c));
    if (ftruncate(c->map, 0) || ftruncate(c->map, (off_t)whole)) return failed(c->folder, e);
    return write_all(c->map, c->folder, want, sizeof want, 0, e);
}

int cf__cache_open(struct cf__cache *c, struct cf_error *e) {
    if (make_folders(c->folder, e) || open_map(c, e)) return -1;
    for (uint32_t i = 0; i < c->n_files; i++) {
        struct cf__cache_file *f = &c->files[i];
        struct stat st;
        f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (f->fd < 0 || fstat(f->fd, &st)) return failed(f->path, e);
        if ((uint64_t)st.st_size != f->bytes && ftruncate(f->fd, (off_t)f->bytes)) return failed(f->path, e);
    }
    return 0;
}

bool cf__cache_lock(struct cf__cache *c) {
    return flock(c->map, LOCK_EX | LOCK_NB) == 0 ||
           errno != EWOULDBLOCK; /* a file system without locks has no rivals */
}

void cf__cache_unlock(struct cf__cache *c) {
    flock(c->map, LOCK_UN);
}

/* ---- blocks ---- */

size_t cf__cache_block_bytes(const struct cf__cache *c, uint32_t file, uint64_t block) {
    if (file >= c->n_files || block >= (c->files[file].bytes + CF__BLOCK - 1) / CF__BLOCK) return 0;
    uint64_t left = c->files[file].bytes - block * CF__BLOCK;
    return left < CF__BLOCK ? (size_t)left : CF__BLOCK;
}

int cf__cache_look(const struct cf__cache *c, uint32_t file, uint64_t block, void *buf) {
    size_t n = cf__cache_block_bytes(c, file, block);
    uint64_t hash = c->hash[c->files[file].first + block];
    if (!hash) return 0;
    return read_all(c->files[file].fd, buf, n, block * CF__BLOCK) && cf__block_hash(buf, n) == hash ? 1 : -1;
}

int cf__cache_put(
    struct cf__cache *c, uint32_t file, uint64_t block, const void *data, uint64_t hash, struct cf_error *e) {
    const struct cf__cache_file *f = &c->files[file];
    size_t at = f->first + block;
    if (write_all(f->fd, f->path, data, cf__cache_block_bytes(c, file, block), block * CF__BLOCK, e)) return -1;
    c->hash[at] = hash;
    return write_all(c->map, c->folder, &hash, sizeof hash, (HEAD + at) * sizeof hash, e);
}

int cf__cache_room(const struct cf__cache *c, uint64_t bytes, struct cf_error *e) {
    struct statvfs s;
    if (statvfs(c->folder, &s)) return 0;
    uint64_t room = (uint64_t)s.f_bavail * s.f_frsize;
    if (bytes <= room) return 0;
    return cf_fail(e, CF_ERR_FILE,
        "%s: the disk is full: %.1f MB of the model are to come, %.1f MB are free (XDG_CACHE_HOME names another "
        "folder)",
        c->folder, (double)bytes * 1e-6, (double)room * 1e-6);
}

void cf__cache_close(struct cf__cache *c) {
    for (uint32_t i = 0; i < c->n_files; i++) {
        if (c->files[i].fd >= 0) close(c->files[i].fd);
        free(c->files[i].path);
    }
    if (c->folder && c->map >= 0) close(c->map);
    free(c->files);
    free(c->hash);
    free(c->folder);
    *c = (struct cf__cache){.map = -1};
}
