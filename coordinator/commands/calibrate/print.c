/* What `coffer calibrate` prints: tables in markdown, or one JSON object. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/calibrate/calibrate.h"
#include "coordinator/decode/measure/rates_file.h"

enum { MOST_COLUMNS = 8 };

static const double GIB = 1024.0 * 1024.0 * 1024.0;

/* ---- tables ---- */

static void ranks_table(FILE *f, const struct cf__calibrate *c) {
    fprintf(f, "| rank | host | node | threads | read, GB/s | alone | noise | threads meet, us | free, GiB | hugetlb "
               "pool | transparent |\n|---:|---|---:|---:|---:|---|---|---:|---:|---|---|\n");
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        const Cf__Checkup *k = c->found[r];
        fprintf(f, "| %u | %s | %u | %u | %.2f | ", r, c->ranks[r].host, k->node, k->threads, 1e-9 * k->bandwidth);
        if (k->alone > 0)
            fprintf(f, "%.2f x | ", k->alone);
        else
            fputs("- | ", f);
        if (k->n_noise)
            fprintf(f, "%.2f to %.2f", k->noise[0], k->noise[k->n_noise - 1]);
        else
            fputs("-", f);
        fprintf(f, " | %.2f | %.1f | ", 1e6 * k->step, (double)k->memory_free / GIB);
        if (k->huge_page)
            fprintf(f, "%llu free of %.0f MiB", (unsigned long long)k->huge_free, (double)k->huge_page / (1 << 20));
        else
            fputs("none", f);
        fprintf(f, " | %s |\n", k->thp && *k->thp ? k->thp : "-");
    }
}

/* A figure of a rank, 0: it has none. */
typedef double figure_fn(const Cf__Checkup *k, const char *isa, uint32_t type);

static const Cf__CheckupTable *table_of(const Cf__Checkup *k, const char *isa) {
    for (size_t i = 0; i < k->n_tables; i++)
        if (!strcmp(k->tables[i]->isa, isa)) return k->tables[i];
    return NULL;
}
static double of_type(const Cf__CheckupTable *t, uint32_t type, size_t n, const double *rates) {
    for (size_t i = 0; i < t->n_types && i < n; i++)
        if (t->types[i] == type) return rates[i];
    return 0;
}
static double product_of(const Cf__Checkup *k, const char *isa, uint32_t type) {
    const Cf__CheckupTable *t = table_of(k, isa);
    return t ? of_type(t, type, t->n_rates, t->rates) : 0;
}
static double single_of(const Cf__Checkup *k, const char *isa, uint32_t type) {
    const Cf__CheckupTable *t = table_of(k, isa);
    return t ? of_type(t, type, t->n_single_rates, t->single_rates) : 0;
}
static double few_of(const Cf__Checkup *k, const char *isa, uint32_t type) {
    const Cf__CheckupTable *t = table_of(k, isa);
    return t ? of_type(t, type, t->n_few_rates, t->few_rates) : 0;
}
static double attention_of(const Cf__Checkup *k, const char *isa, uint32_t type) {
    const Cf__CheckupTable *t = table_of(k, isa);
    (void)type;
    return t ? t->attention : 0;
}
static double between_of(const Cf__Checkup *k, const char *isa, uint32_t type) {
    const Cf__CheckupTable *t = table_of(k, isa);
    (void)type;
    return t ? t->between : 0;
}

/* One line: each rank's figure while there are few, else the least and the most. */
static void rate_line(
    FILE *f, const struct cf__calibrate *c, const char *isa, const char *what, figure_fn *figure, uint32_t type) {
    uint32_t least = 0, most = 0;
    bool any = false;
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        double v = figure(c->found[r], isa, type);
        any |= v > 0;
        if (v < figure(c->found[least], isa, type)) least = r;
        if (v > figure(c->found[most], isa, type)) most = r;
    }
    if (!any) return;
    fprintf(f, "| %s | %s |", isa, what);
    for (uint32_t r = 0; r < c->n_ranks && c->n_ranks <= MOST_COLUMNS; r++)
        fprintf(f, " %.2f |", 1e-9 * figure(c->found[r], isa, type));
    if (c->n_ranks > MOST_COLUMNS)
        fprintf(f, " %.2f (rank %u) | %.2f (rank %u) |", 1e-9 * figure(c->found[least], isa, type), least,
            1e-9 * figure(c->found[most], isa, type), most);
    fputs("\n", f);
}

/* Of all ranks, each table once. */
static bool is_first(const struct cf__calibrate *c, uint32_t rank, const char *isa) {
    for (uint32_t r = 0; r < rank; r++)
        if (table_of(c->found[r], isa)) return false;
    return true;
}

