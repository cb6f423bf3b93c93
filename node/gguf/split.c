/* Names of split sets: PREFIX-00002-of-00005.gguf. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/gguf/internal.h"

/* Five digits at s -> their value, or 0. */
static uint32_t five_digits(const char *s) {
    uint32_t v = 0;
    for (int i = 0; i < 5; i++) {
        if (s[i] < '0' || s[i] > '9') return 0;
        v = v * 10 + (uint32_t)(s[i] - '0');
    }
    return v;
}

char *cf__split_path(const char *path, uint32_t want, uint32_t *count) {
    const size_t tail = strlen("-00001-of-00001.gguf");
    size_t length = strlen(path);
    if (length < tail) return NULL;
    const char *s = path + length - tail;
    if (s[0] != '-' || strncmp(s + 6, "-of-", 4) || strcmp(s + 15, ".gguf")) return NULL;
    uint32_t number = five_digits(s + 1);
    *count = five_digits(s + 10);
    if (number < 1 || number > *count || want < 1 || want > *count) return NULL;
    char *member = malloc(length + 1);
    if (member)
        snprintf(
            member, length + 1, "%.*s-%05u-of-%05u.gguf", (int)(length - tail), path, want % 100000, *count % 100000);
    return member;
}
