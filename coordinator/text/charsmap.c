/* See charsmap.h. The form is that of SentencePiece (https://github.com/google/sentencepiece, src/normalizer.cc): a
 * 32-bit count of bytes, so many bytes of a double array (Darts; Kanda 2018), then the replacements.
 *
 * A node of the array has in bits 0 to 7 the byte that leads to it (bit 31 set: it is no inner node), in bit 8 whether
 * a replacement hangs below it, and in bits 10 to 30 the way to its children, shifted left by 8 more if bit 9 is set. A
 * child is found by xor, and must name its byte. The replacement's place in the texts is a node's bits 0 to 30.
 */
#include "coordinator/text/charsmap.h"

#include <stdlib.h>
#include <string.h>

int cf__charsmap_load(struct cf__charsmap *m, const struct cf_gguf *g, struct cf_error *e) {
    const char *key = "tokenizer.ggml.precompiled_charsmap";
    const struct cf_gguf_value *v = cf_gguf_value(g, key);
    *m = (struct cf__charsmap){0};
    if (!v) return 0;
    if (v->kind != CF_GGUF_ARRAY || (v->element != CF_GGUF_U8 && v->element != CF_GGUF_I8))
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s is not an array of bytes", cf_gguf_path(g), key);
    const unsigned char *bytes = v->array;
    uint32_t n = 0;
    if (!v->count) return 0;
    if (v->count > sizeof n)
        for (int i = 3; i >= 0; i--)
            n = n << 8 | bytes[i];
    /* The last byte is the NUL behind the last replacement. */
    if (v->count <= sizeof n || n >= v->count - sizeof n || n % sizeof *m->nodes || bytes[v->count - 1])
        return cf_fail(e, CF_ERR_FORMAT, "%s: %s is cut off", cf_gguf_path(g), key);
    m->n_nodes = n / sizeof *m->nodes;
    m->n_texts = v->count - sizeof n - n;
    m->nodes = malloc(n + sizeof *m->nodes);
    m->texts = malloc(m->n_texts);
    if (!m->nodes || !m->texts) {
        cf__charsmap_free(m);
        return cf_fail(e, CF_ERR_MEMORY, "no memory for %zu bytes of %s", v->count, key);
    }
    for (size_t i = 0; i < m->n_nodes; i++) {
        const unsigned char *b = bytes + sizeof n + i * 4;
        m->nodes[i] = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    }
    memcpy(m->texts, bytes + sizeof n + n, m->n_texts);
    return 0;
}

void cf__charsmap_free(struct cf__charsmap *m) {
    free(m->nodes);
    free(m->texts);
    *m = (struct cf__charsmap){0};
}

static uint32_t children(uint32_t node) {
    return (node >> 10) << (node & 1u << 9 ? 8 : 0);
}

size_t cf__charsmap_find(const struct cf__charsmap *m, const char *text, size_t length, const char **with) {
    size_t found = 0;
    uint32_t at = m->n_nodes ? children(m->nodes[0]) : 0;
    for (size_t i = 0; i < length && text[i]; i++) {
        unsigned char c = (unsigned char)text[i];
        at ^= c;
        if (at >= m->n_nodes) break;
        uint32_t node = m->nodes[at];
        if ((node & (1u << 31 | 0xff)) != c) break;
        at ^= children(node);
        if (at >= m->n_nodes) break;
        if (!(node & 1u << 8)) continue;
        uint32_t place = m->nodes[at] & ~(1u << 31);
        if (place >= m->n_texts) break;
        *with = m->texts + place;
        found = i + 1;
    }
    return found;
}
