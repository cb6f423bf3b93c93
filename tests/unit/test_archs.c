/* Every architecture of the table can be planned: its tensors are found under the names that `coffer synth` writes (a
 * list of its own), every layout covers them exactly, with experts cut and whole, and a missing or misshapen tensor is
 * named. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "node/engine/memory/kv.h"
#include "small_model.h"

enum { MOST = 5 };

static struct cf__synth asked(const char *arch) {
    return (struct cf__synth){.arch = arch,
        .out = "model",
        .type = "q8_0",
        .tokenizer = "llama",
        .rope_scaling = "none",
        .layers = 3,
        .dim = 256,
        .heads = 8,
        .vocab = 500,
        .ctx = 4096,
        .seed = 1,
        .rope_factor = 8,
        .expert_ffn = strcmp(arch, "llama") && strcmp(arch, "qwen2") && strcmp(arch, "qwen3") &&
                              strncmp(arch, "gemma", 5) && strcmp(arch, "phi3")
                          ? 448
                          : 0,
        .experts = CF__SYNTH_UNSET,
        .shared_experts = CF__SYNTH_UNSET,
        .dense_layers = CF__SYNTH_UNSET,
        .q_rank = CF__SYNTH_UNSET};
}

/* Renames a key in the file: it is then absent. */
static void lose_key(int fd, const char *key) {
    char *bytes = malloc(1 << 16);
    ssize_t n = pread(fd, bytes, 1 << 16, 0);
    char *at = n > 0 ? memmem(bytes, (size_t)n, key, strlen(key)) : NULL;
    assert_non_null(at);
    assert_int_equal(pwrite(fd, "~", 1, at - bytes), 1);
    free(bytes);
}

/* The header of such a model, without the bytes of its tensors, and without the keys that end in `lost` (NULL: none).
 */
