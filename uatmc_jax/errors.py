"""The errors and warnings a user can cause and mend."""


class InputError(ValueError):
    """Something given from outside (file, flag, config field) cannot be used.

    The message names the file or field and the remedy; command lines print it
    as one line and exit with status 2.
    """


class InUseError(InputError):
    """Another process works in the folder."""


class DataWarning(UserWarning):
    """The data can be used, but something in it deserves a look."""


class DivergedError(RuntimeError):
    """Training produced a value that is not finite."""


class CollapsedError(DivergedError):
    """Training has drawn all embeddings to nothing, from where it does not come back."""

    def __init__(self, message: str, member: str = ""):
        super().__init__(message)
        self.member = member  # of several trainings under a vmap, which one


class Interrupted(Exception):
    """A stop was asked for, and the state is on disk."""

    def __init__(self, stage: str, epoch: int):
        super().__init__(f"interrupted in stage {stage} after epoch {epoch}")
        self.stage, self.epoch = stage, epoch
