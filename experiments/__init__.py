"""Scripts around the library: one per artefact, each importable and runnable alone."""
