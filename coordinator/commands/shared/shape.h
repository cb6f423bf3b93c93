/* Private to the commands: models that are not there. `--synthetic llama-70b:q4_k_m` is the shape of a published model
 * with the weights of `coffer synth`: bench runs it, plan and fit only look at it.
 */
#ifndef COFFER_COORDINATOR_COMMANDS_SHAPE_H
#define COFFER_COORDINATOR_COMMANDS_SHAPE_H

#include "coordinator/commands/synth/synth.h"

enum { CF__SHAPE_TYPE = 24 };

/* "llama-8b:q4_0" -> the command line of synth, all but the file. `type` gets the name behind the colon ("q8_0" unless
 * given); *s points to it. A usage error lists the names that are known. */
int cf__shape_read(struct cf__synth *s, const char *text, char type[CF__SHAPE_TYPE], struct cf_error *e);

/* The model of that shape without a file: a header in memory, and weights that are made where they are read. *t must
 * live as long as *g. */
int cf__shape_open(struct cf_gguf **g, struct cf__synth_tensors **t, const char *text, struct cf_error *e);

/* The name of the i-th shape, NULL at the end. */
const char *cf__shape_name(size_t i);

#endif
