/* From the command line to a struct: the option table of a command becomes a getopt_long_only table, and every value is
 * checked against its row. Data comes from argv and goes into the command's config; nothing is printed but --help.
 *
 * getopt_long_only lets "-ub 512" mean "--ub 512", as users of llama.cpp write it; single letters stay what they are.
 * getopt's own messages are off: ours name the option as the user wrote it.
 */
#include "coordinator/cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/help.h"

enum { MAX_OPTIONS = 120, FIRST_LONG = 256, HELP = 1000, VERSION = 1001 };

/* The same table in the two forms that getopt wants. */
struct cf__getopt {
    struct option longs[2 * MAX_OPTIONS + 3];
    char shorts[2 * MAX_OPTIONS + 8];
};

const struct cf_option *cf_option_at(const struct cf_command *c, size_t i, size_t *offset) {
    static const struct cf_shared_options none = {0};
    const struct cf_shared_options *next = c->shared ? c->shared : &none;
    for (struct cf_shared_options part = {c->options, 0}; part.options; part = *next++)
        for (const struct cf_option *o = part.options; o->name; o++) {
            if (i--) continue;
            if (offset) *offset = part.offset + o->offset;
            return o;
        }
    return NULL;
}

static int fill_getopt(struct cf__getopt *g, const struct cf_command *c, struct cf_error *e) {
    size_t n_long = 0, n_short = 0;
    bool has_h = false;
    g->shorts[n_short++] = ':'; /* a missing argument is ':' and not '?' */
    const struct cf_option *o;
    for (int i = 0; (o = cf_option_at(c, (size_t)i, NULL)); i++) {
        if (i >= MAX_OPTIONS) return cf_fail(e, CF_ERR_USAGE, "the option table of %s is too long", c->name);
        int has_arg = o->kind == CF_OPT_FLAG || o->kind == CF_OPT_NO_FLAG ? no_argument : required_argument;
        g->longs[n_long++] = (struct option){o->name, has_arg, NULL, FIRST_LONG + i};
        if (o->alias) g->longs[n_long++] = (struct option){o->alias, has_arg, NULL, FIRST_LONG + i};
        if (!o->letter) continue;
        has_h |= o->letter == 'h';
        g->shorts[n_short++] = o->letter;
        if (has_arg == required_argument) g->shorts[n_short++] = ':';
    }
    g->longs[n_long++] = (struct option){"help", no_argument, NULL, HELP};
    g->longs[n_long++] = (struct option){"version", no_argument, NULL, VERSION};
    g->longs[n_long] = (struct option){0};
    if (!has_h) g->shorts[n_short++] = 'h';
    g->shorts[n_short] = '\0';
    return 0;
}

static const struct cf_option *find_option(const struct cf_command *c, int value, size_t *offset) {
    if (value >= FIRST_LONG && value < FIRST_LONG + MAX_OPTIONS)
        return cf_option_at(c, (size_t)(value - FIRST_LONG), offset);
    const struct cf_option *o;
    for (size_t i = 0; (o = cf_option_at(c, i, offset)); i++)
        if (o->letter && o->letter == value) return o;
    return NULL;
}

/* Both ends 0: any value. Otherwise the ends belong to the range. */
static int check_range(const struct cf_option *o, double value, const char *text, struct cf_error *e) {
    if ((o->min == 0 && o->max == 0) || (value >= o->min && value <= o->max)) return 0;
    return cf_fail(e, CF_ERR_USAGE, "option --%s: %s is out of range (%.15g to %.15g)", o->name, text, o->min, o->max);
}

static int store_int(const struct cf_option *o, const char *text, void *to, struct cf_error *e) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end) return cf_fail(e, CF_ERR_USAGE, "option --%s: '%s' is not a whole number", o->name, text);
    if (errno == ERANGE) return cf_fail(e, CF_ERR_USAGE, "option --%s: %s is out of range", o->name, text);
    if (check_range(o, (double)value, text, e)) return -1;
    int64_t out = value;
    memcpy(to, &out, sizeof out);
    return 0;
}

static int store_real(const struct cf_option *o, const char *text, void *to, struct cf_error *e) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return cf_fail(e, CF_ERR_USAGE, "option --%s: '%s' is not a number", o->name, text);
    if (check_range(o, value, text, e)) return -1;
    memcpy(to, &value, sizeof value);
    return 0;
}

static int store_list(const struct cf_option *o, const char *text, struct cf_option_list *to, struct cf_error *e) {
    if (to->n == CF_OPTION_LIST_LONGEST)
        return cf_fail(e, CF_ERR_USAGE, "option --%s: more than %d times", o->name, CF_OPTION_LIST_LONGEST);
    to->at[to->n++] = text;
    return 0;
}

