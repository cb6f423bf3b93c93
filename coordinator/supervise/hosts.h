/* The hosts that mpirun may use, and which of them still answer. They come from --hostfile or --host, else from a
 * --hostfile in COFFER_MPIRUN, else from the Slurm allocation around us, else from the default that Open MPI's
 * environment names; without any there is this host alone, and nothing here has anything to do.
 *
 * A host answers if its kernel does: a TCP connection to its port 22 is accepted or refused. Asked once before the
 * first start (who does not answer then, because of a firewall, is never asked again and never counts as lost) and
 * again after a failure.
 */
#ifndef COFFER_COORDINATOR_SUPERVISE_HOSTS_H
#define COFFER_COORDINATOR_SUPERVISE_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/error.h"

enum { CF_HOST_NAME = 128 };

struct cf_host {
    char name[CF_HOST_NAME];
    int slots;
    bool answered; /* when it was asked first */
    bool lost;
};

struct cf_hosts {
    struct cf_host *at; /* [n] */
    size_t n, n_lost;
    const char *file; /* --hostfile, for mpirun; NULL: it knows the hosts from elsewhere */
    /* It must be told of all of them, always: --host, or a --hostfile without the slots of each, which would be as many
     * as the host has cores to mpirun: all ranks on the first one. */
    bool listed;
    bool borrowed;  /* from COFFER_MPIRUN, Slurm: they say where ranks may be, not how many there shall be */
    bool allocated; /* by Slurm */
    char *words;    /* of cf_hosts_list */
};

/* file, list: the options, or NULL. A line of the file is a name, "slots=N" (1) and what else Open MPI allows; the list
 * is "a:2,b". Who is named twice has both slots. Closed by cf_hosts_close, also after a failure. */
int cf_hosts_open(struct cf_hosts *h, const char *file, const char *list, struct cf_error *e);
/* Is this one of mpirun's options for such a list? */
bool cf_hosts_names_list(const char *word);
/* What Slurm has allocated, into an h that is zero: nodes "n[1-3,8],x", and the tasks of each, "2(x3),1,1". Fails where
 * they are not understood. Closed by cf_hosts_close as well. */
int cf_hosts_allocated(struct cf_hosts *h, const char *nodes, const char *tasks, struct cf_error *e);
/* The bytes[n] of a host file, into an h that is zero; file: for messages. Closed by cf_hosts_close as well. */
int cf_hosts_parse(struct cf_hosts *h, const char *file, const char *bytes, size_t n, struct cf_error *e);
void cf_hosts_close(struct cf_hosts *h);

/* So many slots for each of them, and mpirun is to be told. */
void cf_hosts_deal(struct cf_hosts *h, int slots);

/* Ranks that fit on those that are not lost, one per slot. */
int cf_hosts_slots(const struct cf_hosts *h);

/* Asks those that are not lost. first: before the first start. Else those that have fallen silent are lost from now on;
 * returns how many they are. Takes two seconds at most, and what a resolver that does not answer takes for one name. */
size_t cf_hosts_ask(struct cf_hosts *h, bool first);

/* Nobody is lost any more. */
void cf_hosts_forgive(struct cf_hosts *h);

/* For mpirun's --host: "a:2,b:1", those that are not lost; NULL: it needs no such word. Valid until the next call. */
const char *cf_hosts_list(struct cf_hosts *h);

#endif
