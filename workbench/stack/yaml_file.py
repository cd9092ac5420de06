"""Loading of a run config's YAML: safe types only, no duplicate keys, and no text of the file in errors."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import ConfigError, InvalidRequestError
from workbench.paths import reason, typed_path


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, or is not a YAML mapping. The message does not quote the text, which may
            contain a secret.
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
        raise ConfigError(f"it is not valid YAML{_position(error)}") from None
    except RecursionError:
        raise ConfigError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ConfigError("it must be a mapping with the key 'providers'")
    return content


class _DuplicateKeyError(yaml.MarkedYAMLError):
    """Duplicate key, which YAML forbids; PyYAML would silently drop the first value, and providers with it."""


class _StrictLoader(yaml.SafeLoader):
    """Safe loader that refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _DuplicateKeyError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _position(error: yaml.YAMLError) -> str:
    """Return the position and the problem, without quoting the line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return ""
    position = f", line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    # Other errors quote aliases and tags, and a secret may begin with the characters that mark them.
    is_safe = isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError | _DuplicateKeyError)
    return f"{position}: {error.problem if is_safe else 'an alias, a tag or a key that cannot be read here'}"
