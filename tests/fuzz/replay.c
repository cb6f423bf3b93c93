/* Runs every file of the folders given through a fuzz target: the corpus as an ordinary test, without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 0, or -1 after a message. */
static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    long size = -1;
    if (f && !fseek(f, 0, SEEK_END)) size = ftell(f);
    uint8_t *data = size < 0 ? NULL : malloc((size_t)size + 1);
    int status = -1;
    if (data && !fseek(f, 0, SEEK_SET) && fread(data, 1, (size_t)size, f) == (size_t)size) {
        /* A copy of the exact size, so that a read past the end is one past the allocation. */
        uint8_t *exact = malloc(size ? (size_t)size : 1);
        if (exact) {
            memcpy(exact, data, (size_t)size);
            status = LLVMFuzzerTestOneInput(exact, (size_t)size);
        }
        free(exact);
    }
    free(data);
    if (f) fclose(f);
    if (status) fprintf(stderr, "%s: cannot be replayed\n", path);
    return status;
}

/* The number of files replayed, or -1. */
static int replay_folder(const char *folder) {
    DIR *d = opendir(folder);
    int n = 0;
    if (!d) {
        perror(folder);
        return -1;
    }
    for (struct dirent *x; n >= 0 && (x = readdir(d));) {
        char path[4096];
        if (x->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, x->d_name);
        n = replay_file(path) ? -1 : n + 1;
    }
    closedir(d);
    return n;
}

int main(int argc, char **argv) {
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay_folder(argv[i]);
        if (n < 0) return 1;
        total += n;
    }
    printf("%d files\n", total);
    return total > 0 ? 0 : 1;
}
