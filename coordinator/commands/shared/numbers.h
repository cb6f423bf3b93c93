/* Private to the commands: options that take several numbers, "1,2,4". */
#ifndef COFFER_COORDINATOR_COMMANDS_NUMBERS_H
#define COFFER_COORDINATOR_COMMANDS_NUMBERS_H

#include <stdint.h>

#include "coordinator/cli/options.h"

enum { CF__NUMBERS = 16 };

struct cf__numbers {
    uint32_t n, v[CF__NUMBERS];
};

/* A usage error names the option (without its dashes). least and most: of each number; least 0 or more. */
int cf__numbers_read(
    struct cf__numbers *l, const char *option, const char *text, long least, long most, struct cf_error *e);
/* The same of an option that may be given again and again, "-p 64 -p 128,256"; otherwise: where it is not, NULL: no
 * numbers. */
int cf__numbers_read_all(struct cf__numbers *l, const char *option, const struct cf_option_list *texts,
    const char *otherwise, long least, long most, struct cf_error *e);

#endif
