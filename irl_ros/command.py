"""How the command line speaks: proposals for what was misspelt, errors without a traceback, colours on a terminal."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from irl_ros.contract import did_you_mean

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130
EXIT_CODES = (
    "exit codes: 0 done; 1 ran and failed, or found something wrong; 2 an error of use, told in a sentence; 130 "
    "interrupted, what can be saved is saved; a graph of nodes ends with the code of the node that failed"
)
RED, YELLOW = 31, 33


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, with the nearest valid word."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="with an error, show its traceback"
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """As argparse's; an option that is not known is told with the command's own ones."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = self._chosen(options)
            names = [name for action in command._actions for name in action.option_strings]
            word = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(word, names, 1)
            proposal = f" Did you mean {near[0]}?" if near else ""
            command.error(f"unknown {'option' if word.startswith('-') else 'argument'} {word}.{proposal}")
        return options

    def error(self, message: str) -> NoReturn:
        """Ends the program with the sentence; the whole usage is a `--help` away."""
        complain(f"{_ended(message)} {self.prog} --help says what there is.")
        self.exit(USAGE_ERROR)

    def _chosen(self, options: argparse.Namespace) -> Parser:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return action.choices[getattr(options, action.dest)]
        return self

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            valid = did_you_mean(str(value), [str(choice) for choice in action.choices])
            raise argparse.ArgumentError(action, f"unknown {action.dest} {value!r}.{valid}")


def run_command(
    command: Callable[[argparse.Namespace], int], options: argparse.Namespace, expected: Iterable[type]
) -> int:
    """The command's exit code; `expected` errors are ones of use. Nothing that is raised passes."""
    plain = warnings.formatwarning
    warnings.formatwarning = lambda message, *_where, **_line: f"{paint('warning:', YELLOW, sys.stderr)} {message}\n"
    try:
        return command(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `irl_ros inspect … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except tuple(expected) as error:
        return _told(str(error), USAGE_ERROR, options)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _told(f"{where}{error.strerror or error}", USAGE_ERROR, options)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        return _told(f"this should not have happened: {what}. Again with --debug it says where.", FAILED, options)
    finally:
        warnings.formatwarning = plain


def _told(sentence: str, code: int, options: argparse.Namespace) -> int:
    if getattr(options, "debug", False):
        traceback.print_exc()
    proposal = near_path(sentence, options)
    complain(f"{_ended(sentence)}{proposal}" if proposal else sentence)
    return code


def complain(sentence: str) -> None:
    """An error, on stderr."""
    print(f"{paint('error:', RED, sys.stderr)} {sentence}", file=sys.stderr)


def coloured(stream: TextIO) -> bool:
    """Whether a stream is a terminal that takes colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, colour: int, stream: TextIO) -> str:
    """The text in an ANSI colour where `stream` takes one."""
    return f"\x1b[{colour}m{text}\x1b[0m" if coloured(stream) else text


def near_path(message: str, options: argparse.Namespace) -> str:
    """A proposal for the first path among the options that the message names and that is not what it should be."""
    said = [(name, word) for name, value in vars(options).items() for word in (value if isinstance(value, list) else [value])]
    for name, value in said:
        if not isinstance(value, str) or not value:
            continue
        named = re.search(rf"(^|[\s'\"/:]){re.escape(value)}([\s'\":;,./]|$)", message)
        if named and (found := _nearest(Path(value), name)) is not None:
            return f" Did you mean {found}?"
    return ""


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _nearest(path: Path, option: str) -> Path | None:
    """What lies where `path` says, but for one misspelt part; or inside it, where a run was given for its part."""
    part = {"checkpoint": "checkpoint", "dataset": "demonstrations", "directory": "demonstrations"}.get(option, "")
    if path.exists():
        return path / part if part and (path / part).is_dir() else None
    found = Path(path.anchor)
    for name in path.parts[len(found.parts) :]:
        if not (found / name).exists():
            near = difflib.get_close_matches(name, os.listdir(found) if found.is_dir() else [], 1)
            if not near:
                return None
            name = near[0]
        found = found / name
    return found


def tell(options: argparse.Namespace, figures: Any, lines: Iterable[str]) -> None:
    """The end of a command, on stdout: `figures` as JSON for machines (`--json`), else `lines` for people."""
    print(json.dumps(figures, indent=1) if options.json else "\n".join(lines))


def add_json(command: argparse.ArgumentParser) -> None:
    """`--json`: stdout holds figures alone, all else goes to stderr."""
    command.add_argument("--json", action="store_true", help="figures as JSON on stdout, everything else on stderr")