static int store(const struct cf_option *o, const char *text, void *to, struct cf_error *e) {
    switch (o->kind) {
    case CF_OPT_FLAG: *(bool *)to = true; return 0;
    case CF_OPT_NO_FLAG: *(bool *)to = false; return 0;
    case CF_OPT_INT: return store_int(o, text, to, e);
    case CF_OPT_REAL: return store_real(o, text, to, e);
    case CF_OPT_STRING: memcpy(to, &text, sizeof text); return 0;
    case CF_OPT_LIST: return store_list(o, text, to, e);
    }
    return cf_fail(e, CF_ERR_USAGE, "option --%s is of no known kind", o->name);
}

int cf_option_store(const struct cf_option *o, const char *text, void *config, struct cf_error *e) {
    return store(o, text, (char *)config + o->offset, e);
}

/* getopt said '?': unknown, ambiguous, or a value for an option that takes none. */
static int refuse(const struct cf_command *c, const char *word, int known, struct cf_error *e) {
    const struct cf_option *o = find_option(c, known, NULL);
    if (known == HELP || known == VERSION)
        return cf_fail(e, CF_ERR_USAGE, "option --%s takes no value", known == HELP ? "help" : "version");
    if (o && strchr(word, '=')) return cf_fail(e, CF_ERR_USAGE, "option --%s takes no value", o->name);
    const char *name = word + strspn(word, "-");
    size_t length = strcspn(name, "=");
    const char *found[2] = {NULL, NULL};
    int n = 0;
    for (size_t i = 0; n < 2 && (o = cf_option_at(c, i, NULL)); i++)
        if (length && !strncmp(o->name, name, length)) found[n++] = o->name;
    if (n == 2) return cf_fail(e, CF_ERR_USAGE, "option %s is ambiguous: --%s or --%s?", word, found[0], found[1]);
    return cf_fail(e, CF_ERR_USAGE, "unknown option %s", word);
}

/* What people are used to write for llama.cpp and what nothing here depends on; some of it would be read as something
 * else ("-ngl 0" as -n gl). */
static const char *foreign(const struct cf_command *c, int argc, char **argv) {
    static const char *const words[] = {"-ngl", "--gpu-layers", "--n-gpu-layers", "-fa", "--flash-attn", "--no-mmap",
        "--mlock", "-no-cnv", "--no-conversation", "-cnv", "--conversation"};
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
            const struct cf_option *o;
            bool own = false;
            size_t n = strlen(words[w]);
            if (strncmp(argv[i], words[w], n) != 0 || (argv[i][n] && argv[i][n] != '=')) continue;
            for (size_t k = 0; (o = cf_option_at(c, k, NULL)); k++)
                own |= !strcmp(o->name, words[w] + strspn(words[w], "-")) ||
                       (o->alias && !strcmp(o->alias, words[w] + strspn(words[w], "-")));
            if (!own) return words[w];
        }
    return NULL;
}

static int add_hint(const struct cf_command *c, struct cf_error *e) {
    size_t used = strlen(e->text);
    snprintf(e->text + used, sizeof e->text - used, " (see 'coffer %s --help')", c->name);
    return -1;
}

static int parse(const struct cf_command *c, int argc, char **argv, void *config, struct cf_error *e) {
    struct cf__getopt g;
    if (fill_getopt(&g, c, e)) return -1;
    optind = 0; /* glibc: start afresh */
    opterr = 0;
    for (;;) {
        int value = getopt_long_only(argc, argv, g.shorts, g.longs, NULL);
        if (value == -1) return 0;
        const char *word = optind > 0 && optind <= argc ? argv[optind - 1] : "";
        size_t offset = 0;
        const struct cf_option *o = find_option(c, value, &offset);
        if (value == '?') return refuse(c, word, optopt, e);
        if (value == ':') {
            o = find_option(c, optopt, NULL);
            return cf_fail(e, CF_ERR_USAGE, "option %s needs %s", word, o && o->arg ? o->arg : "a value");
        }
        if (value == HELP || (value == 'h' && !o)) {
            cf_options_help(c, stdout);
            return 1;
        }
        if (value == VERSION) {
            cf_help_version(stdout);
            return 1;
        }
        if (store(o, optarg, (char *)config + offset, e)) return -1;
    }
}

int cf_options_parse(const struct cf_command *c, int argc, char **argv, void *config, int *rest, struct cf_error *e) {
    struct cf_error local;
    if (!e) e = &local;
    if (c->defaults) c->defaults(config);
    int got = parse(c, argc, argv, config, e);
    const char *other = got < 0 || (!got && optind < argc) ? foreign(c, argc, argv) : NULL;
    if (other)
        got = cf_fail(e, CF_ERR_USAGE, "option %s is one of llama.cpp's, and not needed here: leave it out", other);
    *rest = optind;
    return got == -1 ? add_hint(c, e) : got;
}
