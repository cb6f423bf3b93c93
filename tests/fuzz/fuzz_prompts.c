/* Fuzz target: any bytes as the file of `coffer run --prompts`. Seeds: corpus/prompts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/commands/run/prompts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct cf_sampling sampling = cf__sampling_defaults();
    const struct cf_prompts_options o = {.file = "x.jsonl", .predict = -1, .sampling = &sampling};
    struct cf_prompts *p;
    struct cf_error e;
    if (cf_prompts_parse(&p, &o, (const char *)data, size, &e)) {
        if (!strstr(e.text, "x.jsonl:")) abort(); /* whatever is wrong, the file is named */
        return 0;
    }
    for (uint32_t i = 0; i < p->n; i++)
        if ((!p->requests[i].text && !p->requests[i].ids) || p->requests[i].n_predict < -1) abort();
    cf_prompts_free(p);
    return 0;
}
