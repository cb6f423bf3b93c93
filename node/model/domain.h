/* Domains: the role of a tensor, and with it the coffer that holds it.
 *
 * The four domains and the substring rules are those of the RAM Coffers and MLX Coffers papers; GGUF names are known
 * exactly and come before the rules. `coffer route` prints what these functions say.
 */
#ifndef COFFER_NODE_MODEL_DOMAIN_H
#define COFFER_NODE_MODEL_DOMAIN_H

#include "proto/error.h"

enum cf_domain {
    CF_PREFRONTAL, /* token embedding, final norm, output head */
    CF_LEFT_HEMI,  /* attention */
    CF_RIGHT_HEMI, /* MLP, experts and their router */
    CF_TEMPORAL,   /* KV cache */
    CF_DOMAINS
};

/* "PREFRONTAL", "LEFT_HEMI", "RIGHT_HEMI", "TEMPORAL"; "?" for anything else. */
const char *cf_domain_name(enum cf_domain domain);

/* The domain of a tensor. index: its position among n_layers layers, or -1 if it has none; it decides only about names
 * that no rule knows. First exact GGUF names, then the rules of cf_domain_of_mlx. */
enum cf_domain cf_domain_of(const char *name, int index, int n_layers);

/* MLX Coffers' order, for every name: the first rule of which a word is in the lower-cased name, else the position
 * f = index / n_layers: below 0.33 LEFT_HEMI, below 0.66 RIGHT_HEMI, else PREFRONTAL; LEFT_HEMI without an index. */
enum cf_domain cf_domain_of_mlx(const char *name, int index, int n_layers);

/* The N of a GGUF name "blk.N.rest", or -1. */
int cf_domain_block(const char *name);

/* "left=1,right=0,..." or "s824" -> the NUMA node of each domain, -1 for those not named. Domains are prefrontal, left,
 * right, temporal, also left_hemi and right_hemi, in any case. -1 names the part that is wrong. */
int cf_domain_map_parse(const char *text, int node[CF_DOMAINS], struct cf_error *e);

#endif