static void rates_table(FILE *f, const struct cf__calibrate *c) {
    uint32_t columns = c->n_ranks <= MOST_COLUMNS ? c->n_ranks : 2;
    fprintf(f, "\n10^9 multiply-adds/s of all threads of a rank, and floats/s:\n\n| kernels | weights |");
    for (uint32_t i = 0; i < columns; i++)
        if (c->n_ranks <= MOST_COLUMNS)
            fprintf(f, " rank %u |", i);
        else
            fprintf(f, " %s |", i ? "most" : "least");
    fputs("\n|---|---|", f);
    for (uint32_t i = 0; i < columns; i++)
        fputs("---:|", f);
    fputs("\n", f);
    for (uint32_t r = 0; r < c->n_ranks; r++)
        for (size_t t = 0; t < c->found[r]->n_tables; t++) {
            const char *isa = c->found[r]->tables[t]->isa;
            if (!is_first(c, r, isa)) continue;
            for (uint32_t id = 0; id < CF_TYPE_LIMIT; id++) {
                if (!cf_type_by_id(id)) continue;
                char one[64], few[64];
                snprintf(one, sizeof one, "%s" CF_RATES_SINGLE, cf_type_by_id(id)->name);
                snprintf(few, sizeof few, "%s" CF_RATES_FEW, cf_type_by_id(id)->name);
                rate_line(f, c, isa, cf_type_by_id(id)->name, product_of, id);
                rate_line(f, c, isa, one, single_of, id);
                rate_line(f, c, isa, few, few_of, id);
            }
            rate_line(f, c, isa, "attention", attention_of, 0);
            rate_line(f, c, isa, "floats " CF_RATES_BETWEEN, between_of, 0);
        }
}

static void links_table(FILE *f, const struct cf__calibrate *c) {
    if (c->n_ranks < 2) return;
    fprintf(f, "\n| link | hosts | 8 B, us | 16 KiB, us | 1 MiB, us | GB/s | both ways, GB/s "
               "|\n|---|---|---:|---:|---:|---:|---:|\n");
    for (uint32_t r = 0; r < c->n_ranks; r++)
        for (size_t i = 0; i < c->found[r]->n_links; i++) {
            const Cf__CheckupLink *l = c->found[r]->links[i];
            if (l->peer >= c->n_ranks || l->n_seconds != CF_LINK_SIZES || l->n_both != CF_LINK_SIZES) continue;
            bool one = c->ranks[r].host_index == c->ranks[l->peer].host_index;
            fprintf(f, "| %u - %u | %s%s%s |", r, l->peer, c->ranks[r].host, one ? "" : " - ",
                one ? "" : c->ranks[l->peer].host);
            for (int k = 0; k < CF_LINK_SIZES; k++)
                fprintf(f, " %.1f |", 1e6 * l->seconds[k]);
            fprintf(f, " %.3f | %.3f |\n", 1e-9 * l->bandwidth,
                1e-9 * (double)cf_link_sizes[CF_LINK_SIZES - 1] / l->both[CF_LINK_SIZES - 1]);
        }
}

bool cf__calibrate_speaks(const struct cf__calibrate *c, uint32_t rank) {
    for (uint32_t r = 0; r < rank; r++)
        if (c->ranks[r].host_index == c->ranks[rank].host_index) return false;
    return true;
}

static void files_table(FILE *f, const struct cf__calibrate *c) {
    if (!c->disk) return;
    fprintf(f, "\n| host | file system, GB/s | read |\n|---|---:|---|\n");
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        const Cf__Checkup *k = c->found[r];
        if (!cf__calibrate_speaks(c, r)) continue;
        if (k->file_bytes && k->file_seconds > 0)
            fprintf(f, "| %s | %.2f | %.1f MiB past the page cache |\n", c->ranks[r].host,
                1e-9 * (double)k->file_bytes / k->file_seconds, (double)k->file_bytes / (1 << 20));
        else
            fprintf(f, "| %s | - | O_DIRECT is refused: %s |\n", c->ranks[r].host, k->file_why);
    }
}

char *cf__calibrate_tables(const struct cf__calibrate *c) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    ranks_table(f, c);
    rates_table(f, c);
    links_table(f, c);
    files_table(f, c);
    if (c->rates_file)
        fprintf(f, "\nrates are kept on every host, here in %s\n", c->rates_file);
    else
        fprintf(f, "\nrates are not kept here: there is no folder for them, or it cannot be written (XDG_CACHE_HOME, "
                   "COFFER_CALIBRATION)\n");
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- JSON ---- */

/* Texts of the operating system need not be UTF-8. */
static json_t *text_of(const char *text) {
    json_t *j = text ? json_string(text) : json_null();
    return j ? j : json_string("(not UTF-8)");
}

