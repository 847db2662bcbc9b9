"""Configs: experiments written as TOML, which are validated before anything is run.

    family = "streaming"          # the family, which determines the keys of [system]
    [system]                      # a constructor of the family: see docs/configs.md
    [run]                         # times, runs, seed, method, statistics, ...: see `Run`
    [sweep]                       # optional: "system.learning_rate" = [0.1, 0.2], one line an axis
    [scaling]                     # optional: dims = [64, 256, 1024]
    [expect]                      # optional: rules = ["sup_error(risk) < 0.1"], see hdjax.expect

`load` reads a config into an `Experiment`, which the command line runs.  Arrays may be `.npy` or
`.npz` files, named relative to the config.  Another package adds a family, or a constructor to a
family, by entry points: see `hdjax.registry`.
"""

from hdjax.config.experiment import Experiment, load, parse_override, set_key
from hdjax.config.tables import FAMILIES, Config, Range, Run, families, json_schema, model_of
from hdjax.schema import ConfigError

__all__ = [
    "FAMILIES",
    "Config",
    "ConfigError",
    "Experiment",
    "Range",
    "Run",
    "families",
    "json_schema",
    "load",
    "model_of",
    "parse_override",
    "set_key",
]
