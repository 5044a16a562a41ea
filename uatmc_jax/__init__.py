"""Measure and reduce the promotion attacks a multimodal recommender is open to.

Reading order follows the data: `data` -> `models` -> `losses` and `ascent` ->
`defense` -> `training` -> `ranking` and `checkpoint`. Symbols and equation
numbers in the docstrings are those of the UAT-MC paper ("Band Together:
Untargeted Adversarial Training with Multimodal Coordination against
Evasion-based Promotion Attacks").
"""

__version__ = "0.1.0"
