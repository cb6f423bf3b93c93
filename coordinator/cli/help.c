/* --help and the man page out of the command and option tables: two renderings of the same rows, so that neither can
 * say what the other does not. Plain help is wrapped at 79 columns; a line of a command's text that begins with a space
 * is kept as it stands.
 */
#include "coordinator/cli/help.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

enum { WIDTH = 79, HELP_COLUMN = 26 };

static const char purpose[] =
    "Coffer generates text from a GGUF model on any number of MPI ranks. Every rank owns the memory of one NUMA node "
    "of "
    "one host and the cores beside it; the weights are split, not copied, and the answer does not depend on how.";

/* What both renderings say after the commands. */
static const struct note {
    const char *what, *text;
} statuses[] =
    {
        {"0", "success"},
        {"1", "failure: the message on stderr names the file, tensor or rank"},
        {"2", "the command line is wrong"},
        {"130", "ended by Ctrl-C; the text up to there is complete"},
        {"143", "ended by SIGTERM, likewise; an mpirun of your own makes 1 of it"},
        {NULL, NULL},
},
  environment[] = {
      {"COFFER_MPIRUN",
          "the mpirun that a self-launched run starts, with options if need be (\"mpirun --hostfile hosts\")"},
      {"COFFER_MODEL",
          "the model of a command that is given none; without it, the small model of stories that comes with coffer"},
      {"COFFER_CALIBRATION",
          "the file that keeps what this host's kernels can do (by default one in XDG_CACHE_HOME/coffer or "
          "~/.cache/coffer); empty: none"},
      {"COFFER_ISA",
          "use this set of kernels; all of them give the same bits. scalar; on x86 sse41, avx, avx2, avx2_vnni, "
          "avx512, amx; on aarch64 neon, neon_dot; on ppc64le vsx"},
      {"HWLOC_COMPONENTS",
          "what hwloc looks for when Open MPI starts; unless it is set, no GPUs: no X display, OpenCL or CUDA"},
      {NULL, NULL},
};

/* Writes text in lines of at most WIDTH columns, each indented; the first line begins at column `at`. Blank lines part
 * paragraphs, a line that begins with a space is kept. Ends with a newline. */
static void wrap(FILE *to, const char *text, int indent, int at) {
    bool line_start = true;
    while (*text) {
        if (*text == '\n' && (text[1] == '\n' || text[1] == ' ' || line_start)) {
            if (!line_start) fputc('\n', to);
            if (text[1] == '\n') fputc('\n', to), text++;
            line_start = true;
            at = 0;
            text++;
            continue;
        }
        if (line_start && at == 0 && *text == ' ') {
            size_t n = strcspn(text, "\n");
            fprintf(to, "%*s%.*s\n", indent, "", (int)n, text);
            text += n + (text[n] == '\n');
            continue;
        }
        size_t n = strcspn(text, " \n");
        if (!line_start && at + 1 + (int)n > WIDTH) {
            fputc('\n', to);
            line_start = true;
            at = 0;
        }
        at += line_start ? fprintf(to, "%*s%.*s", at < indent ? indent - at : 0, "", (int)n, text)
                         : fprintf(to, " %.*s", (int)n, text);
        line_start = false;
        text += n;
        while (*text == ' ' || (*text == '\n' && text[1] != '\n' && text[1] != ' '))
            text++;
    }
    if (!line_start) fputc('\n', to);
}

static int option_heading(char *out, size_t size, const struct cf_option *o) {
    char letter[8] = "    ", alias[48] = "";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    if (o->alias) snprintf(alias, sizeof alias, ", --%s", o->alias);
    return snprintf(out, size, "%s--%s%s%s%s", letter, o->name, alias, o->arg ? " " : "", o->arg ? o->arg : "");
}

