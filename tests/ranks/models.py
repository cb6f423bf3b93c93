"""Makes the models of the rank tests (fixture rank_models)."""
import os

import common

a = common.arguments()
os.makedirs(a.models, exist_ok=True)
for name, options in common.MODELS.items():
    common.synth(a.coffer, os.path.join(a.models, name + ".gguf"), options)
