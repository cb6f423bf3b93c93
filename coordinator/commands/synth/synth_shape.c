/* The shape of the model of `coffer synth`: what was given is checked, and what was not follows from what was and from
 * the architecture. */
#include <stdio.h>
#include <string.h>

#include "coordinator/commands/synth/synth.h"

static int one_of(const char *flag, const char *value, const char *const *allowed, struct cf_error *e) {
    char list[128] = "";
    for (size_t i = 0, n = 0; allowed[i]; i++) {
        if (!strcmp(value, allowed[i])) return 0;
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", allowed[i]);
    }
    return cf_fail(e, CF_ERR_USAGE, "%s: \"%s\" is unknown here (%s)", flag, value, list);
}

/* Options that this architecture has no use for. */
static int refuse(const struct cf__synth *s, const struct cf__synth_arch *arch, struct cf_error *e) {
    const bool glm = !strcmp(arch->name, "glm4moe");
    const struct {
        const char *flag;
        bool given, useful;
    } rows[] = {
        {"--value-dim", s->value_dim, arch->latent},
        {"--rope-dim", s->rope_dim, arch->rope_part || !strcmp(arch->name, "phi3")},
        {"--window", s->window, arch->window},
        {"--window-pattern", s->window_pattern, arch->window},
        {"--experts", s->experts > 0, arch->moe},
        {"--experts-used", s->experts_used, arch->moe},
        {"--expert-ffn", s->expert_ffn, arch->moe && arch->experts},
        {"--expert-type", s->expert_type, arch->moe},
        {"--shared-experts", s->shared_experts > 0, arch->shared_experts},
        {"--dense-layers", s->dense_layers > 0, arch->dense_layers},
        {"--expert-groups", s->groups, arch->groups},
        {"--expert-groups-used", s->groups_used, arch->groups},
        {"--gating", s->gating, arch->latent},
        {"--q-rank", s->q_rank > 0, arch->latent},
        {"--kv-rank", s->kv_rank, arch->latent},
        {"--fused-gate-up", s->fused_gate_up, s->experts < 0 ? arch->experts : s->experts && arch->moe},
        {"--fused-kv-b", s->fused_kv_b, arch->latent},
        {"--nextn", s->nextn, arch->nextn},
        {"--qk-norm", s->qk_norm, glm},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].given && !rows[i].useful)
            return cf_fail(e, CF_ERR_USAGE, "%s: %s has nothing of the kind", rows[i].flag, arch->name);
    return 0;
}

static void complete_attention(struct cf__synth *s, const struct cf__synth_arch *arch) {
    bool divides = s->heads && s->dim % s->heads == 0 && s->dim / s->heads % 2 == 0 && !arch->latent;
    if (!s->head_dim) s->head_dim = divides ? s->dim / s->heads : arch->latent ? 96 : 64;
    if (!s->heads) s->heads = s->dim >= s->head_dim ? s->dim / s->head_dim : 1;
    if (!s->kv_heads) {
        s->kv_heads = s->heads >= 4 ? s->heads / 4 : 1;
        while (s->heads % s->kv_heads)
            s->kv_heads--;
    }
    if (!s->value_dim) s->value_dim = arch->value_dim ? arch->value_dim : s->head_dim;
    if (!s->rope_dim) s->rope_dim = arch->rope_part ? s->head_dim / arch->rope_part : s->head_dim;
    if (!s->window) s->window = arch->window;
    s->untied |= arch->untied;
    if (arch->latent && s->q_rank < 0) s->q_rank = 96;
    if (s->q_rank < 0) s->q_rank = 0;
    if (arch->latent && !s->kv_rank) s->kv_rank = 64;
    if (!s->rope_base) s->rope_base = arch->rope_base ? arch->rope_base : 10000;
    if (!s->rope_scaling) s->rope_scaling = arch->rope_scaling ? arch->rope_scaling : "none";
    if (strcmp(arch->name, "glm4moe") != 0) s->qk_norm = true; /* the others have it or have it not */
}

