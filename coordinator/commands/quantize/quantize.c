/* coffer quantize: a GGUF file with its matrices in another type, chosen as llama.cpp's llama-quantize chooses them
 * (node/quant/mix.h). Tensor by tensor, so that memory stays small; the new file appears when it is whole.
 */
#include "coordinator/commands/quantize/quantize.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "coordinator/cli/bar.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/placement.h"
#include "node/kernels/type.h"
#include "node/quant/mix.h"

struct config {
    const char *output_type, *embedding_type;
    int64_t threads;
    bool pure, leave_output, allow;
};

#define AT(field) offsetof(struct config, field)
static const struct cf_option options[] = {
    {"allow-requantize", 0, CF_OPT_FLAG, AT(allow), NULL,
        "also matrices that are quantised already, which loses more than once", 0, 0, NULL},
    {"leave-output-tensor", 0, CF_OPT_FLAG, AT(leave_output), NULL, "leave output.weight as it is", 0, 0, NULL},
    {"pure", 0, CF_OPT_FLAG, AT(pure), NULL, "one type for all matrices, without the rules of the mix", 0, 0, NULL},
    {"output-tensor-type", 0, CF_OPT_STRING, AT(output_type), "TYPE", "type of output.weight", 0, 0, NULL},
    {"token-embedding-type", 0, CF_OPT_STRING, AT(embedding_type), "TYPE", "type of token_embd.weight", 0, 0, NULL},
    {"threads", 't', CF_OPT_INT, AT(threads), "N", "threads (default one per core, 64 at most); also as last operand",
        0, 4096, NULL},
    {0},
};

/* What was asked for. */
struct request {
    const struct config *c;
    const char *in, *out, *type;
    char *default_out; /* owned */
    const struct cf_mix *mix;
    const struct cf_type *output, *embedding; /* NULL: by the mix */
    uint32_t n_threads;
};

/* What becomes of a tensor. */
struct row {
    const struct cf_gguf_tensor *tensor;
    uint32_t type, wanted; /* wanted: what would not fit its columns, else type */
};

struct work {
    struct request *r;
    struct cf_gguf *g;
    struct cf_mix_model model;
    struct row *rows; /* [n_rows] */
    size_t n_rows;
    uint64_t source_bytes, result_bytes;
    struct cf_bar bar;
};

/* ---- the command line ---- */

static int find_type(const char *flag, const char *name, const struct cf_type **type, struct cf_error *e) {
    *type = NULL;
    if (!name) return 0;
    *type = cf_type_by_name(name);
    return *type ? 0 : cf_fail(e, CF_ERR_USAGE, "%s: unknown type \"%s\" (Q8_0, Q6_K, F16, ...)", flag, name);
}

static int find_mix(struct request *r, struct cf_error *e) {
    char list[256] = "";
    size_t n = 0;
    r->mix = cf_mix_find(r->type);
    if (r->mix && r->mix->plain) return 0;
    if (r->mix)
        return cf_fail(
            e, CF_ERR_UNSUPPORTED, "%s: needs an importance matrix to be of use, and none can be given here", r->type);
    const struct cf_mix *m;
    for (size_t i = 0; (m = cf_mix_at(i)) && n < sizeof list; i++)
        if (m->plain) n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? " " : "", m->name);
    return cf_fail(e, CF_ERR_USAGE, "unknown type \"%s\" (%s)", r->type, list);
}

static uint32_t cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : (uint32_t)CPU_COUNT(&set);
}

