/* What every rank found on itself, brought to rank 0. Not a hello round: it compares nothing, and what has arrived when
 * a rank falls silent is kept, because that is what `coffer doctor` is asked for. */
#include "transport/internal.h"

#include <string.h>

struct gathering {
    Cf__Checkup **all; /* [size], rank 0 */
    int missing;
};

static int on_checkup(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    (void)data;
    (void)offset;
    (void)n;
    struct gathering *g = ctx;
    if (!g->all || env->body_case != CF__ENVELOPE__BODY_CHECKUP || g->all[from]) return 1; // of the next round
    g->all[from] = cf_transport_copy(&env->checkup->base, e);
    g->missing--;
    return g->all[from] ? 0 : -1;
}

static bool all_came(void *ctx) {
    return ((const struct gathering *)ctx)->missing == 0;
}

static int tell(struct cf_transport *t, const Cf__Checkup *mine, struct cf_error *e) {
    Cf__Checkup copy = *mine;
    Cf__Envelope env = CF__ENVELOPE__INIT;
    env.body_case = CF__ENVELOPE__BODY_CHECKUP;
    env.checkup = &copy;
    return cf_post(t, 0, &env, NULL, 0, NULL, e);
}

int cf_transport_collect(struct cf_transport *t, const Cf__Checkup *mine, Cf__Checkup **all, struct cf_error *e) {
    if (t->rank != 0) return tell(t, mine, e);
    struct gathering g = {.all = all, .missing = t->size - 1};
    memset(all, 0, (size_t)t->size * sizeof(Cf__Checkup *));
    all[0] = cf_transport_copy(&mine->base, e);
    if (!all[0]) return -1;
    cf_on_message before = t->on_message;
    void *before_ctx = t->on_message_ctx;
    cf_transport_on_message(t, on_checkup, &g);
    int rc = cf_wait(t, all_came, &g, NULL, e);
    cf_transport_on_message(t, before, before_ctx);
    return rc;
}

/* "Open MPI v4.1.4, package: ..." or "MPICH Version:  4.0.2\n...": up to what follows the version. */
void cf_transport_library(char *out, size_t size) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n;
    if (MPI_Get_library_version(text, &n)) text[0] = '\0';
    text[strcspn(text, ",\n")] = '\0';
    strncpy(out, text, size - 1);
    out[size - 1] = '\0';
}
