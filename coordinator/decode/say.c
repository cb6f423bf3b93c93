/* See say.h. */
#include "coordinator/decode/say.h"

/* Text that may be seen. */
static int emit(void *ctx, const char *text, size_t n, struct cf_error *e) {
    struct cf_say *s = ctx;
    if (s->result && cf_result_text(s->result, text, n, e)) return -1;
    return s->text ? s->text(s->ctx, text, n, e) : 0;
}

static int pass(struct cf_say *s, const char *text, size_t n, struct cf_error *e) {
    if (!n) return 0;
    return s->stop ? cf_stop_push(s->stop, text, n, emit, s, e) : emit(s, text, n, e);
}

int cf_say_token(struct cf_say *s, uint32_t id, bool end, struct cf_error *e) {
    char text[1024];
    size_t n = end ? 0 : cf_detok_push(&s->detok, s->tokenizer, id, false, text, sizeof text);
    if (s->result && cf_result_token(s->result, id, "", 0, e)) return -1;
    return pass(s, text, n, e);
}

int cf_say_end(struct cf_say *s, struct cf_error *e) {
    char text[64];
    size_t n = cf_detok_flush(&s->detok, text, sizeof text);
    if (pass(s, text, n, e)) return -1;
    return s->stop ? cf_stop_flush(s->stop, emit, s, e) : 0;
}

bool cf_say_stopped(const struct cf_say *s) {
    return s->stop && cf_stop_met(s->stop);
}
