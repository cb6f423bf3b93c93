/* What a job says about its coming up: bars while it sends and loads, and a line per rank about memory afterwards. */
#include <stdio.h>

#include "coordinator/decode/internal.h"
#include "transport/clock.h"

void cf__job_show_loading(void *ctx, uint64_t done, uint64_t total) {
    struct cf_job *j = ctx;
    char label[64];
    double seconds = cf_now() - j->load_start;
    snprintf(label, sizeof label, "loading\t%.1f of %.1f GB, %.1f GB/s", (double)done / 1e9, (double)total / 1e9,
        seconds > 0 ? (double)done / seconds / 1e9 : 0);
    cf_terminal_progress(j->o->terminal, total ? (double)done / (double)total : 1.0, label);
}

void cf__job_show_shipping(void *ctx, uint64_t done, uint64_t total) {
    struct cf_job *j = ctx;
    char label[64];
    snprintf(label, sizeof label, "sending the model\t%.1f of %.1f MB", (double)done * 1e-6, (double)total * 1e-6);
    cf_terminal_progress(j->o->terminal, total ? (double)done / (double)total : 1.0, label);
}

/* A line for every host that was sent something, or had it from an earlier run. */
void cf__job_say_ship(struct cf_job *j) {
    for (uint32_t r = 0; r < j->n_ranks && j->ship; r++) {
        struct cf_ship_count k = cf_ship_counts(j->ship, (int)r);
        char damaged[64] = "";
        if (k.damaged) snprintf(damaged, sizeof damaged, ", %.1f MB there were damaged", (double)k.damaged * 1e-6);
        if (k.sent || k.there)
            cf_terminal_note(j->o->terminal, "rank %u host %s: %.1f MB of the model sent, %.1f MB were in its cache%s",
                r, j->ranks[r].host, (double)k.sent * 1e-6, (double)k.there * 1e-6, damaged);
    }
}

void cf_job_say_loading(const struct cf_job *j) {
    for (uint32_t r = 0; r < j->n_ranks; r++) {
        const struct cf_rank_ready *k = cf_engine_ready(j->engine, (int)r);
        double rest = k->load_seconds - k->read_seconds - k->pack_seconds - k->audit_seconds;
        cf_terminal_note(j->o->terminal,
            "rank %u host %s node %d: loaded %.2f GB in %.3f s (%.2f GB/s): read %.3f s, pack %.3f s, audit %.3f s, "
            "rest %.3f s",
            r, j->ranks[r].host, j->ranks[r].node, (double)k->load_bytes / 1e9, k->load_seconds,
            k->load_seconds > 0 ? (double)k->load_bytes / k->load_seconds / 1e9 : 0, k->read_seconds, k->pack_seconds,
            k->audit_seconds, rest > 0 ? rest : 0);
    }
}

/* One line per rank about where its memory lies; silence only where there is nothing to say. */
void cf__job_say_audit(struct cf_job *j) {
    cf_terminal_progress(j->o->terminal, 1.0, "loading");
    for (uint32_t r = 0; r < j->n_ranks; r++) {
        const struct cf_rank_ready *k = cf_engine_ready(j->engine, (int)r);
        double pages = k->pages ? (double)k->pages : 1.0;
        char window[64] = "";
        if (k->window) snprintf(window, sizeof window, ", shared window %.0f MiB", (double)k->window / (1 << 20));
        cf_terminal_note(j->o->terminal, "rank %u host %s node %d: %.2f GiB, %.1f %% local, %.0f %% huge%s%s%s", r,
            j->ranks[r].host, j->ranks[r].node, (double)k->bytes / (1024.0 * 1024.0 * 1024.0),
            100.0 * (double)k->local / pages, 100.0 * (double)k->huge / pages, window, k->note[0] ? "; " : "", k->note);
    }
    if (j->o->place.verbose) cf_job_say_loading(j);
}
