"""The recommenders people run, side by side: how far each is promoted, by policy and defence."""
