/* Private to the commands: a text that a command works on, read whole from a file or from stdin. */
#ifndef COFFER_COORDINATOR_COMMANDS_INPUT_H
#define COFFER_COORDINATOR_COMMANDS_INPUT_H

#include <stddef.h>

#include "proto/error.h"

/* All bytes of the file `path` ("-": stdin), at most 1 GiB of them. *text is malloc'ed (the caller frees it, also after
 * a failure) and ends with a 0 that *n does not count. */
int cf__read_text(const char *path, char **text, size_t *n, struct cf_error *e);

#endif
