/* Preloaded into coffer: from byte FAIL_AT of any file on, pread fails with EIO, or finds the end of the file if
 * FAIL_HOW is "end", as if somebody had cut it short in the meantime. If it is "slow 0" rank 0 does not answer for a
 * while instead, and the others get EIO. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t pread(int fd, void *buf, size_t n, off_t at);
ssize_t pread64(int fd, void *buf, size_t n, off_t at);

ssize_t pread(int fd, void *buf, size_t n, off_t at) {
    const char *from = getenv("FAIL_AT"), *how = getenv("FAIL_HOW");
    if (from && at + (off_t)n > atol(from)) {
        const char *rank = getenv("OMPI_COMM_WORLD_RANK");
        if (how && !strcmp(how, "end")) return 0;
        if (how && !strcmp(how, "slow 0") && rank && !strcmp(rank, "0")) {
            sleep(6);
            return syscall(SYS_pread64, fd, buf, n, at);
        }
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, buf, n, at);
}

ssize_t pread64(int fd, void *buf, size_t n, off_t at) {
    return pread(fd, buf, n, at);
}
