/* What this host's kernels have been measured to do, kept from start to start: a small JSON file, one per host name,
 * version of the program and way of measuring, in $XDG_CACHE_HOME/coffer (default ~/.cache/coffer). It only saves time:
 * where it cannot be read or written everything is measured again and nothing is said. COFFER_CALIBRATION names another
 * file, "" none.
 */
#ifndef COFFER_COORDINATOR_DECODE_MEASURE_RATES_FILE_H
#define COFFER_COORDINATOR_DECODE_MEASURE_RATES_FILE_H

#include <stdbool.h>

struct json_t;

#define CF_RATES_SINGLE ", one row" /* behind the name of a product's rate: that with one row at a time */
#define CF_RATES_FEW ", 8 rows"     /* that with CF_FEW_ROWS (node/engine/rate.h) at a time */
#define CF_RATES_BETWEEN "between products"

enum {
    CF_RATES_NAME = 512
}; /* room for a rate's name: a table that lacks types of another one names all that it has */

struct cf_rates_file {
    char path[4096];      /* "": none */
    struct json_t *rates; /* name: rate; NULL: no memory */
    bool changed;
};

void cf_rates_open(struct cf_rates_file *f);
bool cf_rates_get(const struct cf_rates_file *f, const char *name, double *rate);
void cf_rates_clear(struct cf_rates_file *f); /* from now on there is none in it */
void cf_rates_set(struct cf_rates_file *f, const char *name, double rate);
/* Writes it if something was set: all of it, under another name first, so that ranks which do so at the same time leave
 * one whole file. */
void cf_rates_close(struct cf_rates_file *f);

#endif