/* in [out] TYPE [threads], as llama-quantize has them; without out, a file beside the input. */
static int take_operands(struct request *r, int argc, char **argv, struct cf_error *e) {
    int type_at = argc > 1 && cf_mix_find(argv[1]) && (argc == 2 || strspn(argv[2], "0123456789")) ? 1 : 2;
    if (argc <= type_at || argc > type_at + 2)
        return cf_fail(e, CF_ERR_USAGE, "expected IN.gguf [OUT.gguf] TYPE [THREADS], not %d operands", argc);
    r->in = argv[0];
    r->type = argv[type_at];
    if (argc > type_at + 1) {
        char *end;
        long n = strtol(argv[type_at + 1], &end, 10);
        if (*end || n < 1 || n > 4096)
            return cf_fail(e, CF_ERR_USAGE, "\"%s\" is no number of threads", argv[type_at + 1]);
        r->n_threads = (uint32_t)n;
    }
    if (find_mix(r, e)) return -1;
    if (type_at == 2) {
        r->out = argv[1];
        return 0;
    }
    const char *slash = strrchr(r->in, '/');
    const int folder = slash ? (int)(slash - r->in + 1) : 0;
    size_t size = (size_t)folder + 64;
    r->default_out = malloc(size);
    if (!r->default_out) return cf_fail(e, CF_ERR_MEMORY, "no memory");
    snprintf(r->default_out, size, "%.*sggml-model-%s.gguf", folder, r->in, r->mix->name);
    r->out = r->default_out;
    return 0;
}

