/* Fuzz target: any bytes as a host file, as the list of --host, and (two lines) as what Slurm has allocated
 * (coordinator/supervise/hosts.h). What is accepted and
 * told to mpirun is read again as the same hosts. Seeds: corpus/hosts. */
#include "coordinator/supervise/hosts.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 16 }; /* slots of a host */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct cf_hosts *h) {
    long slots = 0;
    if (!h->n) abort();
    for (size_t i = 0; i < h->n; i++) {
        const struct cf_host *k = &h->at[i];
        size_t n = strnlen(k->name, sizeof k->name);
        if (!n || n == sizeof k->name || strcspn(k->name, " \t\r\n,:;@=#/[]") != n) abort();
        if (k->slots < 1 || k->slots > MOST || k->lost) abort();
        for (size_t j = 0; j < i && i < 64; j++)
            if (!strcmp(k->name, h->at[j].name)) abort();
        slots += k->slots;
    }
    if (cf_hosts_slots(h) != slots) abort();
}

static void check_again(struct cf_hosts *h) {
    struct cf_hosts again;
    struct cf_error e;
    check(h);
    h->listed = true;
    const char *list = cf_hosts_list(h);
    if (!list) return;
    if (cf_hosts_open(&again, NULL, list, &e) || again.n != h->n) abort();
    for (size_t i = 0; i < h->n; i++)
        if (strcmp(again.at[i].name, h->at[i].name) != 0 || again.at[i].slots != h->at[i].slots) abort();
    cf_hosts_close(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cf_hosts h = {0};
    struct cf_error e;
    if (!cf_hosts_parse(&h, "x.hosts", (const char *)data, size, &e))
        check_again(&h);
    else if (strncmp(e.text, "x.hosts:", 8) != 0) /* whatever is wrong, the file is named */
        abort();
    cf_hosts_close(&h);

    char *list = malloc(size + 1);
    if (!list) return 0;
    if (size) memcpy(list, data, size);
    list[size] = '\0';
    if (!cf_hosts_open(&h, NULL, list, &e))
        check_again(&h);
    else if (strncmp(e.text, "--host ", 7) != 0)
        abort();
    cf_hosts_close(&h);

    char *tasks = strchr(list, '\n');
    if (tasks) *tasks++ = '\0';
    h = (struct cf_hosts){0};
    if (tasks && !cf_hosts_allocated(&h, list, tasks, &e)) check_again(&h);
    cf_hosts_close(&h);
    free(list);
    return 0;
}
