/* See numbers.h. */
#include "coordinator/commands/shared/numbers.h"

#include <errno.h>
#include <stdlib.h>

static int append(
    struct cf__numbers *l, const char *option, const char *text, long least, long most, struct cf_error *e) {
    for (const char *s = text;; s++) {
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

int cf__numbers_read(
    struct cf__numbers *l, const char *option, const char *text, long least, long most, struct cf_error *e) {
    l->n = 0;
    return append(l, option, text, least, most, e);
}

int cf__numbers_read_all(struct cf__numbers *l, const char *option, const struct cf_option_list *texts,
    const char *otherwise, long least, long most, struct cf_error *e) {
    l->n = 0;
    for (size_t i = 0; i < texts->n; i++)
        if (append(l, option, texts->at[i], least, most, e)) return -1;
    return texts->n || !otherwise ? 0 : append(l, option, otherwise, least, most, e);
}