void cf_options_help(const struct cf_command *c, FILE *to) {
    fprintf(to, "usage: coffer %s %s\n\n", c->name, c->synopsis ? c->synopsis : "");
    wrap(to, c->summary, 0, 0);
    if (c->text && *c->text) fputc('\n', to), wrap(to, c->text, 0, 0);
    const struct cf_option *o;
    if (cf_option_at(c, 0, NULL)) fputs("\noptions:\n", to);
    for (size_t i = 0; (o = cf_option_at(c, i, NULL)); i++) {
        char heading[160];
        int n = option_heading(heading, sizeof heading, o) + 2;
        fprintf(to, "  %s", heading);
        if (n + 2 > HELP_COLUMN) fputc('\n', to), n = 0;
        wrap(to, o->help ? o->help : "", HELP_COLUMN, n);
    }
    fprintf(to, "  %-*s%s\n", HELP_COLUMN - 2, "-h, --help", "print this text");
    if (c->example && *c->example)
        fprintf(to, "\nexample:\n%s%s", c->example, strchr(c->example, '\0')[-1] == '\n' ? "" : "\n");
}

void cf_help_list(const struct cf_command *const *commands, FILE *to) {
    fputs("usage: coffer COMMAND [OPTIONS]\n\n", to);
    wrap(to, purpose, 0, 0);
    fputs("\ncommands:\n", to);
    for (; *commands; commands++) {
        int n = fprintf(to, "  %s", (*commands)->name);
        wrap(to, (*commands)->summary, 14, n);
    }
    fputs("\n'coffer COMMAND --help' tells more of each; 'coffer man' prints the manual page.\n", to);
}

void cf_help_version(FILE *to) {
    fprintf(to, "coffer %s\njansson %s, xxHash %d.%d.%d\n", COFFER_VERSION, JANSSON_VERSION, XXH_VERSION_MAJOR,
        XXH_VERSION_MINOR, XXH_VERSION_RELEASE);
}

/* Text as roff: backslashes and hyphens escaped, a leading dot or quote disarmed, blank lines as paragraphs. */
static void roff(FILE *to, const char *text) {
    bool line_start = true;
    for (; *text; text++) {
        if (*text == '\n' && text[1] == '\n') {
            fputs("\n.PP", to);
            continue;
        }
        if (line_start && (*text == '.' || *text == '\'')) fputs("\\&", to);
        if (*text == '\\')
            fputs("\\e", to);
        else if (*text == '-')
            fputs("\\-", to);
        else
            fputc(*text, to);
        line_start = *text == '\n';
    }
    fputc('\n', to);
}

static void man_example(FILE *to, const char *text) {
    fputs(".PP\n.nf\n.RS\n", to);
    roff(to, text);
    fputs(".RE\n.fi\n", to);
}

static void man_command(FILE *to, const struct cf_command *c) {
    fprintf(to, ".SS \"coffer %s\"\n", c->name);
    roff(to, c->summary);
    char usage[1024];
    snprintf(usage, sizeof usage, "coffer %s %s", c->name, c->synopsis ? c->synopsis : "");
    man_example(to, usage);
    if (c->text && *c->text) fputs(".PP\n", to), roff(to, c->text);
    const struct cf_option *o;
    for (size_t i = 0; (o = cf_option_at(c, i, NULL)); i++) {
        char heading[160];
        option_heading(heading, sizeof heading, o);
        fputs(".TP\n.B ", to);
        roff(to, heading + strspn(heading, " "));
        roff(to, o->help ? o->help : "");
    }
    if (c->example && *c->example) fputs(".PP\nExample:\n", to), man_example(to, c->example);
}

static void man_notes(FILE *to, const char *title, const struct note *n) {
    fprintf(to, ".SH %s\n", title);
    for (; n->what; n++) {
        fprintf(to, ".TP\n.B %s\n", n->what);
        roff(to, n->text);
    }
}

void cf_help_man(const struct cf_command *const *commands, FILE *to) {
    fprintf(to, ".TH COFFER 1 \"\" \"coffer %s\" \"User Commands\"\n.SH NAME\n", COFFER_VERSION);
    fputs("coffer \\- language models over NUMA nodes and hosts\n.SH SYNOPSIS\n.B coffer\n.I COMMAND\n[OPTIONS]\n", to);
    fputs(".SH DESCRIPTION\n", to);
    roff(to, purpose);
    fputs(".SH COMMANDS\n", to);
    for (; *commands; commands++)
        man_command(to, *commands);
    man_notes(to, "EXIT STATUS", statuses);
    man_notes(to, "ENVIRONMENT", environment);
    fputs(".SH SEE ALSO\n.BR mpirun (1),\n.BR numactl (8)\n", to);
}
