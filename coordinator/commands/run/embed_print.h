/* Private to the commands: how `coffer embed` prints vectors, in the formats of llama.cpp's tool. */
#ifndef COFFER_COORDINATOR_COMMANDS_EMBED_PRINT_H
#define COFFER_COORDINATOR_COMMANDS_EMBED_PRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/cli/terminal.h"

struct cf__embed_table {
    const float *rows; /* [n_rows][n_embd] */
    uint64_t n_rows;
    uint32_t n_embd;
    const char *const *texts; /* [n_rows] where each begins, to label the table; NULL: rows are tokens */
    bool whole;               /* numbers without a fraction */
};

bool cf__embed_knows(const char *format);
int cf__embed_print(
    const struct cf__embed_table *t, const char *format, struct cf_terminal *terminal, struct cf_error *e);

#endif