static const char *more_key; /* NULL, or a number besides */
static uint32_t more_value;
static int open_without(struct small_model *s, struct cf__synth *y, const char *const *lost, struct cf_error *e) {
    struct cf_gguf_writer *w = NULL;
    struct cf__synth_tensors *t = NULL;
    char path[64];
    int fd = memfd_create("archs", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    memset(s, 0, sizeof *s);
    int rc = cf__synth_complete(y, e) || cf__synth_tensors_new(&t, y, e) || cf_gguf_writer_open_fd(&w, fd, "model", e);
    if (!rc)
        rc = cf_gguf_add_str(w, "general.architecture", y->arch, e) || cf__synth_keys(w, y, e) ||
             (more_key && cf_gguf_add_u32(w, more_key, more_value, e)) || cf__synth_tensors_write(t, w, true, e);
    if (w && cf_gguf_writer_close(w, !rc, rc ? NULL : e)) rc = -1;
    cf__synth_tensors_free(t);
    for (; !rc && lost && *lost; lost++)
        lose_key(fd, *lost);
    if (!rc) rc = cf_gguf_open(&s->gguf, path, e) || cf_model_open(&s->model, s->gguf, e);
    close(fd);
    return rc ? -1 : 0;
}

static int open_arch(struct small_model *s, struct cf__synth *y, struct cf_error *e) {
    return open_without(s, y, NULL, e);
}

/* One dimension of a slice, members in order: none missing, none twice unless shared. */
static void follows(uint32_t from, uint32_t to, uint32_t *end, bool shared) {
    assert_true(from < to);
    if (shared)
        assert_true(from <= *end && to >= *end);
    else
        assert_int_equal(from, *end);
    *end = to;
}

static void covers(const struct small_model *s, const struct cf_plan *p, enum cf_role role, uint32_t layer) {
    const struct cf_tensor_spec *spec = &cf_tensor_specs[role];
    const struct cf_plan_row *row = cf_plan_find(p, spec->domain, layer);
    struct cf_shape all = cf_model_shape(&s->model, role);
    uint32_t end = 0;
    for (uint32_t i = 0; i < row->n; i++) {
        if (row->cuts[i] == row->cuts[i + 1]) continue;
        struct cf_slice k = cf_model_slice(&s->model, role, row->cuts[i], row->cuts[i + 1]);
        bool parts = k.part1 - k.part0 < all.parts, rows = k.row1 - k.row0 < all.rows,
             columns = k.c1 - k.c0 < all.columns;
        if (spec->split == CF_SPLIT_REPLICATED) {
            assert_false(parts || rows || columns);
            continue;
        }
        bool shared_expert = role == CF_W_GATE_SHARED || role == CF_W_UP_SHARED || role == CF_W_DOWN_SHARED;
        if (shared_expert && (k.row0 == k.row1 || k.c0 == k.c1)) continue; /* it has fewer chunks than the others */
        assert_true(parts + rows + columns <= 1);
        bool by_columns = spec->split == CF_SPLIT_ATTN_COLUMNS || spec->split == CF_SPLIT_FFN_COLUMNS || spec->vector;
        if (s->model.experts.whole && parts)
            follows(k.part0, k.part1, &end, false);
        else if (s->model.experts.whole && spec->vector && rows)
            follows(k.row0, k.row1, &end, false);
        else if (spec->split == CF_SPLIT_HEADS && !spec->vector)
            follows(k.part0, k.part1, &end, false);
        else if (by_columns && !(s->model.experts.whole && all.parts > 1))
            follows(k.c0, k.c1, &end, spec->split == CF_SPLIT_KV_ROWS);
        else if (!(s->model.experts.whole && all.parts > 1))
            follows(k.row0, k.row1, &end, spec->split == CF_SPLIT_KV_ROWS);
        else
            follows(k.part0, k.part1, &end, false);
    }
    if (spec->split == CF_SPLIT_REPLICATED) return;
    assert_true(end == all.parts || end == all.rows || end == all.columns);
}

static void every_architecture_is_covered(void **state) {
    (void)state;
    for (uint32_t a = 0; cf_arch_at(a); a++) {
        if (!cf__synth_arch(cf_arch_at(a)->name)) continue; /* gemma is gemma2 without what that has more */
        for (int whole = 0; whole < 2; whole++) {
            struct cf_error e = {0};
            struct small_model s;
            struct cf__synth y = asked(cf_arch_at(a)->name);
            y.fused_gate_up = whole && cf__synth_arch(y.arch)->experts;
            if (open_arch(&s, &y, &e)) fail_msg("%s: %s", cf_arch_at(a)->name, e.text);
            if (whole) cf_model_whole_experts(&s.model);
            for (int layout = 0; layout < CF_LAYOUTS; layout++)
                for (uint32_t ranks = 1; ranks <= MOST; ranks++) {
                    struct cf_rank_info info[MOST];
                    struct cf_plan plan = {0};
                    struct cf_plan_wish wish = small_wish(layout);
                    char note[512];
                    small_ranks(info, ranks, 1);
                    if (cf_planner_make(&plan, &wish, &s.model, s.gguf, info, ranks, note, &e))
                        fail_msg("%s, layout %d, %u ranks: %s", cf_arch_at(a)->name, layout, ranks, e.text);
                    for (uint32_t l = 0; l < s.model.n_layers; l++)
                        for (int role = 0; role < CF_ROLES; role++)
                            if (cf_model_tensor(&s.model, s.gguf, (enum cf_role)role, l))
                                covers(&s, &plan, (enum cf_role)role, l);
                    cf_plan_free(&plan);
                }
            small_model_close(&s);
        }
    }
}

/* Bytes per role: all of them together are the file's, but for fused tensors held in f32. */
static void bytes_add_up(void **state) {
    (void)state;
    for (uint32_t n = 0; cf_arch_at(n / 2); n++) {
        const struct cf__synth_arch *arch = cf__synth_arch(cf_arch_at(n / 2)->name);
        if (!arch || (n % 2 && !arch->experts)) continue;
        struct cf_error e = {0};
        struct small_model s;
        struct cf__synth y = asked(arch->name);
        y.fused_gate_up = n % 2;
        assert_int_equal(open_arch(&s, &y, &e), 0);
        uint64_t sum = 0, file = 0, active = 0;
        for (uint32_t l = 0; l < s.model.n_layers; l++)
            for (int d = 0; d < CF_DOMAINS; d++) {
                if (l && d == CF_PREFRONTAL) continue;
                sum += cf_model_domain_bytes(&s.model, s.gguf, (enum cf_domain)d, l, false);
                active += cf_model_domain_bytes(&s.model, s.gguf, (enum cf_domain)d, l, true);
            }
        for (size_t i = 0; i < cf_gguf_n_tensors(s.gguf); i++) {
            const struct cf_gguf_tensor *t = cf_gguf_tensor_at(s.gguf, i);
            if (!strstr(t->name, "rope_f")) file += t->bytes;
        }
        assert_true(sum == file);
        assert_true(s.model.experts.n ? active < sum : active <= sum);
        small_model_close(&s);
    }
}

/* The cache of latent attention holds a key of d_k columns for each position and layer, and nothing beside it: its
 * value is the beginning of the key. */
static void latent_vectors_are_kept_once(void **state) {
    (void)state;
    static const double bytes_of[] = {2, 34.0 / 32, 18.0 / 32};
    for (uint32_t type = 0; type < 3; type++)
        for (uint32_t ranks = 1; ranks <= 3; ranks++) {
            struct cf_error e = {0};
            struct small_model s;
            struct cf__synth y = asked("deepseek2");
            y.kv_rank = 512, y.head_dim = 192, y.rope_dim = 64;
            assert_int_equal(open_arch(&s, &y, &e), 0);
            assert_true(s.model.d_k == 576 && s.model.d_v == 512 && s.model.d_v_apart == 0);
            struct cf_rank_info info[3];
            struct cf_plan plan = {0};
            struct cf_plan_wish wish = small_wish(CF_LAYOUT_TENSOR);
            struct cf_kv kv;
            char note[512];
            wish.kv_type = type;
            small_ranks(info, ranks, 1);
            assert_int_equal(cf_planner_make(&plan, &wish, &s.model, s.gguf, info, ranks, note, &e), 0);
            assert_int_equal(cf_kv_measure(&kv, &plan, &s.model, 0, &e), 0);
            double numbers = (double)wish.n_ctx * wish.n_seqs * s.model.n_layers * 576;
            assert_true((double)cf_kv_bytes(&kv) == numbers * bytes_of[type]);
            cf_kv_free(&kv);
            cf_plan_free(&plan);
            small_model_close(&s);
        }
}

static bool near(float got, double want) {
    return fabs((double)got - want) < 1e-6 * fabs(want);
}

/* What llama.cpp takes where a file says nothing. */
static void absent_keys_have_their_defaults(void **state) {
    (void)state;
    struct cf_error e = {0};
    struct small_model s;
    struct cf__synth y = asked("gemma2");
    const char *caps[] = {"attn_logit_softcapping", "final_logit_softcapping", NULL};
    assert_int_equal(open_without(&s, &y, caps, &e), 0);
    assert_true(s.model.attn_cap == 50.0f && s.model.logit_cap == 30.0f && s.model.window == 4096);
    small_model_close(&s);
    /* DeepSeek-V2: YaRN's 1 + 0.1 ln 8 squared over the scores; with a multiplier 1 + 0.0707 ln 8, and none over cos.
     */
    const char *multiplier[] = {"yarn_log_multiplier", NULL};
    for (int lost = 0; lost < 2; lost++) {
        y = asked("deepseek2"), y.rope_scaling = "yarn";
        assert_int_equal(open_without(&s, &y, lost ? multiplier : NULL, &e), 0);
        double plain = 1 / sqrt((double)(s.model.latent.plain + s.model.latent.rot)), log_factor = log(8);
        double scale = 1 + (lost ? 0.1 : (double)0.0707f) * log_factor;
        assert_true(near(s.model.attn_scale, plain * scale * scale));
        assert_true(near(s.model.rope.attn_factor, lost ? 1 : 1 / (1 + 0.1 * log_factor)));
        small_model_close(&s);
    }
}

/* Counts that would leave a layer without matrices, or wrap. */
static void hostile_counts_are_refused(void **state) {
    (void)state;
    const struct {
        const char *arch, *key;
        uint32_t value;
    } rows[] = {{"gpt-oss", "gpt-oss.leading_dense_block_count", 1},
        {"qwen3moe", "qwen3moe.expert_shared_count", 1u << 31}, {"qwen3moe", "qwen3moe.expert_group_count", 7},
        {"qwen3moe", "qwen3moe.expert_gating_func", 9}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cf_error e = {0};
        struct small_model s;
        struct cf__synth y = asked(rows[i].arch);
        more_key = rows[i].key, more_value = rows[i].value;
        assert_int_equal(open_without(&s, &y, NULL, &e), -1);
        assert_true(e.code == CF_ERR_FORMAT || e.code == CF_ERR_UNSUPPORTED);
        more_key = NULL;
        cf_gguf_close(s.gguf);
    }
    /* A shared expert of which one matrix is gone. */
    struct cf_error e = {0};
    struct small_model s;
    struct cf__synth y = asked("deepseek2");
    const char *lost[] = {"blk.1.ffn_gate_shexp.weight", NULL};
    assert_int_equal(open_without(&s, &y, lost, &e), -1);
    assert_non_null(strstr(e.text, "blk.1.ffn_gate_shexp.weight is missing"));
    cf_gguf_close(s.gguf);
}

static void what_is_unknown_is_named(void **state) {
    (void)state;
    struct cf_error e = {0};
    char list[256];
    assert_null(cf_arch_by_name("mamba"));
    cf_arch_list(list, sizeof list);
    for (uint32_t a = 0; cf_arch_at(a); a++) {
        assert_non_null(strstr(list, cf_arch_at(a)->name));
        assert_ptr_equal(cf_arch_by_name(cf_arch_at(a)->name), cf_arch_at(a));
    }
    /* The header says 8 heads, the file gets tensors of 4: the first that does not fit is named. */
    struct small_model s;
    struct cf__synth y = asked("qwen3"), other = asked("qwen3");
    other.heads = 4;
    struct cf_gguf_writer *w = NULL;
    struct cf__synth_tensors *t = NULL;
    char path[64];
    int fd = memfd_create("archs", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    memset(&s, 0, sizeof s);
    assert_int_equal(cf__synth_complete(&y, &e), 0);
    assert_int_equal(cf__synth_complete(&other, &e), 0);
    assert_int_equal(cf__synth_tensors_new(&t, &other, &e), 0);
    assert_int_equal(cf_gguf_writer_open_fd(&w, fd, "model", &e), 0);
    assert_int_equal(cf_gguf_add_str(w, "general.architecture", "qwen3", &e), 0);
    assert_int_equal(cf__synth_keys(w, &y, &e), 0);
    assert_int_equal(cf__synth_tensors_write(t, w, true, &e), 0);
    assert_int_equal(cf_gguf_writer_close(w, true, &e), 0);
    cf__synth_tensors_free(t);
    assert_int_equal(cf_gguf_open(&s.gguf, path, &e), 0);
    assert_int_equal(cf_model_open(&s.model, s.gguf, &e), -1);
    assert_int_equal(e.code, CF_ERR_FORMAT);
    assert_non_null(strstr(e.text, "blk.0.attn_"));
    cf_gguf_close(s.gguf);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_is_covered),
        cmocka_unit_test(bytes_add_up),
        cmocka_unit_test(latent_vectors_are_kept_once),
        cmocka_unit_test(absent_keys_have_their_defaults),
        cmocka_unit_test(hostile_counts_are_refused),
        cmocka_unit_test(what_is_unknown_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
