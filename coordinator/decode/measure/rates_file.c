/* See rates_file.h. */
#include "coordinator/decode/measure/rates_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

enum { MOST_BYTES = 1 << 20 };

/* Raised when kernels are measured in another way (node/engine/rate.c): older figures are not comparable. */
#define METHOD "2"

static void name_file(struct cf_rates_file *f) {
    const char *own = getenv("COFFER_CALIBRATION"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char host[256] = "";
    f->path[0] = 0;
    if (own) {
        if (strlen(own) < sizeof f->path) memcpy(f->path, own, strlen(own) + 1);
        return;
    }
    if (gethostname(host, sizeof host - 1) || !*host || strchr(host, '/')) return;
    int n = -1;
    if (cache && *cache == '/')
        n = snprintf(f->path, sizeof f->path, "%s/coffer/rates-%s-" METHOD "-%s.json", cache, COFFER_VERSION, host);
    else if (home && *home == '/')
        n = snprintf(
            f->path, sizeof f->path, "%s/.cache/coffer/rates-%s-" METHOD "-%s.json", home, COFFER_VERSION, host);
    if (n < 0 || n >= (int)sizeof f->path) f->path[0] = 0;
}

void cf_rates_open(struct cf_rates_file *f) {
    struct stat s;
    f->rates = NULL, f->changed = false;
    name_file(f);
    if (*f->path && !stat(f->path, &s) && S_ISREG(s.st_mode) && s.st_size < MOST_BYTES)
        f->rates = json_load_file(f->path, 0, NULL);
    if (!json_is_object(f->rates)) {
        json_decref(f->rates);
        f->rates = json_object();
    }
}

bool cf_rates_get(const struct cf_rates_file *f, const char *name, double *rate) {
    double v = json_number_value(json_object_get(f->rates, name));
    if (!(v > 0 && v < 1e18)) return false;
    *rate = v;
    return true;
}

void cf_rates_set(struct cf_rates_file *f, const char *name, double rate) {
    if (rate > 0 && !json_object_set_new(f->rates, name, json_real(rate))) f->changed = true;
}

void cf_rates_clear(struct cf_rates_file *f) {
    f->changed |= json_object_size(f->rates) > 0;
    json_object_clear(f->rates);
}

/* The folders above the file, as far as they are missing. What cannot be made is found out when the file is written. */
static void make_folders(char *path) {
    for (char *s = strchr(path + 1, '/'); s; s = strchr(s + 1, '/')) {
        *s = 0;
        (void)mkdir(path, 0777);
        *s = '/';
    }
}

void cf_rates_close(struct cf_rates_file *f) {
    char part[sizeof f->path + 32];
    if (f->changed && *f->path) {
        make_folders(f->path);
        snprintf(part, sizeof part, "%s.%ld", f->path, (long)getpid());
        if (json_dump_file(f->rates, part, JSON_INDENT(2) | JSON_SORT_KEYS) || rename(part, f->path))
            unlink(part), f->path[0] = 0;
    }
    json_decref(f->rates);
    f->rates = NULL;
}
