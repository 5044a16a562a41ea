"""Scores of one target under attack: the protocol, and its answer for each kind of model."""