static json_t *json_table(const Cf__CheckupTable *t) {
    json_t *rates = json_object(), *single = json_object(), *few = json_object();
    for (size_t i = 0; i < t->n_types && i < t->n_rates && i < t->n_single_rates && i < t->n_few_rates; i++) {
        const struct cf_type *type = cf_type_by_id(t->types[i]);
        if (!type) continue;
        json_object_set_new(rates, type->name, json_real(t->rates[i]));
        json_object_set_new(single, type->name, json_real(t->single_rates[i]));
        json_object_set_new(few, type->name, json_real(t->few_rates[i]));
    }
    return json_pack("{s:o,s:f,s:f,s:o,s:o,s:o}", "isa", text_of(t->isa), "attention", t->attention, "between",
        t->between, "rates", rates, "one_row", single, "eight_rows", few);
}

static json_t *json_rank(const struct cf__calibrate *c, uint32_t r) {
    const Cf__Checkup *k = c->found[r];
    json_t *noise = json_array(), *kernels = json_array();
    for (size_t i = 0; i < k->n_noise; i++)
        json_array_append_new(noise, json_real(k->noise[i]));
    for (size_t i = 0; i < k->n_tables; i++)
        json_array_append_new(kernels, json_table(k->tables[i]));
    json_t *alone = k->alone > 0 ? json_real(k->alone) : json_null();
    json_t *limit = k->memory_limit == UINT64_MAX ? json_null() : json_integer((json_int_t)k->memory_limit);
    return json_pack("{s:i,s:o,s:i,s:i,s:f,s:o,s:o,s:f,s:I,s:o,s:I,s:I,s:o,s:o}", "rank", (int)r, "host",
        text_of(c->ranks[r].host), "node", (int)k->node, "threads", (int)k->threads, "bandwidth", k->bandwidth, "alone",
        alone, "noise", noise, "step_s", k->step, "memory_free", (json_int_t)k->memory_free, "memory_limit", limit,
        "huge_page", (json_int_t)k->huge_page, "huge_free", (json_int_t)k->huge_free, "transparent", text_of(k->thp),
        "kernels", kernels);
}

static json_t *json_link(const struct cf__calibrate *c, uint32_t from, const Cf__CheckupLink *l) {
    json_t *seconds = json_array();
    for (size_t i = 0; i < l->n_seconds && i < l->n_both && i < CF_LINK_SIZES; i++)
        json_array_append_new(seconds, json_pack("{s:I,s:f,s:f}", "bytes", (json_int_t)cf_link_sizes[i], "seconds",
                                           l->seconds[i], "both_ways_s", l->both[i]));
    bool one = l->peer < c->n_ranks && c->ranks[from].host_index == c->ranks[l->peer].host_index;
    return json_pack("{s:i,s:i,s:b,s:f,s:f,s:o}", "from", (int)from, "to", (int)l->peer, "same_host", one, "latency_s",
        l->latency, "bytes_per_s", l->bandwidth, "one_way", seconds);
}

static json_t *json_host(const struct cf__calibrate *c, uint32_t r) {
    const Cf__Checkup *k = c->found[r];
    json_t *file = json_null();
    if (c->disk && k->file_bytes && k->file_seconds > 0)
        file = json_pack("{s:I,s:f,s:f}", "bytes", (json_int_t)k->file_bytes, "seconds", k->file_seconds, "bytes_per_s",
            (double)k->file_bytes / k->file_seconds);
    else if (c->disk)
        file = json_pack("{s:o}", "refused", text_of(k->file_why));
    return json_pack("{s:o,s:i,s:o}", "host", text_of(c->ranks[r].host), "first_rank", (int)r, "file", file);
}

char *cf__calibrate_json(const struct cf__calibrate *c) {
    json_t *ranks = json_array(), *links = json_array(), *hosts = json_array();
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        json_array_append_new(ranks, json_rank(c, r));
        for (size_t i = 0; i < c->found[r]->n_links; i++)
            json_array_append_new(links, json_link(c, r, c->found[r]->links[i]));
        if (cf__calibrate_speaks(c, r)) json_array_append_new(hosts, json_host(c, r));
    }
    json_t *all = json_pack("{s:s,s:o,s:o,s:o,s:o,s:o}", "version", COFFER_VERSION, "model", text_of(c->model), "ranks",
        ranks, "links", links, "hosts", hosts, "rates_file", text_of(c->rates_file));
    char *dump = all ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL, *text = NULL;
    json_decref(all);
    if (dump && asprintf(&text, "%s\n", dump) < 0) text = NULL;
    free(dump);
    return text;
}
