"""A settings file's text and the environment become a model, or errors that name their exact place.

The environment overrides the file: `PREFIX_STORAGE__S3__BUCKET` sets `storage.s3.bucket`. A variable that starts
with the prefix and names no setting is an error, like an unknown key of the file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class SettingsModel(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SettingsError(Exception):
    """The settings cannot be used; each line of the message names a place and what is wrong there."""


Model = TypeVar("Model", bound=SettingsModel)


def load(model: type[Model], text: str, *, origin: str, environment: Mapping[str, str], env_prefix: str) -> Model:
    """Read `text` (YAML or JSON) from `origin` (a name for messages) under `environment` into `model`.

    Raises `SettingsError`. Values of the environment are YAML, so lists and numbers work.
    """
    tree = _mapping(text, origin)
    variables: dict[str, str] = {}
    for variable, value in sorted(environment.items()):
        if variable.startswith(env_prefix):
            path = variable[len(env_prefix) :].lower().split("__")
            _put(tree, path, _yaml(value, f"${variable}"), variable)
            variables[".".join(path)] = variable
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(error, origin, variables))) from None


def _mapping(text: str, origin: str) -> dict[str, Any]:
    tree = _yaml(text, origin)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{origin}: holds a {type(tree).__name__}, not a mapping of settings")
    return tree


def _yaml(text: str, origin: str) -> Any:
    # What programs wrote is JSON, and may be large: reading it as YAML takes a hundred times as long.
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    # Only here: a command without a configuration file starts sooner without it.
    import yaml  # noqa: PLC0415

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{origin}:{where}: {getattr(error, 'problem', None) or 'not YAML'}") from None


def _put(tree: dict[str, Any], path: list[str], value: Any, variable: str) -> None:
    for step in path[:-1]:
        if tree.get(step) is None:
            tree[step] = {}
        tree = tree[step]
        if not isinstance(tree, dict):
            raise SettingsError(f"${variable}: `{step}` is not a group of settings")
    tree[path[-1]] = value


def _lines(error: ValidationError, origin: str, variables: Mapping[str, str]) -> list[str]:
    """One line for each thing that is wrong, with the file or the variable that says it."""
    lines = []
    for found in error.errors(include_url=False, include_input=False):
        place = ".".join(str(step) for step in found["loc"])
        source = next((f"${name}" for path, name in variables.items() if f"{place}.".startswith(f"{path}.")), origin)
        what = "unknown key" if found["type"] == "extra_forbidden" else found["msg"]
        lines.append(f"{source}: {place or '(top)'}: {what.removeprefix('Value error, ')}")
    return lines
