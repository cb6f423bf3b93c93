/* coffer tokenize: text on stdin to token ids on stdout. Opens the model's header only; never calls MPI. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/commands/commands.h"
#include "coordinator/commands/input.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/utf8.h"
#include "node/gguf/gguf.h"

struct config {
    const char *model;
    bool ids, bos, special;
};

static void defaults(void *config) {
    *(struct config *)config = (struct config){.bos = true};
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

static int tokenize(const struct config *c, struct cf_error *e) {
    struct cf_gguf *g = NULL;
    struct cf_tokenizer *t = NULL;
    char *text = NULL;
    uint32_t *ids = NULL;
    size_t length = 0, n = 0;
    int rc = cf_gguf_open(&g, c->model, e);
    if (!rc) rc = cf_tokenizer_new(&t, g, e);
    if (!rc) rc = cf__read_text("-", &text, &length, e);
    if (!rc) rc = cf_tokenize(t, text, length, c->bos, c->special, &ids, &n, e);
    if (!rc && c->ids)
        print_ids(ids, n);
    else if (!rc)
        print_tokens(t, ids, n);
    free(text);
    free(ids);
    cf_tokenizer_free(t);
    cf_gguf_close(g);
    return rc;
}

static int run(void *config, int argc, char **argv) {
    struct config *c = config;
    struct cf_error e = {0};
    int rc;
    if (argc > 0)
        rc = cf_fail(&e, CF_ERR_USAGE, "unexpected argument '%s': the text comes on stdin", argv[0]);
    else if (!c->model)
        rc = cf_fail(&e, CF_ERR_USAGE, "needs a model: -m FILE");
    else
        rc = tokenize(c, &e);
    if (!rc) return 0;
    fprintf(stderr, "coffer tokenize: %s\n", e.text);
    return cf_exit_status(&e);
}

static const struct cf_option options[] = {
    {.name = "model",
        .letter = 'm',
        .kind = CF_OPT_STRING,
        .offset = offsetof(struct config, model),
        .arg = "FILE",
        .help = "GGUF file whose tokenizer is used."},
    {.name = "ids",
        .kind = CF_OPT_FLAG,
        .offset = offsetof(struct config, ids),
        .help = "Print the ids alone, on one line."},
    {.name = "no-bos",
        .kind = CF_OPT_NO_FLAG,
        .offset = offsetof(struct config, bos),
        .help = "Do not begin with the BOS token; by default it is there if the model wants it."},
    {.name = "special",
        .kind = CF_OPT_FLAG,
        .offset = offsetof(struct config, special),
        .help = "Names of control tokens in the text are those tokens; by default they are text."},
    {0},
};

const struct cf_command cf_command_tokenize = {
    .name = "tokenize",
    .synopsis = "-m FILE [--ids] [--no-bos] [--special] < TEXT",
    .summary = "turn text on stdin into token ids",
    .text =
        "Reads all of stdin, any bytes, and prints one line per token: the id and the text. With --ids it prints the "
        "ids alone, on one line and separated by spaces.",
    .example = "printf 'Hello world' | coffer tokenize -m model.gguf --ids",
    .options = options,
    .config_size = sizeof(struct config),
    .defaults = defaults,
    .run = run,
};