static void complete_mlp(struct cf__synth *s, const struct cf__synth_arch *arch) {
    if (!s->ffn) s->ffn = 4 * s->dim;
    if (s->experts < 0) s->experts = arch->experts;
    if (s->dense_layers < 0) s->dense_layers = arch->dense_layers;
    if (s->shared_experts < 0) s->shared_experts = arch->shared_experts;
    if (!s->experts) return;
    if (!s->experts_used) s->experts_used = arch->experts_used < s->experts ? arch->experts_used : s->experts;
    if (!arch->experts) s->expert_ffn = s->ffn; /* Mixtral's are whole MLPs */
    if (!s->expert_ffn) s->expert_ffn = s->ffn >= 256 ? s->ffn / 8 / 32 * 32 : 32;
    if (!s->groups) s->groups = arch->groups;
    if (s->groups > 1 && !s->groups_used) s->groups_used = arch->groups_used;
    if (!s->gating && arch->dense_layers) s->gating = "sigmoid";
}

static int check_experts(const struct cf__synth *s, struct cf_error *e) {
    const long long experts = s->experts, used = s->experts_used, groups = s->groups, groups_used = s->groups_used;
    if (used < 1 || used > experts)
        return cf_fail(e, CF_ERR_USAGE, "--experts-used: %lld of %lld experts", used, experts);
    if (groups < 2) return 0;
    if (groups >= experts || experts % groups || experts / groups < 2)
        return cf_fail(e, CF_ERR_USAGE, "--expert-groups: %lld groups of %lld experts", groups, experts);
    if (groups_used >= groups)
        return cf_fail(e, CF_ERR_USAGE, "--expert-groups-used: %lld of %lld groups", groups_used, groups);
    if (used > experts / groups * groups_used)
        return cf_fail(e, CF_ERR_USAGE, "--experts-used: %lld groups have no %lld experts", groups_used, used);
    return 0;
}

static int check_heads(const struct cf__synth *s, const struct cf__synth_arch *arch, struct cf_error *e) {
    if (s->head_dim % 2) return cf_fail(e, CF_ERR_USAGE, "--head-dim: %lld is odd", (long long)s->head_dim);
    if (s->rope_dim % 2) return cf_fail(e, CF_ERR_USAGE, "--rope-dim: %lld is odd", (long long)s->rope_dim);
    if (s->rope_dim > s->head_dim || (arch->latent && s->rope_dim == s->head_dim))
        return cf_fail(
            e, CF_ERR_USAGE, "--rope-dim: %lld of heads of %lld", (long long)s->rope_dim, (long long)s->head_dim);
    if (s->heads % s->kv_heads) {
        return cf_fail(e, CF_ERR_USAGE, "--kv-heads: %lld does not divide --heads, %lld", (long long)s->kv_heads,
            (long long)s->heads);
    }
    return 0;
}

int cf__synth_complete(struct cf__synth *s, struct cf_error *e) {
    static const char *const tokenizers[] = {"llama", "gpt2", NULL}, *const gatings[] = {"softmax", "sigmoid", NULL};
    char list[256];
    if (s->complete) return 0;
    if (!s->arch) return cf_fail(e, CF_ERR_USAGE, "--arch is required");
    if (!s->out) return cf_fail(e, CF_ERR_USAGE, "-o is required");
    const struct cf__synth_arch *arch = cf__synth_arch(s->arch);
    if (!arch)
        return cf_fail(
            e, CF_ERR_USAGE, "--arch: \"%s\" is unknown here (%s)", s->arch, cf__synth_arch_list(list, sizeof list));
    if (refuse(s, arch, e)) return -1;
    complete_attention(s, arch);
    complete_mlp(s, arch);
    const char *const scalings[] = {"none", "linear", "yarn", arch->rope_factors, NULL};
    if (one_of("--tokenizer", s->tokenizer, tokenizers, e) || one_of("--rope-scaling", s->rope_scaling, scalings, e) ||
        (s->gating && one_of("--gating", s->gating, gatings, e)))
        return -1;
    if (arch->experts && !s->experts) return cf_fail(e, CF_ERR_USAGE, "--experts: %s needs some", s->arch);
    if (check_heads(s, arch, e) || (s->experts && check_experts(s, e))) return -1;
    s->complete = true;
    return 0;
}
