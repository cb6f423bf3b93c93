/* From argv[1] to a command: finds the row, parses its options, runs it, and sees to it that what was printed has
 * arrived. Under a launcher all ranks read the same command line; what they all would say is said by rank 0 alone.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cli/help.h"
#include "coordinator/cli/options.h"
#include "coordinator/cli/terminal.h"

int cf_exit_status(const struct cf_error *e) {
    if (!e || e->code == CF_OK) return 0;
    if (e->code == CF_ERR_USAGE) return 2;
    return e->code == CF_ERR_INTERRUPTED ? 130 : 1;
}

static const struct cf_command *find(const struct cf_command *const *commands, const char *name) {
    for (; *commands; commands++)
        if (!strcmp((*commands)->name, name)) return *commands;
    return NULL;
}

static int unknown(const char *name) {
    if (cf_terminal_speaks()) fprintf(stderr, "coffer: unknown command '%s' (see 'coffer --help')\n", name);
    return 2;
}

static int run_command(const struct cf_command *c, int argc, char **argv) {
    struct cf_error e = {0};
    int rest = 0;
    void *config = calloc(1, c->config_size ? c->config_size : 1);
    if (!config) {
        fprintf(stderr, "coffer %s: out of memory\n", c->name);
        return 1;
    }
    int got = cf_options_parse(c, argc, argv, config, &rest, &e);
    int status = 0;
    if (got < 0) {
        if (cf_terminal_speaks()) fprintf(stderr, "coffer %s: %s\n", c->name, e.text);
        status = cf_exit_status(&e);
    } else if (got == 0) {
        status = c->run(config, argc - rest, argv + rest);
    }
    free(config);
    return status;
}

static int help(const struct cf_command *const *commands, const char *name) {
    const struct cf_command *c = name ? find(commands, name) : NULL;
    if (name && !c) return unknown(name);
    if (c)
        cf_options_help(c, stdout);
    else
        cf_help_list(commands, stdout);
    return 0;
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c) {
    return !strcmp(word, a) || !strcmp(word, b) || !strcmp(word, c);
}

static int dispatch(const struct cf_command *const *commands, int argc, char **argv) {
    if (argc < 2) {
        if (cf_terminal_speaks()) cf_help_list(commands, stderr);
        return 2;
    }
    const char *name = argv[1];
    if (is_one_of(name, "--help", "-h", "help")) return help(commands, argc > 2 ? argv[2] : NULL);
    if (is_one_of(name, "--version", "-V", "version")) return cf_help_version(stdout), 0;
    if (!strcmp(name, "man")) return cf_help_man(commands, stdout), 0;
    const struct cf_command *c = find(commands, name);
    return c ? run_command(c, argc - 1, argv + 1) : unknown(name);
}

int cf_commands_main(const struct cf_command *const *commands, int argc, char **argv) {
    int status = dispatch(commands, argc, argv);
    errno = 0;
    bool lost = fflush(stdout) != 0;
    if (!lost && !ferror(stdout)) return status;
    /* errno of an earlier failed write is gone: then the reason is not known here. */
    fprintf(stderr, "coffer: cannot write to standard output%s%s\n", lost && errno ? ": " : "",
        lost && errno ? strerror(errno) : "");
    return status ? status : 1;
}
