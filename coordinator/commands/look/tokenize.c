/* coffer tokenize: text to token ids on stdout, or ids back to text. Opens the model's header only; never calls MPI. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/commands.h"
#include "coordinator/commands/shared/default_model.h"
#include "coordinator/commands/shared/input.h"
#include "coordinator/commands/shared/placement.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/utf8.h"
#include "node/gguf/gguf.h"

struct config {
    const char *model, *prompt, *file;
    bool ids, bos, special, decode, count;
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.bos = true, .file = "-"};
}

/* The token's text in double quotes; what a terminal would not show is escaped. */
static void print_quoted(const char *text, size_t length) {
    putchar('"');
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        int step = cf__utf8_step((const unsigned char *)text + i, length - i);
        if (step > 1) {
            fwrite(text + i, 1, (size_t)step, stdout);
            i += (size_t)step;
            continue;
        }
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c == '\t')
            fputs("\\t", stdout);
        else if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
        i++;
    }
    puts("\"");
}

static void print_tokens(const struct cf_tokenizer *t, const uint32_t *ids, size_t n) {
    char buf[1024];
    for (size_t i = 0; i < n; i++) {
        size_t length = cf_token_bytes(t, ids[i], true, buf, sizeof buf);
        printf("%7" PRIu32 "  ", ids[i]);
        print_quoted(buf, length < sizeof buf ? length : sizeof buf);
    }
}

static void print_ids(const uint32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        printf("%s%" PRIu32, i ? " " : "", ids[i]);
    putchar('\n');
}

static int encode(
    const struct config *c, const struct cf_tokenizer *t, const char *text, size_t length, struct cf_error *e) {
    uint32_t *ids;
    size_t n;
    if (cf_tokenize(t, text, length, c->bos, c->special, &ids, &n, e)) return -1;
    if (c->ids)
        print_ids(ids, n);
    else
        print_tokens(t, ids, n);
    if (c->count) printf("Total number of tokens: %zu\n", n);
    free(ids);
    return 0;
}

/* The next id of a list separated by spaces, commas or brackets. 1: *id; 0: the end. */
static int next_id(
    const struct cf_tokenizer *t, const char *text, size_t length, size_t *at, uint32_t *id, struct cf_error *e) {
    while (*at < length && (isspace((unsigned char)text[*at]) || memchr(",[]", text[*at], 3)))
        ++*at;
    if (*at == length) return 0;
    size_t begin = *at;
    uint64_t value = 0;
    for (; *at < length && isdigit((unsigned char)text[*at]) && value <= UINT32_MAX; ++*at)
        value = value * 10 + (uint64_t)(text[*at] - '0');
    if (*at == begin || value >= cf_tokenizer_n_vocab(t))
        return cf_fail(e, CF_ERR_USAGE, "--decode: \"%.*s\" is no id from 0 to %" PRIu32,
            (int)(length - begin < 16 ? length - begin : 16), text + begin, cf_tokenizer_n_vocab(t) - 1);
    *id = (uint32_t)value;
    return 1;
}

static int decode(
    const struct config *c, const struct cf_tokenizer *t, const char *text, size_t length, struct cf_error *e) {
    struct cf_detok d = {.special = c->special};
    char out[8192];
    uint32_t id = 0;
    int more;
    for (size_t at = 0; (more = next_id(t, text, length, &at, &id, e)) > 0;)
        fwrite(out, 1, cf_detok_push(&d, t, id, true, out, sizeof out), stdout);
    fwrite(out, 1, cf_detok_flush(&d, out, sizeof out), stdout);
    return more;
}

static int tokenize(const struct config *c, struct cf_error *e) {
    struct cf_gguf *g = NULL;
    struct cf_tokenizer *t = NULL;
    char *read = NULL;
    const char *text = c->prompt;
    size_t length = text ? strlen(text) : 0;
    int rc = cf_gguf_open(&g, c->model, e);
    if (!rc) rc = cf_tokenizer_new(&t, g, e);
    if (!rc && cf_tokenizer_note(t)) fprintf(stderr, "%s: %s\n", c->model, cf_tokenizer_note(t));
    if (!rc && !text) {
        rc = cf__read_text(c->file, &read, &length, e);
        text = read;
    }
    if (!rc) rc = (c->decode ? decode : encode)(c, t, text, length, e);
    free(read);
    cf_tokenizer_free(t);
    cf_gguf_close(g);
    return rc;
}

static int run(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    char path[CF__MODEL_PATH];
    int rc;
    if (argc > 0)
        rc = cf_fail(&e, CF_ERR_USAGE, "unexpected argument '%s': the text comes on stdin or with -p or -f", argv[0]);
    else
        rc = cf__default_model(&c->model, path, &e) ? -1 : tokenize(c, &e);
    if (!rc) return 0;
    return cf__command_failed(&cf_command_tokenize, &e);
}

static const struct cf_option options[] = {
    {.name = "model",
        .letter = 'm',
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, model),
        .arg = "FILE",
        .help = "GGUF file whose tokenizer is used."},
    {.name = "prompt",
        .letter = 'p',
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, prompt),
        .arg = "TEXT",
        .help = "The text; by default all of stdin."},
    {.name = "file",
        .letter = 'f',
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, file),
        .arg = "FILE",
        .help = "A file with the text, - for stdin (the default)."},
    {.name = "ids",
        .kind = CF_OPT_FLAG,
        .offset = offsetof(struct config, ids),
        .help = "Print the ids alone, on one line."},
    {.name = "no-bos",
        .kind = CF_OPT_NO_FLAG,
        .offset = offsetof(struct config, bos),
        .help = "Neither BOS at the beginning nor EOS at the end; by default they are there if the model wants them."},
    {.name = "special",
        .kind = CF_OPT_FLAG,
        .offset = offsetof(struct config, special),
        .help = "Names of control tokens in the text are those tokens; by default they are text. With --decode: show "
                "control tokens by their names; by default they are left out."},
    {.name = "no-parse-special",
        .kind = CF_OPT_NO_FLAG,
        .offset = offsetof(struct config, special),
        .help = "The opposite of --special, as llama-tokenize calls it: the default."},
    {.name = "show-count",
        .kind = CF_OPT_FLAG,
        .offset = offsetof(struct config, count),
        .help = "Print the number of tokens on a last line."},
    {.name = "decode",
        .kind = CF_OPT_FLAG,
        .offset = offsetof(struct config, decode),
        .help = "The other way round: ids, separated by spaces or commas, become text. Bytes that make no character "
                "become U+FFFD."},
    {0},
};

const struct cf_command cf_command_tokenize = {
    .name = "tokenize",
    .synopsis = "[-m FILE] [--ids] [--no-bos] [--special] [--decode] [-p TEXT | -f FILE | < TEXT]",
    .summary = "turn text into token ids, and ids into text",
    .text = "Reads all of stdin or of -f, any bytes, or takes the text of -p, and prints one line per token: the id "
            "and the text. "
            "With --ids it prints the ids alone, on one line and separated by spaces. The ids are those of llama.cpp "
            "for the same file and text; bytes that are not UTF-8 become tokens of single bytes.\n\n"
            "Tokenizers (tokenizer.ggml.model): llama (SentencePiece), gpt2 (byte-level BPE), gemma4 and t5 (unigram). "
            "A pre-tokenizer (tokenizer.ggml.pre) that is not known is refused; where a file names none, \"default\" "
            "is used and a warning printed.",
    .example = "printf 'Hello world' | coffer tokenize -m model.gguf --ids",
    .options = options,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = run,
};
