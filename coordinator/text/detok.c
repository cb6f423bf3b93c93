/* Ids back to text: the bytes of one token, and a stream that gives out whole UTF-8 characters only. See tokenizer.h.
 *
 * A character may be spread over several tokens (byte tokens, byte-level BPE), so its first bytes wait in cf_detok
 * until the rest arrives. Bytes that can become no character are replaced by U+FFFD.
 */
#include <string.h>

#include "coordinator/text/utf8.h"
#include "coordinator/text/vocab.h"

static size_t copy(const char *text, size_t length, char *buf, size_t size) {
    if (size) memcpy(buf, text, length < size ? length : size);
    return length;
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x0A>" */
static size_t byte_token(const struct cf__token *token, char *buf, size_t size) {
    const char *s = token->text;
    if (token->length != 6 || memcmp(s, "<0x", 3) || hex(s[3]) < 0 || hex(s[4]) < 0)
        return copy(s, token->length, buf, size);
    char byte = (char)(hex(s[3]) * 16 + hex(s[4]));
    return copy(&byte, 1, buf, size);
}

size_t cf_token_bytes(const struct cf_tokenizer *t, uint32_t id, bool special, char *buf, size_t size) {
    if (id >= t->n_tokens) return 0;
    const struct cf__token *token = &t->tokens[id];
    switch (token->type) {
    case CF__TOKEN_NORMAL: return t->kind->bytes(t, token, buf, size);
    case CF__TOKEN_USER: return copy(token->text, token->length, buf, size);
    case CF__TOKEN_UNKNOWN:
    case CF__TOKEN_CONTROL: return special ? copy(token->text, token->length, buf, size) : 0;
    case CF__TOKEN_BYTE: return byte_token(token, buf, size);
    default: return 0;
    }
}

/* Moves what can be shown from text[n] to out, and the incomplete rest (at most three bytes) to d->held. */
static size_t release(struct cf_detok *d, const unsigned char *text, size_t n, char *out, size_t size) {
    size_t written = 0;
    d->n_held = 0;
    for (size_t i = 0; i < n;) {
        int step = cf__utf8_step(text + i, n - i);
        if (!step) {
            d->n_held = n - i;
            memcpy(d->held, text + i, d->n_held);
            break;
        }
        bool valid = step > 0;
        size_t length = (size_t)(valid ? step : -step), shown = valid ? length : sizeof CF__REPLACEMENT - 1;
        if (size - written < shown) break;
        memcpy(out + written, valid ? (const char *)text + i : CF__REPLACEMENT, shown);
        written += shown;
        i += length;
    }
    return written;
}

size_t cf_detok_push(
    struct cf_detok *d, const struct cf_tokenizer *t, uint32_t id, bool skip_space, char *out, size_t size) {
    enum { CHUNK = 4096 };
    unsigned char small[CHUNK];
    size_t held = d->n_held;
    memcpy(small, d->held, held);
    size_t n = cf_token_bytes(t, id, d->special, (char *)small + held, CHUNK - held);
    if (!n) return 0;
    if (n > CHUNK - held) n = CHUNK - held;
    unsigned char *text = small;
    n += held;
    if (!d->started && skip_space && t->add_space_prefix && text[0] == ' ') text++, n--;
    d->started = true;
    return release(d, text, n, out, size);
}

size_t cf_detok_flush(struct cf_detok *d, char *out, size_t size) {
    size_t shown = sizeof CF__REPLACEMENT - 1, held = d->n_held;
    d->n_held = 0;
    if (!held || size < shown) return 0;
    memcpy(out, CF__REPLACEMENT, shown);
    return shown;
}
