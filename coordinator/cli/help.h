/* What the program says about itself: --help, the list of commands and the man page, all from the tables in options.h.
 */
#ifndef COFFER_COORDINATOR_CLI_HELP_H
#define COFFER_COORDINATOR_CLI_HELP_H

#include <stdio.h>

#include "coordinator/cli/options.h"

/* `coffer --help`: the commands with one line each. `commands` ends with NULL, as everywhere here. */
void cf_help_list(const struct cf_command *const *commands, FILE *to);

/* `coffer man`: the whole manual as roff, section 1. Nothing in it depends on the day or the machine. */
void cf_help_man(const struct cf_command *const *commands, FILE *to);

/* `coffer --version`. */
void cf_help_version(FILE *to);

#endif
