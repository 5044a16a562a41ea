"""From raw sources (reviews, catalogues, images, texts) to a data set in MMRec's layout.

Reading order: `lines` and `tables` read files, `amazon` and `generic` know what
is in them; `core` and `interactions` decide which interactions stay; `items`,
`images`, `matrices`, `twins`, `lite`, `encoders` and `features` make the features; `writing` and
`folder` know what comes out, finished or not; `run` puts it together.
"""

from uatmc_jax.preparation.run import prepare
from uatmc_jax.preparation.settings import AmazonSettings, GenericSettings

__all__ = ["AmazonSettings", "GenericSettings", "prepare"]
