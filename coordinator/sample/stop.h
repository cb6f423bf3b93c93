/* Stop strings in a stream of text: bytes go in as tokens bring them, and come out as soon as they cannot be the
 * beginning of a stop string any more. A stop string itself, wherever tokens cut it, never comes out. The first one
 * that is complete ends the text; of two that end at the same byte the longer one counts.
 */
#ifndef COFFER_COORDINATOR_SAMPLE_STOP_H
#define COFFER_COORDINATOR_SAMPLE_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/error.h"

struct cf_stop;

/* strings[n], copied; empty ones are refused. Freed by cf_stop_free (NULL is fine). */
int cf_stop_new(struct cf_stop **out, const char *const *strings, size_t n, struct cf_error *e);
void cf_stop_free(struct cf_stop *s);

/* Back to the beginning of a text. */
void cf_stop_reset(struct cf_stop *s);

typedef int cf_text_sink(void *ctx, const char *bytes, size_t n, struct cf_error *e);

/* Takes bytes[n] and gives what may be shown to `to`, in one or several pieces; ignores them behind a stop string.
 * Returns what `to` said. */
int cf_stop_push(struct cf_stop *s, const char *bytes, size_t n, cf_text_sink *to, void *ctx, struct cf_error *e);

/* The text is over without a stop string: what is held back comes out. */
int cf_stop_flush(struct cf_stop *s, cf_text_sink *to, void *ctx, struct cf_error *e);

/* The stop string that was met, or NULL. */
const char *cf_stop_met(const struct cf_stop *s);

#endif
