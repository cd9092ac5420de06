"""Reading a run config's YAML: safe types alone, no key twice, and no error that quotes the text."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import ConfigError, InvalidRequestError
from workbench.paths import reason, typed_path


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a file.

    Raises:
        ConfigError: it cannot be read, is no YAML or no mapping; without the text, which may hold a secret.
    """
    try:
        text = typed_path(path, "the path").read_text(encoding="utf-8")
        content = yaml.load(text, _StrictLoader)  # noqa: S506 - it is a SafeLoader
    except OSError as error:
        raise ConfigError(f"it cannot be read: {reason(error)}") from None
    except InvalidRequestError as error:
        raise ConfigError(str(error)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"it is not in UTF-8: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"it is not valid YAML{_place(error)}") from None
    except RecursionError:
        raise ConfigError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ConfigError("it must be a mapping with the key 'providers'")
    return content


class _DoubledKeyError(yaml.MarkedYAMLError):
    """YAML forbids it, and the library lets the last one win, so that providers would vanish without a word."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _DoubledKeyError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _place(error: yaml.YAMLError) -> str:
    """Where the text is wrong, and what; without the line itself."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return ""
    place = f", line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    # The other kinds of error quote aliases and tags, and what was meant as a text may begin with their signs.
    said = isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError | _DoubledKeyError)
    return f"{place}: {error.problem if said else 'an alias, a tag or a key that cannot be read here'}"