static int take_request(struct request *r, const struct config *c, int argc, char **argv, struct cf_error *e) {
    *r = (struct request){.c = c, .n_threads = c->threads ? (uint32_t)c->threads : cores()};
    if (take_operands(r, argc, argv, e) || find_type("--output-tensor-type", c->output_type, &r->output, e) ||
        find_type("--token-embedding-type", c->embedding_type, &r->embedding, e))
        return -1;
    struct stat in, out;
    if (!stat(r->in, &in) && !stat(r->out, &out) && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return cf_fail(e, CF_ERR_USAGE, "%s: is the input itself", r->out);
    return 0;
}

/* ---- which type each tensor gets ---- */

/* A number that is one, or an array with one for each layer: its first. 0 if absent. */
static uint64_t number_of(const struct cf_gguf *g, const char *arch, const char *what) {
    char key[256];
    snprintf(key, sizeof key, "%s.%s", arch, what);
    const struct cf_gguf_value *v = cf_gguf_value(g, key);
    if (v && v->kind == CF_GGUF_ARRAY && v->count && (v->element == CF_GGUF_U32 || v->element == CF_GGUF_I32))
        return *(const uint32_t *)v->array;
    uint32_t n = 0;
    return v && v->kind != CF_GGUF_ARRAY && !cf_gguf_u32(g, key, false, &n, NULL) ? n : 0;
}

static struct cf_mix_model model_of(const struct cf_gguf *g) {
    const char *arch = "";
    (void)cf_gguf_str(g, "general.architecture", false, &arch, NULL);
    uint64_t heads = number_of(g, arch, "attention.head_count"), kv = number_of(g, arch, "attention.head_count_kv");
    return (struct cf_mix_model){.n_layers = (int)(number_of(g, arch, "block_count") & 0xffffff),
        .n_experts = (int)(number_of(g, arch, "expert_count") & 0xffffff),
        .gqa = (uint32_t)(kv ? heads / kv : 1),
        .tied = !cf_gguf_tensor(g, "output.weight")};
}

static uint32_t choose(const struct work *w, const struct cf_gguf_tensor *t) {
    const struct request *r = w->r;
    const bool is_output = !strcmp(t->name, "output.weight"), is_embedding = !strcmp(t->name, "token_embd.weight");
    int layer = -1;
    if (cf_mix_keeps(t->name, t->n_dims) || (is_output && r->c->leave_output)) return t->type;
    if (is_embedding && r->embedding) return r->embedding->id;
    if ((is_output || (is_embedding && w->model.tied)) && r->output) return r->output->id;
    if (r->c->pure) return r->mix->base;
    if (sscanf(t->name, "blk.%d.", &layer) != 1) layer = -1;
    return cf_mix_choose(r->mix, &w->model, t->name, layer);
}

static int plan_tensor(struct work *w, const struct cf_gguf_tensor *t, struct cf_error *e) {
    struct row *row = &w->rows[w->n_rows++];
    *row = (struct row){.tensor = t, .type = choose(w, t)};
    row->wanted = row->type;
    const struct cf_type *from = cf_type_by_id(t->type);
    if (!from)
        return cf_fail(e, CF_ERR_UNSUPPORTED, "%s: tensor %s: type %s can be neither decoded nor copied", w->r->in,
            t->name, cf_type_name(t->type) ? cf_type_name(t->type) : "?");
    if (row->type != t->type) row->type = cf_fallback_type(row->wanted, t->ne[0]);
    if (row->type != t->type && from->quantised && !w->r->c->allow)
        return cf_fail(e, CF_ERR_USAGE,
            "%s: tensor %s is quantised already (%s); start from F16 or F32, or say --allow-requantize", w->r->in,
            t->name, from->name);
    const struct cf_type *to = cf_type_by_id(row->type);
    w->source_bytes += t->bytes;
    w->result_bytes += t->bytes / from->block_bytes * from->block / to->block * to->block_bytes;
    return 0;
}

/* ---- the new file ---- */

/* All values but those that belong to a split set or say what is true no more. */
static int copy_values(struct work *w, struct cf_gguf_writer *out, struct cf_error *e) {
    static const char *const own[] = {"general.file_type", "general.quantization_version", "general.alignment"};
    bool seen[2] = {false, false};
    for (size_t i = 0; i < cf_gguf_n_values(w->g); i++) {
        const struct cf_gguf_value *v = cf_gguf_value_at(w->g, i);
        int status = 0;
        if (!strcmp(v->key, own[0])) {
            seen[0] = true;
            status = cf_gguf_add_u32(out, own[0], w->r->mix->file_type, e);
        } else if (!strcmp(v->key, own[1])) {
            seen[1] = true;
            status = cf_gguf_add_u32(out, own[1], 2, e);
        } else if (strcmp(v->key, own[2]) != 0 && strncmp(v->key, "split.", 6) != 0) {
            status = cf_gguf_add_value(out, v, e);
        }
        if (status) return -1;
    }
    if (!seen[0] && cf_gguf_add_u32(out, own[0], w->r->mix->file_type, e)) return -1;
    return seen[1] ? 0 : cf_gguf_add_u32(out, own[1], 2, e);
}

static void show(void *ctx, uint64_t done) {
    struct work *w = ctx;
    char label[64];
    snprintf(label, sizeof label, "quantizing\t%.1f of %.1f GB", 1e-9 * (double)done, 1e-9 * (double)w->source_bytes);
    cf_bar_draw(&w->bar, w->source_bytes ? (double)done / (double)w->source_bytes * 0.9999 : 1, label);
}

/* A name of a stranger's file, so that it cannot write to the terminal what it likes. */
static const char *printable(const char *name, char *to, size_t room) {
    size_t n = 0;
    for (; name[n] && n + 1 < room; n++)
        to[n] = name[n] < 0x20 || name[n] > 0x7e ? '?' : name[n];
    to[n] = 0;
    return to;
}

static void print_row(struct work *w, size_t i, const struct cf__quantize_error *error) {
    const struct row *row = &w->rows[i];
    const struct cf_gguf_tensor *t = row->tensor;
    char shape[80], name[256];
    int n = snprintf(shape, sizeof shape, "%llu", (unsigned long long)t->ne[0]);
    for (uint32_t k = 1; k < t->n_dims && n < (int)sizeof shape; k++)
        n += snprintf(shape + n, sizeof shape - (size_t)n, " x %llu", (unsigned long long)t->ne[k]);
    cf_bar_clear(&w->bar);
    printf("[%4zu/%4zu] %-36s %18s  %s", i + 1, w->n_rows, printable(t->name, name, sizeof name), shape,
        cf_type_name(t->type));
    if (row->type != t->type) {
        double rmse = sqrt(error->squares / (double)error->elements);
        printf(" -> %s  RMSE %.6g (%.3f %%)", cf_type_name(row->type), rmse,
            error->of_source > 0 ? 100 * sqrt(error->squares / error->of_source) : 0.0);
    }
    if (row->type != row->wanted)
        printf("  instead of %s, whose blocks do not divide %llu columns", cf_type_name(row->wanted),
            (unsigned long long)t->ne[0]);
    putchar('\n');
}

static int write_tensors(struct work *w, struct cf_gguf_writer *out, struct cf_error *e) {
    struct cf__quantize_job job = {.in = w->g, .out = out, .n_threads = w->r->n_threads, .progress = show, .ctx = w};
    struct cf__quantize_error error, sum = {0, 0, 0};
    for (size_t i = 0; i < w->n_rows; i++)
        if (cf_gguf_add_tensor(
                out, w->rows[i].tensor->name, w->rows[i].type, w->rows[i].tensor->n_dims, w->rows[i].tensor->ne, e))
            return -1;
    if (cf_gguf_begin_data(out, e)) return -1;
    for (size_t i = 0; i < w->n_rows; i++) {
        if (cf__quantize_tensor(&job, w->rows[i].tensor, w->rows[i].type, &error, e)) return -1;
        print_row(w, i, &error);
        sum.squares += error.squares;
        sum.of_source += error.of_source;
        sum.elements += error.elements;
    }
    cf_bar_clear(&w->bar);
    printf("%s: %.1f MB -> %s: %.1f MB, %s", w->r->in, 1e-6 * (double)w->source_bytes, w->r->out,
        1e-6 * (double)w->result_bytes, w->r->mix->name);
    if (sum.elements)
        printf(", RMSE %.6g (%.3f %%)", sqrt(sum.squares / (double)sum.elements),
            sum.of_source > 0 ? 100 * sqrt(sum.squares / sum.of_source) : 0.0);
    putchar('\n');
    return 0;
}

static int quantize(struct work *w, struct cf_error *e) {
    struct cf_gguf_writer *out;
    const size_t n = cf_gguf_n_tensors(w->g);
    w->model = model_of(w->g);
    w->rows = calloc(n + 1, sizeof *w->rows);
    if (!w->rows) return cf_fail(e, CF_ERR_MEMORY, "no memory for the list of tensors");
    for (size_t i = 0; i < n; i++)
        if (plan_tensor(w, cf_gguf_tensor_at(w->g, i), e)) return -1;
    if (cf_gguf_writer_open(&out, w->r->out, e)) return -1;
    cf_bar_open(&w->bar);
    int status = copy_values(w, out, e);
    if (!status) status = write_tensors(w, out, e);
    cf_bar_clear(&w->bar);
    return cf_gguf_writer_close(out, !status, status ? NULL : e) || status ? -1 : 0;
}

static int run(void *config, int argc, char **argv) {
    struct request r;
    struct work w = {.r = &r};
    struct cf_error e = {0};
    int status = take_request(&r, config, argc, argv, &e);
    if (!status) status = cf_gguf_open(&w.g, r.in, &e);
    if (!status) {
        status = quantize(&w, &e);
        cf_gguf_close(w.g);
    }
    if (!status && fflush(stdout)) status = cf_fail(&e, CF_ERR_FILE, "cannot write to stdout");
    free(w.rows);
    free(r.default_out);
    return status ? cf__command_failed(&cf_command_quantize, &e) : 0;
}

const struct cf_command cf_command_quantize = {
    .name = "quantize",
    .synopsis = "[options] IN.gguf [OUT.gguf] TYPE [THREADS]",
    .summary = "write a model's matrices in a smaller type",
    .text =
        "TYPE as for llama-quantize, any case: Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, Q3_K_L, Q3_K_M, Q3_K_S, "
        "Q2_K, Q2_K_S, IQ4_XS, IQ4_NL, Q5_1, Q5_0, Q4_1, Q4_0, F16, BF16 or F32; Q3_K, Q4_K and Q5_K are their _M. "
        "Which "
        "matrix gets which type follows llama.cpp's rules: the output head Q6_K, values and down projections more bits "
        "in some layers. Vectors, norms and routers stay as they are; a matrix whose columns a type's blocks of 256 do "
        "not divide gets a type with blocks of 32, and the line of the tensor says so.\n\n"
        "Each tensor is printed with the root of the mean squared error that it takes, and in percent of the root mean "
        "square of its elements. The new file appears when it is whole; the old one is only read. Without OUT.gguf it "
        "is "
        "ggml-model-TYPE.gguf beside IN.gguf.",
    .example = "coffer synth --arch llama --type f16 -o tiny-f16.gguf\n"
               "coffer quantize tiny-f16.gguf tiny-q4_k_m.gguf Q4_K_M",
    .options = options,
    .config_size = sizeof(struct config),
    .run = run,
};
