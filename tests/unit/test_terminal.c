/* What becomes of text that nobody reads any more. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <pty.h>

#include "coordinator/cli/interrupt.h"
#include "coordinator/cli/terminal.h"

enum { FAILED = 1, STOPPED = 42, LAST = 50 };

/* Rank 0 in somebody's mpirun: writes until it is asked to stop, then last words. */
static void write_on(int to, const char *last) {
    struct cf_terminal t;
    struct cf_error e;
    dup2(to, STDOUT_FILENO);
    cf_interrupt_install(false);
    cf_terminal_open(&t, CF_TERMINAL_PLAIN, true);
    while (!cf_interrupted())
        if (cf_terminal_text(&t, "a token ", 8, &e)) _exit(FAILED);
    for (int i = 0; i < LAST; i++)
        if (cf_terminal_text(&t, last, strlen(last), &e)) _exit(FAILED);
    _exit(STOPPED);
}

static pid_t start(int from, int to) {
    pid_t pid = fork();
    assert_int_not_equal(pid, -1);
    if (!pid) {
        close(from);
        alarm(60);
        write_on(to, "the last word");
    }
    close(to);
    return pid;
}

static void fill_up(int from) {
    int before = -1, now = 0;
    while (now == 0 || now != before) {
        before = now;
        usleep(100000);
        assert_int_equal(ioctl(from, FIONREAD, &now), 0);
    }
}

static void stop(pid_t pid) {
    int status;
    kill(pid, SIGTERM);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), STOPPED);
}

/* An mpirun that has been asked to stop sleeps, and kills: its ranks must not wait until it reads. */
static void nobody_reads(void **state) {
    (void)state;
    for (int is_pty = 0; is_pty < 2; is_pty++) {
        int ends[2];
        assert_int_equal(is_pty ? openpty(&ends[0], &ends[1], NULL, NULL, NULL) : pipe(ends), 0);
        pid_t pid = start(ends[0], ends[1]);
        fill_up(ends[0]);
        time_t before = time(NULL);
        stop(pid);
        assert_in_range(time(NULL) - before, 0, 5); /* not as long for each of the words */
        close(ends[0]);
    }
}

/* Where somebody does, nothing is lost. */
static void somebody_reads(void **state) {
    (void)state;
    int ends[2];
    static char text[1 << 18];
    size_t all = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = start(ends[0], ends[1]);
    fill_up(ends[0]);
    kill(pid, SIGTERM);
    for (ssize_t n = 1; n > 0; all += n > 0 ? (size_t)n : 0)
        n = read(ends[0], text + all, sizeof text - 1 - all);
    stop(pid);
    close(ends[0]);
    const char *last = strstr(text, "the last word");
    assert_non_null(last);
    assert_int_equal(strlen(last), LAST * strlen("the last word"));
    assert_int_equal(last - text, all - strlen(last));
    assert_int_equal((last - text) % 8, 0);
    assert_memory_equal(last - 8, "a token ", 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_reads), cmocka_unit_test(somebody_reads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
