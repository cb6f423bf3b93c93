/* The way of a generated token to its reader: id -> bytes -> whole characters -> stop strings -> result and text. */
#ifndef COFFER_COORDINATOR_DECODE_SAY_H
#define COFFER_COORDINATOR_DECODE_SAY_H

#include "coordinator/decode/result.h"
#include "coordinator/sample/stop.h"
#include "coordinator/text/tokenizer.h"

struct cf_say {
    const struct cf_tokenizer *tokenizer;
    struct cf_detok detok;    /* begins with zeros */
    struct cf_stop *stop;     /* NULL: none */
    struct cf_result *result; /* NULL: nothing is collected */
    cf_text_sink *text;       /* NULL: nobody reads */
    void *ctx;
};

/* One more token; of the end token (`end`) only the id counts. */
int cf_say_token(struct cf_say *s, uint32_t id, bool end, struct cf_error *e);

/* The text is over: what was held back. */
int cf_say_end(struct cf_say *s, struct cf_error *e);

/* Was a stop string met? */
bool cf_say_stopped(const struct cf_say *s);

#endif
