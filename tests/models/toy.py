"""Three users, three items, two modalities of two numbers: every value can be had by hand."""

import numpy as np

from tests.conftest import make_interactions
from uatmc_jax.data import Dataset, Interactions

PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]
IDS = [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]  # users' and items' alike
VISUAL = [(1.0, 0.0), (0.8, 0.6), (0.0, 1.0)]
TEXTUAL = [(1.0, 0.0), (0.0, 1.0), (0.6, 0.8)]
EDITED, EDIT = 1, (0.6, 0.8)  # item 1's image becomes this one
USERS, POSITIVES, NEGATIVES = (0, 1, 2), (0, 2, 2), (2, 0, 1)
TRIPLES = list(zip(USERS, POSITIVES, NEGATIVES, strict=True))


def dataset(visual=VISUAL, textual=TEXTUAL):
    """It as a data set; nothing is held out."""
    nothing = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32))
    features = tuple(np.array(x, np.float32) for x in (visual, textual))
    return Dataset(
        "toy", 3, 3, make_interactions(PAIRS), nothing, nothing, ("visual", "textual"), features
    )


def edited():
    """The data set with item 1's image edited."""
    return dataset([*VISUAL[:EDITED], EDIT, *VISUAL[EDITED + 1 :]])
