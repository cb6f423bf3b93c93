/* The model of `coffer bench --synthetic`: the shape of a known model with weights from `coffer synth`. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "coordinator/commands/bench.h"
#include "coordinator/commands/synth.h"

static const struct shape {
    const char *name;
    int64_t layers, dim, heads, kv_heads, ffn, vocab, ctx;
    bool untied;
    double rope_base, rope_factor; /* 1: no scaling */
} shapes[] = {
    {"llama-15m", 6, 288, 6, 6, 768, 32000, 2048, false, 10000, 1},
    {"llama-1b", 16, 2048, 32, 8, 8192, 128256, 131072, false, 500000, 32},
    {"llama-3b", 28, 3072, 24, 8, 8192, 128256, 131072, false, 500000, 32},
    {"llama-8b", 32, 4096, 32, 8, 14336, 128256, 131072, true, 500000, 8},
    {"llama-70b", 80, 8192, 64, 8, 28672, 128256, 131072, true, 500000, 8},
};

/* "llama-8b:q4_0" -> the command line of synth, all but the file. */
static int read_shape(struct cf__synth *s, const char *text, char type[24], struct cf_error *e) {
    size_t n = strcspn(text, ":");
    char list[160] = "";
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *k = &shapes[i];
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", k->name);
        if (strlen(k->name) != n || strncmp(k->name, text, n)) continue;
        cf__synth_defaults(s);
        snprintf(type, 24, "%s", text[n] ? text + n + 1 : "q8_0");
        s->arch = "llama", s->out = "", s->type = type, s->untied = k->untied;
        s->layers = k->layers, s->dim = k->dim, s->heads = k->heads, s->kv_heads = k->kv_heads, s->ffn = k->ffn;
        s->vocab = k->vocab, s->ctx = k->ctx, s->rope_base = k->rope_base, s->rope_factor = k->rope_factor;
        if (k->rope_factor > 1) s->rope_scaling = "llama3";
        return 0;
    }
    return cf_fail(e, CF_ERR_USAGE, "--synthetic: \"%.40s\" is unknown (%s, and :TYPE)", text, list);
}

int cf__bench_shape_check(struct cf__bench *b, struct cf_error *e) {
    struct cf__synth s;
    char type[24];
    uint64_t bytes;
    if (read_shape(&s, b->synthetic, type, e)) return -1;
    b->n_layers = (uint32_t)s.layers, b->n_embd = (uint32_t)s.dim;
    return cf__synth_measure(&s, &bytes, e);
}

static int check_room(const char *folder, uint64_t bytes, struct cf_error *e) {
    struct statvfs v;
    if (statvfs(folder, &v)) return cf_fail(e, CF_ERR_FILE, "%s: %s", folder, strerror(errno));
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (bytes + (16u << 20) <= room) return 0;
    return cf_fail(e, CF_ERR_FILE, "%s: %.1f GB are free, but the model has %.1f (TMPDIR=FOLDER names another)", folder,
        1e-9 * (double)room, 1e-9 * (double)bytes);
}

static int temporary_path(struct cf__bench_file *f, uint64_t bytes, struct cf_error *e) {
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder) folder = P_tmpdir;
    if (check_room(folder, bytes, e)) return -1;
    snprintf(f->path, sizeof f->path, "%.4000s/coffer-bench-XXXXXX.gguf", folder);
    int fd = mkstemps(f->path, 5);
    if (fd < 0) return cf_fail(e, CF_ERR_FILE, "%s: %s", f->path, strerror(errno));
    close(fd);
    f->temporary = true;
    return 0;
}

int cf__bench_model(
    struct cf__bench_file *f, struct cf__bench *b, const char *path, bool launched, struct cf_error *e) {
    struct cf__synth s;
    char type[24];
    uint64_t bytes = 0;
    if (read_shape(&s, b->synthetic, type, e) || cf__synth_measure(&s, &bytes, e)) return -1;
    if (path) {
        snprintf(f->path, sizeof f->path, "%.4090s", path);
        if (access(path, F_OK) == 0) return 0;
    }
    if (launched)
        return cf_fail(e, CF_ERR_USAGE,
            "under a launcher --synthetic wants -m FILE with the model that every host sees: make it with coffer "
            "synth, "
            "or with coffer bench without launcher");
    if (!path && temporary_path(f, bytes, e)) return -1;
    s.out = f->path;
    cf_terminal_note(b->terminal, "coffer: making %s, %.2f GB, as %s", b->synthetic, 1e-9 * (double)bytes, f->path);
    int rc = cf__synth_make(&s, &bytes, e);
    if (rc && f->temporary) unlink(f->path), f->temporary = false;
    return rc;
}
