/* Commands and options as data: one table gives parsing (getopt_long), --help and the man page.
 */
#ifndef COFFER_COORDINATOR_CLI_OPTIONS_H
#define COFFER_COORDINATOR_CLI_OPTIONS_H

#include <stddef.h>
#include <stdio.h>

#include "proto/error.h"

enum cf_option_kind {
    CF_OPT_FLAG,    /* bool: set to true */
    CF_OPT_NO_FLAG, /* bool: set to false */
    CF_OPT_INT,     /* int64_t */
    CF_OPT_REAL,    /* double */
    CF_OPT_STRING,  /* const char * (points into argv) */
    CF_OPT_LIST,    /* struct cf_option_list: may be given again and again */
};

enum { CF_OPTION_LIST_LONGEST = 256 };

struct cf_option_list {
    const char *at[CF_OPTION_LIST_LONGEST]; /* [n], point into argv */
    size_t n;
};

struct cf_option {
    const char *name; /* long name without dashes; NULL ends the table */
    char letter;      /* 0: none */
    enum cf_option_kind kind;
    size_t offset;     /* offsetof(struct config, field) */
    const char *arg;   /* "N", "FILE"; NULL for flags */
    const char *help;  /* one sentence; the default stands in it */
    double min, max;   /* of INT and REAL; both 0: any */
    const char *alias; /* further long name, or NULL */
};

/* Rows that several commands have, and where their struct lies in the command's config. */
struct cf_shared_options {
    const struct cf_option *options; /* NULL ends the list */
    size_t offset;
};

struct cf_command {
    const char *name;
    const char *synopsis; /* behind the name: "-m FILE [-p TEXT]" */
    const char *summary;  /* one line */
    const char *text;     /* paragraphs for --help and the man page */
    const char *example;  /* lines that work as they stand */
    const struct cf_option *options;
    size_t config_size;
    void (*defaults)(void *config);
    /* argv: what remains after the options. Returns the exit status. */
    int (*run)(void *config, int argc, char **argv);
    const struct cf_shared_options *shared; /* or NULL; they follow `options` everywhere */
};

/* Row i of a command: its own ones, then the shared ones. NULL behind the last. *offset, unless NULL: where in the
 * command's config the value of the row lies. */
const struct cf_option *cf_option_at(const struct cf_command *c, size_t i, size_t *offset);

/* Parses argv[1..] into config (after defaults). Returns 0; 1 if --help was printed; -1 on a usage error that names the
 * option. *rest is the index of the first operand. */
int cf_options_parse(const struct cf_command *c, int argc, char **argv, void *config, int *rest, struct cf_error *e);
void cf_options_help(const struct cf_command *c, FILE *to);
/* Stores one value that came another way (a JSON file) as if it stood behind the option on the command line. config:
 * the struct that the row's offset counts from. */
int cf_option_store(const struct cf_option *o, const char *text, void *config, struct cf_error *e);

/* Finds the command argv[1], parses, runs. Prints errors as "coffer NAME: text" on stderr. Returns the exit status
 * (0 ok, 1 failure, 2 usage, 130 interrupted). Knows --help, --version, help NAME, and `man` (the man page as roff). */
int cf_commands_main(const struct cf_command *const *commands, int argc, char **argv);
/* The exit status of an error. */
int cf_exit_status(const struct cf_error *e);

#endif
