"""Measure and reduce the promotion attacks a multimodal recommender is open to.

Reading order follows the data: `preparation` -> `data` -> `models` -> `losses` and
`ascent` -> `defenses` -> `training` -> `ranking` and `checkpoint` -> `attacks` ->
`analysis` -> `auditing` -> `report`; docs/api.md lists what to use. Symbols and equation
numbers in the docstrings are those of the UAT-MC paper ("Band Together:
Untargeted Adversarial Training with Multimodal Coordination against
Evasion-based Promotion Attacks").
"""

__version__ = "0.1.0"
