/* The model that a command takes when none is named: the first of
 *
 *   1. the file that COFFER_MODEL names,
 *   2. share/coffer/models/stories.gguf beside the folder in which this program is installed,
 *   3. deploy/models/stories.gguf of the source tree that it was built from.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_DEFAULT_MODEL_H
#define COFFER_COORDINATOR_COMMANDS_DEFAULT_MODEL_H

#include "proto/error.h"

enum { CF__MODEL_PATH = 4096 };

/* Does nothing if *model is named. Else *model is found and points into path, or is what COFFER_MODEL says, and stderr
 * says which file it is (once, however many ranks ask). -1 with CF_ERR_USAGE, saying where it looked, if there is none.
 */
int cf__default_model(const char **model, char path[CF__MODEL_PATH], struct cf_error *e);

/* Commands that have no model without being asked: what COFFER_MODEL names, if it does, and that is said. */
void cf__named_model(const char **model);

#endif
