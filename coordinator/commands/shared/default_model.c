/* See default_model.h. The two folders are COFFER_SHARED_MODELS, relative to the program's own, so that an installed
 * tree may be moved, and COFFER_SOURCE_MODELS; both come from CMake.
 */
#include "coordinator/commands/shared/default_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/cli/terminal.h"

static const char file_name[] = "stories.gguf";

/* The folder of this program, or "" if the kernel does not tell. */
static void own_folder(char *path, size_t size) {
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash) *slash = '\0';
}

/* Ranks behind a front, and all but the first elsewhere, would only repeat it. */
static void say(const char *model) {
    if (cf_terminal_speaks() && cf_terminal_role() != CF_TERMINAL_BEHIND_FRONT)
        fprintf(stderr, "coffer: no model is named (-m FILE): taking %s\n", model);
}

void cf__named_model(const char **model) {
    const char *named = getenv("COFFER_MODEL");
    if (*model || !named || !*named) return;
    *model = named;
    say(named);
}

int cf__default_model(const char **model, char path[CF__MODEL_PATH], struct cf_error *e) {
    if (*model) return 0;
    const char *named = getenv("COFFER_MODEL");
    char own[CF__MODEL_PATH / 2], shared[CF__MODEL_PATH];
    own_folder(own, sizeof own);
    snprintf(shared, sizeof shared, "%s/%s/%s", own, COFFER_SHARED_MODELS, file_name);
    snprintf(path, CF__MODEL_PATH, "%s/%s", COFFER_SOURCE_MODELS, file_name);
    if (named && *named)
        *model = named;
    else if (!access(shared, R_OK))
        *model = strcpy(path, shared);
    else if (!access(path, R_OK))
        *model = path;
    else
        return cf_fail(e, CF_ERR_USAGE,
            "no model: -m FILE (COFFER_MODEL names none, and the model that comes with coffer is neither %s nor %s)",
            shared, path);
    say(*model);
    return 0;
}
