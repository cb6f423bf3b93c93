/* See sweep.h. The names are those of Open MPI 4.1: DIR/ompi.HOST.UID/pid.LAUNCHER and DIR/ompi.HOST.UID/jf.FAMILY,
 * where the family is the upper half of the job's number, and /dev/shm/vader_segment.HOST.UID.JOB.RANK. */
#include "coordinator/supervise/sweep.h"

#include <ftw.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH = 16 };

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *where) {
    (void)s, (void)kind, (void)where;
    remove(path);
    return 0;
}

static void remove_matches(const char *pattern) {
    glob_t found;
    struct stat s;
    if (glob(pattern, GLOB_NOSORT, NULL, &found)) return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        if (!lstat(found.gl_pathv[i], &s) && s.st_uid == geteuid())
            nftw(found.gl_pathv[i], remove_one, DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    globfree(&found);
}

static const char *first_of(const char *a, const char *b, const char *otherwise) {
    const char *set = getenv(a);
    if (!set || !*set) set = b ? getenv(b) : NULL;
    return set && *set ? set : otherwise;
}

static const char *sessions(void) {
    return first_of("OMPI_MCA_orte_tmpdir_base", "TMPDIR", "/tmp");
}

/* contact.txt in mpirun's session directory begins with its own number in the family: FAMILY * 65536. The job is the
 * next. */
uint32_t cf_sweep_job(pid_t launcher) {
    char pattern[4096];
    glob_t found;
    uint32_t job = 0;
    snprintf(
        pattern, sizeof pattern, "%s/ompi.*.%u/pid.%d/contact.txt", sessions(), (unsigned)geteuid(), (int)launcher);
    if (glob(pattern, GLOB_NOSORT, NULL, &found)) return 0;
    FILE *f = fopen(found.gl_pathv[0], "re");
    if (f && fscanf(f, "%" SCNu32 ".", &job) == 1 && job) job |= 1;
    if (f) fclose(f);
    globfree(&found);
    return job;
}

void cf_sweep(uint32_t job, pid_t launcher) {
    const char *memory = first_of("OMPI_MCA_btl_vader_backing_directory", NULL, "/dev/shm");
    char pattern[4096];
    unsigned uid = (unsigned)geteuid();
    if (launcher) {
        snprintf(pattern, sizeof pattern, "%s/ompi.*.%u/pid.%d", sessions(), uid, (int)launcher);
        remove_matches(pattern);
    }
    if (!job) return;
    snprintf(pattern, sizeof pattern, "%s/ompi.*.%u/jf.%u", sessions(), uid, (unsigned)(job >> 16));
    remove_matches(pattern);
    snprintf(pattern, sizeof pattern, "%s/vader_segment.*.%u.%x.*", memory, uid, (unsigned)job);
    remove_matches(pattern);
}
