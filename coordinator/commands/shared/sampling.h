/* Private to the commands: the options that say how the next token is chosen and when the text ends, once for all
 * commands that generate. Names, defaults and order are llama.cpp's. Values land in a struct cf_sampling; a command
 * includes the rows with cf_command.shared.
 *
 *     cf__sampling_defaults -> (options) -> cf__sampling_check -> (model is open) -> cf__sampling_open
 *         -> cf_sampler_new(set.params), cf_stop_new(set.stop) for each sequence -> cf__sampling_close
 */
#ifndef COFFER_COORDINATOR_COMMANDS_SAMPLING_H
#define COFFER_COORDINATOR_COMMANDS_SAMPLING_H

#include "coordinator/cli/options.h"
#include "coordinator/sample/sampler.h"
#include "coordinator/sample/stop.h"

struct cf_sampling {
    struct cf_sampler_params params;
    const char *samplers, *sampler_seq; /* --samplers, --sampler-seq; NULL: the default order */
    struct cf_option_list bias, breakers, stop;
    bool ignore_eos; /* do not stop at end tokens */
};

extern const struct cf_option cf__sampling_options[]; /* offsets count from struct cf_sampling */

struct cf_sampling cf__sampling_defaults(void);

/* Are the words known? Puts the order into params. */
int cf__sampling_check(struct cf_sampling *s, struct cf_error *e);

/* What of it needs a model. */
struct cf_sampling_set {
    struct cf_sampler_params params; /* points into what follows */
    struct cf_logit_bias *bias;
    struct cf_breakers *breakers; /* NULL without --dry-multiplier */
    char **stop;                  /* [n_stop] */
    size_t n_stop;
};

/* n_ctx takes the place of -1 in windows. Closed by cf__sampling_close, also after a failure. */
int cf__sampling_open(struct cf_sampling_set *set, const struct cf_sampling *s, const struct cf_tokenizer *t,
    uint32_t n_vocab, uint32_t n_ctx, struct cf_error *e);
void cf__sampling_close(struct cf_sampling_set *set);

/* A sampler and stop strings for one sequence, *stop NULL where there are none. The set must outlive them. */
int cf__sampling_start(const struct cf_sampling_set *set, const struct cf_sampler_params *params, uint32_t n_vocab,
    struct cf_sampler **sampler, struct cf_stop **stop, struct cf_error *e);

/* text with \n \r \t \\ \' \" and \xHH turned into what they stand for, as llama.cpp does it; malloc'ed. NULL: no
 * memory. */
char *cf__unescape(const char *text);

#endif
