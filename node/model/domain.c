/* The tables that give each tensor its domain. See domain.h. */
#include "node/model/domain.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_NODE = 1023 };

const char *cf_domain_name(enum cf_domain domain) {
    static const char *const names[CF_DOMAINS] = {"PREFRONTAL", "LEFT_HEMI", "RIGHT_HEMI", "TEMPORAL"};
    return (unsigned)domain < CF_DOMAINS ? names[domain] : "?";
}

/* --- GGUF names ----------------------------------------------------------------------------------------------------
 */

struct name_row {
    const char *name;
    enum cf_domain domain;
};

/* Whole names, without ".weight" or ".bias". */
static const struct name_row whole_names[] = {
    {"token_embd", CF_PREFRONTAL},
    {"output_norm", CF_PREFRONTAL},
    {"output", CF_PREFRONTAL},
    {"rope_freqs", CF_PREFRONTAL},
};

/* What a name begins with behind "blk.N.". Norms belong to the domain of their consumer, so that those inside a block
 * go with attention or with the MLP. */
static const struct name_row block_names[] = {
    {"attn_", CF_LEFT_HEMI}, {"post_attention_norm", CF_LEFT_HEMI}, {"ffn_", CF_RIGHT_HEMI},
    {"post_ffw_norm", CF_RIGHT_HEMI}, {"exp_probs_b", CF_RIGHT_HEMI}, /* bias of the router */
};

/* Behind "blk.N."; NULL if the name is none of a block. */
static const char *behind_block(const char *name, int *block) {
    if (strncmp(name, "blk.", 4) || !isdigit((unsigned char)name[4])) return NULL;
    char *end;
    long n = strtol(name + 4, &end, 10);
    if (*end != '.' || n > INT_MAX) return NULL;
    *block = (int)n;
    return end + 1;
}

int cf_domain_block(const char *name) {
    int block = -1;
    return behind_block(name, &block) ? block : -1;
}

static size_t without_suffix(const char *name) {
    const char *dot = strrchr(name, '.');
    bool suffix = dot && (!strcmp(dot, ".weight") || !strcmp(dot, ".bias"));
    return suffix ? (size_t)(dot - name) : strlen(name);
}

static bool find_gguf_name(const char *name, enum cf_domain *domain) {
    int block;
    const char *rest = behind_block(name, &block);
    for (size_t i = 0; rest && i < sizeof block_names / sizeof *block_names; i++) {
        if (strncmp(rest, block_names[i].name, strlen(block_names[i].name))) continue;
        *domain = block_names[i].domain;
        return true;
    }
    size_t length = without_suffix(name);
    for (size_t i = 0; i < sizeof whole_names / sizeof *whole_names; i++) {
        if (strlen(whole_names[i].name) != length || memcmp(name, whole_names[i].name, length)) continue;
        *domain = whole_names[i].domain;
        return true;
    }
    return false;
}

/* --- Words in any name ---------------------------------------------------------------------------------------------
 */

static const struct {
    enum cf_domain domain;
    const char *words[10];
} rules[] = {
    {CF_TEMPORAL, {"past_key", "kv_cache", "cache", "k_cache", "v_cache"}},
    {CF_LEFT_HEMI, {"q_proj", "k_proj", "v_proj", "o_proj", "attn", "attention", "self_attn"}},
    {CF_RIGHT_HEMI, {"mlp", "gate_proj", "up_proj", "down_proj", "fc1", "fc2", "ffn", "feed_forward"}},
    {CF_PREFRONTAL, {"embed", "lm_head", "norm", "layer_norm", "ln_", "wte", "wpe"}},
};

static bool contains(const char *name, const char *word) {
    size_t length = strlen(word);
    for (; *name; name++)
        if (!strncasecmp(name, word, length)) return true;
    return false;
}

enum cf_domain cf_domain_of_mlx(const char *name, int index, int n_layers) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        for (const char *const *word = rules[i].words; *word; word++)
            if (contains(name, *word)) return rules[i].domain;
    if (index < 0 || n_layers <= 0) return CF_LEFT_HEMI;
    double f = (double)index / n_layers;
    return f < 0.33 ? CF_LEFT_HEMI : f < 0.66 ? CF_RIGHT_HEMI : CF_PREFRONTAL;
}

enum cf_domain cf_domain_of(const char *name, int index, int n_layers) {
    enum cf_domain domain;
    return find_gguf_name(name, &domain) ? domain : cf_domain_of_mlx(name, index, n_layers);
}

/* --- Domains on nodes ----------------------------------------------------------------------------------------------
 */

/* RAM Coffers' machine, an IBM Power S824 with four NUMA nodes. */
static const int s824[CF_DOMAINS] = {[CF_PREFRONTAL] = 3, [CF_LEFT_HEMI] = 1, [CF_RIGHT_HEMI] = 0, [CF_TEMPORAL] = 2};

static bool find_domain(const char *text, size_t length, enum cf_domain *domain) {
    static const struct name_row rows[] = {{"prefrontal", CF_PREFRONTAL}, {"left", CF_LEFT_HEMI},
        {"left_hemi", CF_LEFT_HEMI}, {"right", CF_RIGHT_HEMI}, {"right_hemi", CF_RIGHT_HEMI},
        {"temporal", CF_TEMPORAL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strlen(rows[i].name) != length || strncasecmp(rows[i].name, text, length)) continue;
        *domain = rows[i].domain;
        return true;
    }
    return false;
}

/* "left=1" */
static int parse_pair(const char *text, size_t length, int node[CF_DOMAINS], struct cf_error *e) {
    const char *equals = memchr(text, '=', length);
    int shown = length < 80 ? (int)length : 80;
    enum cf_domain domain;
    if (!equals || !find_domain(text, (size_t)(equals - text), &domain))
        return cf_fail(e, CF_ERR_USAGE,
            "map: \"%.*s\" is not DOMAIN=NODE with prefrontal, left, right or temporal (or the whole map s824)", shown,
            text);
    size_t digits = length - (size_t)(equals + 1 - text);
    bool number = digits > 0 && digits <= 4;
    for (size_t i = 0; i < digits; i++)
        number = number && isdigit((unsigned char)equals[1 + i]);
    int n = number ? atoi(equals + 1) : -1;
    if (n < 0 || n > MAX_NODE)
        return cf_fail(
            e, CF_ERR_USAGE, "map: the node in \"%.*s\" is not a number from 0 to %d", shown, text, MAX_NODE);
    if (node[domain] >= 0)
        return cf_fail(e, CF_ERR_USAGE, "map: %s has two nodes, %d and %d", cf_domain_name(domain), node[domain], n);
    node[domain] = n;
    return 0;
}

int cf_domain_map_parse(const char *text, int node[CF_DOMAINS], struct cf_error *e) {
    if (!strcasecmp(text, "s824")) {
        memcpy(node, s824, sizeof s824);
        return 0;
    }
    for (int d = 0; d < CF_DOMAINS; d++)
        node[d] = -1;
    for (const char *p = text;; p++) {
        size_t length = strcspn(p, ",");
        if (parse_pair(p, length, node, e)) return -1;
        p += length;
        if (!*p) return 0;
    }
}
