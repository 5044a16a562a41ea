"""What all entry points share: a user's mistake ends in one line, not in a traceback.

Entry points that run an experiment take absl flags, because configs do (`start`).
Those with sub-commands take plain arguments (`Parser` and `start_parsed`).
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections.config_flags import config_flags

from uatmc_jax.errors import DivergedError, InputError, Interrupted
from uatmc_jax.settings import find_config

EXIT_DIVERGED = 1
EXIT_INPUT_ERROR = 2
EXIT_INTERRUPTED = 130


def start(
    main: Callable[[list[str]], int | None],
    go_on: str = "--resume goes on from the last checkpoint, if any",
) -> None:
    """Runs an absl `main` and exits.

    A mistake in a flag, a config, the data or a path is printed as `error: ...`
    and exits with 2; values that are not finite exit with 1; an interruption
    says how to go on and exits with 130.

    Args:
      main: of the entry point.
      go_on: what an interrupted user is told.
    """

    def quietly(argv: list[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # orbax logs every file it touches
        return main(argv)

    app.run(_guard(quietly, go_on), flags_parser=_parse_flags)


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
    sys.exit(_guard(main, go_on)(parser.parse_args(argv)))


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(_with_packaged_configs(argv))
    except InputError as error:
        sys.exit(_fail(_one_line(str(error))))
    except flags.Error as error:
        sys.exit(_fail(f"{_one_line(str(error))} Pass --help for the flags."))
    except ImportError as error:
        remedy = "Install what it imports; the packaged configs are in uatmc_jax.configs"
        sys.exit(_fail(f"--config: {error}. {remedy}."))
    except KeyError as error:  # ml_collections', for --config.SECTION.FIELD
        name, *hint = str(error.args[0]).splitlines()
        said = " ".join([f"--config: {name.strip(chr(39))}: no such field or section.", *hint])
        sys.exit(_fail(said))
    # A config file is the user's code: whatever it raises is about the config.
    except Exception as error:
        sys.exit(_fail(f"--config: {_one_line(str(error.args[0] if error.args else error))}"))


def _with_packaged_configs(argv: list[str]) -> list[str]:
    """The arguments, with the path of a config in place of its name."""
    found = list(argv)
    for place, argument in enumerate(argv):
        flag, equals, name = argument.partition("=")
        if flag.lstrip("-") not in flags.FLAGS or not flag.startswith("-"):
            continue
        parser = flags.FLAGS[flag.lstrip("-")].parser
        if not isinstance(parser, config_flags.ConfigFileFlagParser):
            continue
        if equals:
            found[place] = f"{flag}={find_config(name, flag)}"
        elif place + 1 < len(argv):
            found[place + 1] = find_config(argv[place + 1], flag)
    return found


def _one_line(message: str) -> str:
    """A library's message on one line; of an embedded traceback only the last."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join([lines[0], lines[-1]] if "Traceback" in message else lines)


def _guard(main: Callable[[Any], int | None], go_on: str) -> Callable[[Any], int | None]:
    @functools.wraps(main)
    def guarded(argv: Any) -> int | None:
        try:
            return main(argv)
        except InputError as error:
            return _fail(_one_line(str(error)))
        except OSError as error:
            return _fail(_one_line(f"{error}. Check the path, its permissions and the space left."))
        except DivergedError as error:
            return _fail(_one_line(str(error)), EXIT_DIVERGED)
        except Interrupted as stop:
            print(f"{stop}; saved; {go_on}", file=sys.stderr)
        except KeyboardInterrupt:
            print(f"interrupted; {go_on}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            # Leaving in the middle of a compilation, an orderly shutdown of XLA can crash.
            os._exit(EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED

    return guarded


def _fail(message: str, code: int = EXIT_INPUT_ERROR) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
