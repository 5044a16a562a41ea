"""Edits that a seller can make: pixels and words, through the encoders, to the lists.

Reading order: `settings`; `wording`, `attributes` and `constraints` know texts, `pixels`
pictures, `words` how to search a text; `judge` is the recommender's half, `bridge` joins it
to the encoders; `harmless` has edits that nobody minds; `listings` reads what the data set was
prepared from; `search` makes a target's edits, `measure` saves them and counts, `yardstick` says
how far harmless ones go; `summary` and `run`.
For defence: it measures one's own model on one's own catalogue.
"""

from uatmc_jax.edits.run import Sources, open_sources, run_edits
from uatmc_jax.edits.settings import EditSettings
from uatmc_jax.edits.summary import format_edits
from uatmc_jax.edits.words import WordSearch

__all__ = ["EditSettings", "Sources", "WordSearch", "format_edits", "open_sources", "run_edits"]
