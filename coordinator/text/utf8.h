/* One step through UTF-8: the only place that knows what a well-formed character is (Unicode 15, table 3-7). */
#ifndef COFFER_COORDINATOR_TEXT_UTF8_H
#define COFFER_COORDINATOR_TEXT_UTF8_H

#include <stddef.h>

/* Looks at s[0..n), n >= 1. Returns the length (1 to 4) of the whole character there; 0 if s[0..n) is the beginning of
 * a character and nothing more; -k if the first k bytes can begin no character (the "maximal subpart" that one U+FFFD
 * replaces). */
static inline int cf__utf8_step(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return 1;
    int length = s[0] < 0xc2 || s[0] > 0xf4 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (!length) return -1;
    /* The second byte excludes overlong forms, surrogates and what lies beyond U+10FFFF. */
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n) return 0;
        if (s[i] < low || s[i] > high) return -i;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

#define CF__REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

#endif
