/* coffer inspect: what a GGUF file says of itself: metadata, tensors, sizes by domain; for people (inspect.c) or as
 * JSON (inspect_json.c). Reads the header only.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/look/inspect.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/text/utf8.h"

struct config {
    const char *model;
    int64_t ctx;
    bool full, json;
};

enum { SHOWN_BYTES = 100, SHOWN_ELEMENTS = 8 };

const char *cf_gguf_kind_name(enum cf_gguf_kind kind) {
    static const char *const names[] = {
        "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "?";
}

bool cf_gguf_element(const struct cf_gguf_value *v, size_t i, struct cf_gguf_value *out) {
    *out = (struct cf_gguf_value){.key = v->key, .kind = v->element, .count = 1};
    switch (v->element) {
    case CF_GGUF_U8: out->u = ((const uint8_t *)v->array)[i]; return true;
    case CF_GGUF_I8: out->i = ((const int8_t *)v->array)[i]; return true;
    case CF_GGUF_U16: out->u = ((const uint16_t *)v->array)[i]; return true;
    case CF_GGUF_I16: out->i = ((const int16_t *)v->array)[i]; return true;
    case CF_GGUF_U32: out->u = ((const uint32_t *)v->array)[i]; return true;
    case CF_GGUF_I32: out->i = ((const int32_t *)v->array)[i]; return true;
    case CF_GGUF_F32: out->f = (double)((const float *)v->array)[i]; return true;
    case CF_GGUF_BOOL: out->u = ((const uint8_t *)v->array)[i] != 0; return true;
    case CF_GGUF_STRING: out->s = ((const struct cf_gguf_string *)v->array)[i]; return true;
    case CF_GGUF_U64: out->u = ((const uint64_t *)v->array)[i]; return true;
    case CF_GGUF_I64: out->i = ((const int64_t *)v->array)[i]; return true;
    case CF_GGUF_F64: out->f = ((const double *)v->array)[i]; return true;
    default: return false; /* arrays of arrays */
    }
}

/* In quotes; control characters and bad UTF-8 escaped, so that a file cannot write to the terminal what it likes. */
static void print_string(const struct cf_gguf_string *s, bool full) {
    putchar('"');
    size_t end = full || s->length <= SHOWN_BYTES ? s->length : SHOWN_BYTES;
    for (size_t i = 0; i < end;) {
        unsigned char c = (unsigned char)s->text[i];
        int step = cf__utf8_step((const unsigned char *)s->text + i, s->length - i);
        if (step > 1) {
            fwrite(s->text + i, 1, (size_t)step, stdout);
            i += (size_t)step;
            continue;
        }
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
        i++;
    }
    if (end < s->length)
        printf("...\" (%zu bytes)", s->length);
    else
        putchar('"');
}

static void print_value(const struct cf_gguf_value *v, bool full) {
    switch (v->kind) {
    case CF_GGUF_U8:
    case CF_GGUF_U16:
    case CF_GGUF_U32:
    case CF_GGUF_U64: printf("%" PRIu64, v->u); return;
    case CF_GGUF_I8:
    case CF_GGUF_I16:
    case CF_GGUF_I32:
    case CF_GGUF_I64: printf("%" PRId64, v->i); return;
    case CF_GGUF_F32: printf("%.9g", v->f); return;
    case CF_GGUF_F64: printf("%.17g", v->f); return;
    case CF_GGUF_BOOL: fputs(v->u ? "true" : "false", stdout); return;
    case CF_GGUF_STRING: print_string(&v->s, full); return;
    default: break;
    }
    struct cf_gguf_value element;
    size_t shown = full || v->count < SHOWN_ELEMENTS ? v->count : SHOWN_ELEMENTS;
    putchar('[');
    for (size_t i = 0; i < shown && cf_gguf_element(v, i, &element); i++) {
        if (i) fputs(", ", stdout);
        print_value(&element, full);
    }
    if (shown < v->count)
        printf(", ...] (%zu %s)", v->count, cf_gguf_kind_name(v->element));
    else
        putchar(']');
}

static void print_metadata(const struct cf_gguf *g, bool full) {
    size_t width = 0;
    for (size_t i = 0; i < cf_gguf_n_values(g); i++) {
        size_t length = strlen(cf_gguf_value_at(g, i)->key);
        if (length > width && length <= 48) width = length;
    }
    printf("\nmetadata (%zu)\n", cf_gguf_n_values(g));
    for (size_t i = 0; i < cf_gguf_n_values(g); i++) {
        const struct cf_gguf_value *v = cf_gguf_value_at(g, i);
        printf("  %-*s  %-6s  ", (int)width, v->key, cf_gguf_kind_name(v->kind));
        print_value(v, full);
        putchar('\n');
    }
}

