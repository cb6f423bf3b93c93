/* SentencePiece's sign for a space, U+2581, into a text and out of a token. See vocab.h. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/text/vocab.h"

#define SPACE "\xe2\x96\x81" /* U+2581 */
enum { SPACE_LENGTH = 3 };

char *cf__spaces_escape(const char *text, size_t length, bool prefix, size_t *escaped) {
    size_t spaces = prefix;
    for (size_t i = 0; i < length; i++)
        spaces += text[i] == ' ';
    char *out = malloc(length + spaces * SPACE_LENGTH + 1), *p = out;
    if (!out) return NULL;
    if (prefix) p = mempcpy(p, SPACE, SPACE_LENGTH);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == ' ')
            p = mempcpy(p, SPACE, SPACE_LENGTH);
        else
            *p++ = text[i];
    }
    *escaped = (size_t)(p - out);
    return out;
}

size_t cf__spaces_bytes(const struct cf_tokenizer *t, const struct cf__token *token, char *buf, size_t size) {
    (void)t;
    size_t n = 0;
    for (uint32_t i = 0; i < token->length; n++) {
        bool space = token->length - i >= SPACE_LENGTH && !memcmp(token->text + i, SPACE, SPACE_LENGTH);
        if (n < size) buf[n] = space ? ' ' : token->text[i];
        i += space ? SPACE_LENGTH : 1;
    }
    return n;
}
