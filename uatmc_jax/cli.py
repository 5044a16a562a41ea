"""What all entry points share: a user's mistake ends in one line, not in a traceback.

Entry points that run an experiment take absl flags, because configs do (`start`).
Those with sub-commands take plain arguments (`Parser` and `start_parsed`).
"""

import argparse
import dataclasses
import difflib
import functools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from ml_collections.config_flags import config_flags

from uatmc_jax import hosts
from uatmc_jax.data import DEFAULT_MODALITIES, present_modalities
from uatmc_jax.errors import DivergedError, InputError, Interrupted
from uatmc_jax.overrides import find_mistake, value_of
from uatmc_jax.pipes import closed, to_a_reader
from uatmc_jax.settings import DataSettings, find_config

_LONG_NUMBER = re.compile(r"\d{100,}")
EXIT_DIVERGED = 1
EXIT_INPUT_ERROR = 2
EXIT_INTERRUPTED = 130


def start(
    main: Callable[[list[str]], int | None],
    go_on: str = "--resume goes on from the last checkpoint, if any",
    defaults: Mapping[str, str] | None = None,
    *,
    computes: bool = True,
    join: Callable[[], None] | None = None,
) -> None:
    """Runs an absl `main` and exits.

    A mistake in a flag, a config, the data or a path is printed as `error: ...`
    and exits with 2; values that are not finite exit with 1; an interruption
    says how to go on and exits with 130.

    Args:
      main: of the entry point.
      go_on: what an interrupted user is told.
      defaults: {flag: config that it takes where none is named}. Not those of the flags
        themselves: these are read while modules are imported, where a mistake in an
        override is a traceback.
      computes: `main` needs a device: where JAX cannot start on one, that is said at once.
      join: called before, where several processes may work as one.
    """

    def quietly(argv: list[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # orbax logs every file it touches
        if join is not None:
            join()
        if computes:
            _start_device()
        return main(argv)

    parse = functools.partial(_parse_flags, defaults=defaults)
    guarded = _guard(quietly, go_on)
    app.run(guarded if join is None else _leaving(guarded), flags_parser=parse)


def _leaving(guarded: Callable[[Any], int | None]) -> Callable[[Any], int | None]:
    """What of several processes waits for no other after an error."""

    def left(argv: Any) -> int | None:
        code = guarded(argv)
        if code:
            hosts.leave(code)
        return code

    return left


class Parser(argparse.ArgumentParser):
    """Arguments whose mistakes end in one line, too; sub-commands' parsers are of this class."""

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Prints the mistake and exits with 2."""
        sys.exit(_fail(f"{_one_line(message)}. Pass --help for the arguments."))


def start_parsed(
    parser: Parser,
    main: Callable[[argparse.Namespace], int | None],
    go_on: str,
    argv: list[str] | None = None,
) -> NoReturn:
    """Parses the arguments, runs `main` on them and exits as `start` does.

    Args:
      parser: of the entry point.
      main: of the entry point.
      go_on: what an interrupted user is told.
      argv: the arguments; by default the process's.
    """
    logging.set_verbosity(logging.WARNING)
    with to_a_reader():  # of --help
        arguments = parser.parse_args(argv)
    sys.exit(_guard(main, go_on)(arguments))


def _start_device() -> None:
    try:
        jax.devices()
    except Exception as error:  # of a backend that is not there JAX raises many kinds
        asked = os.environ.get("JAX_PLATFORMS", "")
        said = (str(error).splitlines() or ["there is no such device"])[0].rstrip(".")
        raise InputError(
            f"JAX cannot start on JAX_PLATFORMS={asked!r}: {said}. Unset JAX_PLATFORMS, or install "
            "what it names ('.[cuda12]' or '.[cuda13]' for an NVIDIA GPU)."
        ) from None


def data_at(settings: DataSettings, path: str) -> DataSettings:
    """The settings with the data of a folder in place of theirs.

    Args:
      settings: their modalities are kept unless they are the default ones, in whose place
        those that the folder has are taken.
      path: of the folder, as --data gives it.

    Raises:
      InputError: no such folder.
    """
    folder = _existing(path)
    modalities = settings.modalities
    if modalities == DEFAULT_MODALITIES:
        modalities = present_modalities(folder)
    return dataclasses.replace(
        settings,
        source="mmrec",
        name=folder.name,
        root=str(folder.parent),
        modalities=modalities,
    )


def _existing(path: str) -> pathlib.Path:
    """The folder, absolute; its links are kept, because its name is the data set's."""
    folder = pathlib.Path(os.path.abspath(path))
    if folder.is_dir():
        return folder
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    close = difflib.get_close_matches(folder.name, [p.name for p in beside if p.is_dir()], n=1)
    hint = f"Did you mean {folder.parent / close[0]}?" if close else "Check the path."
    raise InputError(
        f"--data {path}: no such folder. {hint} python -m uatmc_jax.prepare makes one of tables."
    )


def _parse_flags(argv: Sequence[str], defaults: Mapping[str, str] | None = None) -> list[str]:
    names = _config_flags()
    for name in names:  # what --help shows
        default = (defaults or {}).get(name)
        flags.FLAGS[name].default_as_str = default and f"'{default}'"
    try:
        given = _with_packaged_configs(argv, defaults)
    except InputError as error:
        sys.exit(_fail(_one_line(str(error))))
    mistake = find_mistake(given, names)
    if mistake is not None:
        sys.exit(_fail(_one_line(mistake)))
    try:
        with to_a_reader():  # of --help
            left = flags.FLAGS(given)
        for name in names:  # an OSError of a config file is held back until something is read
            getattr(flags.FLAGS[name].value, "lock", None)
        return left
    # A config file is the user's code: whatever it raises is about the config.
    except Exception as error:
        said = f"--config: {type(error).__name__}: {error}"
        if isinstance(error, flags.Error):
            said = f"{_one_line(str(error)).rstrip('.')}. Pass --help for the flags."
        sys.exit(_fail(_one_line(said)))


def _config_flags() -> list[str]:
    """Names of the flags that take a config."""
    return [
        name
        for name in flags.FLAGS
        if isinstance(flags.FLAGS[name].parser, config_flags.ConfigFileFlagParser)
    ]


def _with_packaged_configs(
    argv: Sequence[str], defaults: Mapping[str, str] | None = None
) -> list[str]:
    """The arguments, with the path of a config in place of its name, and the defaults first."""
    found = list(argv)
    names = _config_flags()
    for place, argument in enumerate(argv):
        flag, equals, name = argument.partition("=")
        if not flag.startswith("-") or flag.lstrip("-") not in names:
            continue
        if equals:
            found[place] = f"{flag}={find_config(name, flag)}"
        elif place + 1 < len(argv):
            found[place + 1] = find_config(argv[place + 1], flag)
    defaults = defaults or {}
    absent = [name for name in defaults if value_of(argv, name) is None]
    chosen = [f"--{name}={find_config(defaults[name], f'--{name}')}" for name in absent]
    return [*found[:1], *chosen, *found[1:]]


def _one_line(message: str) -> str:
    """A message on one line; of an embedded traceback only the last, of long numbers how long."""
    message = _LONG_NUMBER.sub(
        lambda digits: f"{digits[0][:20]}...({len(digits[0])} digits)", message
    )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join([lines[0], lines[-1]] if "Traceback" in message else lines)


def _guard(main: Callable[[Any], int | None], go_on: str) -> Callable[[Any], int | None]:
    @functools.wraps(main)
    def guarded(argv: Any) -> int | None:
        try:
            code = main(argv)
            sys.stdout.flush()  # what cannot be written is found out here, not on the way out
            return code
        except InputError as error:
            return _fail(_one_line(str(error)))
        except BrokenPipeError:
            return closed()
        except OSError as error:
            return _fail(_one_line(f"{error}. Check the path, its permissions and the space left."))
        except DivergedError as error:
            return _fail(_one_line(str(error)), EXIT_DIVERGED)
        except (RuntimeError, ValueError) as error:
            lost = hosts.lost(error)
            if lost is not None:
                _fail(_one_line(lost))
                os._exit(EXIT_DIVERGED)  # an orderly end would wait for the one that is gone
            said = _of_the_machine(error)
            if said is None:
                raise
            return _fail(_one_line(said))
        except Interrupted as stop:
            if hosts.writes():
                print(f"{stop}; saved; {go_on}", file=sys.stderr)
        except KeyboardInterrupt:
            print(f"interrupted; {go_on}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            # Leaving in the middle of a compilation, an orderly shutdown of XLA can crash.
            os._exit(EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED

    return guarded


# What libraries say of the machine, and the remedy.
_MACHINE = {
    "RESOURCE_EXHAUSTED: Out of memory": "Lower the batch size or config.memory_mib.",
    "No space left on device": "Make room and give the same command again.",
    "OS error": "Check the path, its permissions and the space left.",
}


def _of_the_machine(error: Exception) -> str | None:
    """What to say of an error that is neither the user's nor ours; None of any other."""
    for text, remedy in _MACHINE.items():
        if text in str(error):
            lines = [line for line in str(error).splitlines() if text in line]
            return f"{lines[0].strip().rstrip('.')}. {remedy}"
    return None


def _fail(message: str, code: int = EXIT_INPUT_ERROR) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