static void print_tensors(const struct cf_gguf *g) {
    size_t width = 4;
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        size_t length = strlen(cf_gguf_tensor_at(g, i)->name);
        if (length > width && length <= 48) width = length;
    }
    printf("\ntensors (%zu)\n", cf_gguf_n_tensors(g));
    if (!cf_gguf_n_tensors(g)) return;
    printf("  %-*s  %-8s  %-24s  %15s\n", (int)width, "name", "type", "shape", "bytes");
    for (size_t i = 0; i < cf_gguf_n_tensors(g); i++) {
        const struct cf_gguf_tensor *t = cf_gguf_tensor_at(g, i);
        char shape[96], type[24];
        cf_shape_text(t, shape, sizeof shape);
        printf(
            "  %-*s  %-8s  %-24s  %15" PRIu64 "\n", (int)width, t->name, cf_type_text(t->type, type), shape, t->bytes);
    }
}

static void print_sizes(const struct cf_sizes *s) {
    printf("\nsizes\n");
    for (enum cf_domain d = 0; d < CF_DOMAINS; d++) {
        if (d == CF_TEMPORAL && !s->tensors[d]) continue;
        printf("  %-10s  ", cf_domain_name(d));
        cf_print_size(stdout, s->bytes[d]);
        printf("  %" PRIu64 " tensors\n", s->tensors[d]);
    }
    printf("  %-10s  ", "all");
    cf_print_size(stdout, s->all_bytes);
    printf("  %" PRIu64 " tensors, %" PRIu64 " bytes\n", s->all_tensors, s->all_bytes);
    if (!s->kv_bytes) return;
    printf("  %-10s  ", cf_domain_name(CF_TEMPORAL));
    cf_print_size(stdout, s->kv_bytes);
    printf("  KV cache, F16, %" PRIu32 " positions of one sequence\n", s->n_ctx);
}

static void print_all(const struct cf_gguf *g, const struct cf_sizes *s, bool full) {
    uint64_t bytes, hash;
    cf_gguf_identity(g, &bytes, &hash);
    printf("file          %s%s\n", cf_gguf_path(g), cf_gguf_files(g) > 1 ? " and its parts" : "");
    printf("files         %" PRIu32 ", %" PRIu64 " bytes, header hash %016" PRIx64 "\n", cf_gguf_files(g), bytes, hash);
    printf("version       %" PRIu32 "\n", cf_gguf_version(g));
    printf("architecture  %s\n", *s->arch ? s->arch : "(none)");
    print_metadata(g, full);
    print_tensors(g);
    print_sizes(s);
}

static int inspect(const struct config *c, struct cf_error *e) {
    struct cf_gguf *g;
    struct cf_sizes sizes;
    if (cf_gguf_open(&g, c->model, e)) return -1;
    int rc = cf_sizes_of(&sizes, g, cf_domain_of, (uint32_t)c->ctx, e);
    if (!rc && c->json)
        rc = cf_inspect_json(g, &sizes, c->full ? SIZE_MAX : SHOWN_ELEMENTS, stdout, e);
    else if (!rc)
        print_all(g, &sizes, c->full);
    cf_gguf_close(g);
    return rc;
}

static int run(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    char path[CF__MODEL_PATH];
    if (argc > 0 && !c->model) c->model = argv[0], argc--, argv++;
    int rc;
    if (argc > 0)
        rc = cf_fail(&e, CF_ERR_USAGE, "unexpected argument '%s'", argv[0]);
    else
        rc = cf__default_model(&c->model, path, &e) ? -1 : inspect(c, &e);
    if (!rc) return 0;
    return cf__command_failed(&cf_command_inspect, &e);
}

static void defaults(void *config) {
    *(struct config *)config = (struct config){0};
}

static const struct cf_option options[] = {
    {.name = "model",
        .letter = 'm',
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, model),
        .arg = "FILE",
        .help = "The GGUF file; may also stand alone."},
    {.name = "full",
        .kind = CF_OPT_FLAG,
        .offset = offsetof(struct config, full),
        .help = "Print long strings and arrays to their end."},
    {.name = "json", .kind = CF_OPT_FLAG, .offset = offsetof(struct config, json), .help = "Print one JSON object."},
    {0},
};
static const struct cf_shared_options shared[] = {{cf__kv_row_options, offsetof(struct config, ctx)}, {0}};

const struct cf_command cf_command_inspect = {
    .name = "inspect",
    .synopsis = "[FILE] [--full] [--json]",
    .summary = "print a model file's metadata, tensors and sizes",
    .text =
        "Prints file, version, architecture, metadata, tensors and the sizes of each domain. Long strings and arrays "
        "are abbreviated unless --full is given. Of a split file name the first part.",
    .example = "coffer inspect model.gguf",
    .options = options,
    .shared = shared,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = run,
};
