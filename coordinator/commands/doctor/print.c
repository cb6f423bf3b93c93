/* What `coffer doctor` prints: rows that are the same on several ranks once, and what to do below the row; or JSON. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/doctor/doctor.h"

static const char *const state_names[] = {"ok", "warn", "FAIL"}, *const state_words[] = {"ok", "warn", "fail"};

static const struct cf__finding *at(const struct cf__finding *all, int n_checks, int rank, int check) {
    return all + (size_t)rank * (size_t)n_checks + check;
}

static bool same(const struct cf__finding *a, const struct cf__finding *b) {
    return a->check && b->check && a->state == b->state && !strcmp(a->found, b->found) && !strcmp(a->advice, b->advice);
}

/* "0-3,5": the ranks that say what `rank` says; empty if an earlier one has said it. */
static void who_says(
    const struct cf__finding *all, int n_checks, int n_ranks, int rank, int check, char *out, size_t size) {
    size_t n = 0;
    out[0] = '\0';
    for (int r = 0; r < rank; r++)
        if (same(at(all, n_checks, r, check), at(all, n_checks, rank, check))) return;
    for (int r = rank; r < n_ranks && n + 24 < size; r++) {
        if (!same(at(all, n_checks, r, check), at(all, n_checks, rank, check))) continue;
        int last = r;
        while (last + 1 < n_ranks && same(at(all, n_checks, last + 1, check), at(all, n_checks, rank, check)))
            last++;
        n += (size_t)snprintf(out + n, size - n, last > r ? "%s%d-%d" : "%s%d", n ? "," : "", r, last);
        r = last;
    }
}

static void print_row(FILE *to, const char *ranks, const char *host, const struct cf__finding *f) {
    fprintf(to, "%-8s %-12s %-11s %-5s %s\n", ranks, host, f->check, state_names[f->state], f->found);
    if (*f->advice) fprintf(to, "%-8s %-12s %-11s %-5s   -> %s\n", "", "", "", "", f->advice);
}

static int worst_of(const struct cf__ward *w, const struct cf__finding *all, int n_checks, int count[3]) {
    count[0] = count[1] = count[2] = 0;
    for (int i = 0; i < w->n_ranks * n_checks; i++)
        if (all[i].check) count[all[i].state]++;
    return count[CF__STATE_FAIL] ? CF__STATE_FAIL : count[CF__STATE_WARN] ? CF__STATE_WARN : CF__STATE_OK;
}

char *cf__doctor_table(const struct cf__ward *w, const struct cf__finding *all, int n_checks, size_t *size) {
    char *text = NULL, ranks[64];
    int count[3];
    FILE *to = open_memstream(&text, size);
    if (!to) return NULL;
    fprintf(to, "%-8s %-12s %-11s %-5s %s\n", "rank", "host", "check", "", "found, and what to do");
    for (int i = 0; i < n_checks; i++)
        for (int r = 0; r < w->n_ranks; r++) {
            if (!at(all, n_checks, r, i)->check) continue;
            who_says(all, n_checks, w->n_ranks, r, i, ranks, sizeof ranks);
            bool several = strpbrk(ranks, ",-") != NULL;
            if (*ranks) print_row(to, ranks, several ? "" : w->patients[r].host, at(all, n_checks, r, i));
        }
    worst_of(w, all, n_checks, count);
    fprintf(to, "%d rank%s: %d ok, %d warning%s, %d failure%s\n", w->n_ranks, w->n_ranks > 1 ? "s" : "", count[0],
        count[1], count[1] == 1 ? "" : "s", count[2], count[2] == 1 ? "" : "s");
    fclose(to);
    return text;
}

/* Texts of the operating system need not be UTF-8. */
static json_t *text_of(const char *text) {
    json_t *j = json_string(text);
    return j ? j : json_string("(not UTF-8)");
}

static json_t *rank_of(const struct cf__ward *w, const struct cf__finding *all, int n_checks, int rank) {
    json_t *checks = json_array(), *links = json_array();
    for (int i = 0; i < n_checks; i++) {
        const struct cf__finding *f = at(all, n_checks, rank, i);
        if (f->check)
            json_array_append_new(
                checks, json_pack("{s:s, s:s, s:o, s:o}", "check", f->check, "state", state_words[f->state], "found",
                            text_of(f->found), "advice", text_of(f->advice)));
    }
    const Cf__Checkup *c = w->patients[rank].links;
    for (size_t i = 0; c && i < c->n_links; i++)
        json_array_append_new(
            links, json_pack("{s:i, s:f, s:f, s:f}", "to", (int)c->links[i]->peer, "latency_s", c->links[i]->latency,
                       "bytes_per_s", c->links[i]->bandwidth, "clock_s", c->links[i]->clock));
    return json_pack("{s:i, s:o, s:o, s:o}", "rank", rank, "host", text_of(w->patients[rank].host), "checks", checks,
        "links", links);
}

char *cf__doctor_json(const struct cf__ward *w, const struct cf__finding *all, int n_checks) {
    int count[3], worst = worst_of(w, all, n_checks, count);
    json_t *ranks = json_array();
    for (int r = 0; r < w->n_ranks; r++)
        json_array_append_new(ranks, rank_of(w, all, n_checks, r));
    json_t *j = json_pack("{s:s, s:i, s:i, s:i, s:o}", "state", state_words[worst], "ok", count[0], "warnings",
        count[1], "failures", count[2], "ranks", ranks);
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(j);
    return text;
}
