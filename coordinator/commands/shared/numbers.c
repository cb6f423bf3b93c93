/* See numbers.h. */
#include "coordinator/commands/shared/numbers.h"

#include <errno.h>
#include <stdlib.h>

int cf__numbers_read(
    struct cf__numbers *l, const char *option, const char *text, long least, long most, struct cf_error *e) {
    const char *s = text;
    for (l->n = 0;; s++) {
        char *end;
        errno = 0;
        long v = *s >= '0' && *s <= '9' ? strtol(s, &end, 10) : (end = NULL, 0);
        if (!end || (*end && *end != ','))
            return cf_fail(
                e, CF_ERR_USAGE, "option --%s: '%.60s' is not a list of numbers parted by commas", option, text);
        if (errno || v < least || v > most)
            return cf_fail(e, CF_ERR_USAGE, "option --%s: %.*s is out of range (%ld to %ld)", option, (int)(end - s), s,
                least, most);
        if (l->n == CF__NUMBERS)
            return cf_fail(e, CF_ERR_USAGE, "option --%s: more than %d numbers", option, CF__NUMBERS);
        l->v[l->n++] = (uint32_t)v;
        s = end;
        if (!*s) return 0;
    }
}
