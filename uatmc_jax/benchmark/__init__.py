"""Evaluations by attacks on disk: targets, the suite, the run, its rows, the verdict."""
