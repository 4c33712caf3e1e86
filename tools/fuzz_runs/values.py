"""Values that nobody should expect, and JSON of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tools.fuzz_runs.cases import Case
from tools.fuzzing import Chances

NUMBERS = (
    *(-(2**63), -1, 0, 1, 2, 7, 2**16, 2**24, 2**31 - 1, 2**31, 2**32, 2**41 - 2, 2**63, 2**64, 10**30),
    *(10**400, -0.0, 0.5, 1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf),
)

TEXTS = (
    *(
        "",
        "x",
        "nan",
        "1",
        "None",
        "\0",
        "a\nb",
        "\x1b[31m",
        "\ud800",
        "\udcff",
        "歌",
        "a\u2028b",
        "x" * 100_000,
    ),
    *("../../x", "/", "~nobody-of-this-name", "tools.fuzz_runs.canary", "tools.fuzz_runs.canary:Canary"),
    *("__import__('tools.fuzz_runs.canary')", "$(touch executed)", "{0.__class__}", "%n%s"),
)

_DEPTHS = (30, 900, 100_000)
_DEEP = "\ue000 {} deep \ue000"
"""Stands for a value nested so deep, which JSON's writer would not write."""


def hostile(case: Chances) -> Any:
    """A value of any type."""
    kind = case.pick(("number", "number", "text", "constant", "list", "object", "deep"))
    if kind == "number":
        return case.pick(NUMBERS)
    if kind == "text":
        return case.pick(TEXTS)
    if kind == "constant":
        return case.pick((None, True, False))
    if kind == "list":
        if case.chance(0.2):
            return [case.pick((*NUMBERS, "x", None))] * 10_000
        return [hostile(case) for _ in range(case.pick((0, 1, 2)))]
    if kind == "object":
        return {case.pick(TEXTS): hostile(case) for _ in range(case.pick((0, 1, 2)))}
    return deep(case.pick(_DEPTHS))


def deep(depth: int) -> str:
    """What `as_json` writes as so many lists in one another, and `nested` makes of them."""
    return _DEEP.format(depth)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values in a tree of dictionaries and lists, but for its root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, x in items for place in [(*path, key), *places(x, (*path, key))]]


def alter(case: Case, tree: Any, times: int = 3) -> Any:
    """Change some values of a tree in place: others, none, more; gives it. A root may be changed, too."""
    for _ in range(int(case.rng.integers(1, times + 1))):
        found = places(tree)
        how = case.pick(("value", "value", "value", "value", "missing", "more", "swapped", "root"))
        case.kinds.append(f"value: {how}")
        if (how == "root" and case.chance(0.2)) or not found:
            return hostile(case)
        *path, key = case.pick(found)
        above = tree
        for part in path:
            above = above[part]
        if how == "missing":
            del above[key]
        elif how == "more" and isinstance(above, dict):
            above[case.pick(TEXTS)] = hostile(case)
        elif how == "swapped":
            *_, other = case.pick(found)
            above[key] = other
        else:
            above[key] = hostile(case)
    return tree


def as_json(tree: Any) -> str:
    """JSON of a tree; what `deep` gave is nested."""
    text = json.dumps(tree)
    for depth in _DEPTHS:
        text = text.replace(json.dumps(deep(depth)), "[" * depth + "]" * depth)
    return text


def nested(tree: Any) -> Any:
    """A tree with what `deep` gave as lists in one another."""
    if isinstance(tree, dict):
        return {key: nested(x) for key, x in tree.items()}
    if isinstance(tree, list):
        return [nested(x) for x in tree]
    for depth in _DEPTHS:
        if tree == deep(depth):
            tree = []
            for _ in range(depth):
                tree = [tree]
    return tree


def alter_json(case: Case, path: Path) -> None:
    """Change some values in a file of JSON."""
    path.write_text(as_json(alter(case, json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
