"""The insides of a model: the names of the numbers between its layers, and changes of them.

`points` are the places where numbers can be read and changed, `edits` the changes. Importing this package loads
neither torch nor transformers.
"""

from __future__ import annotations

from workbench.insides.edits import Operation, PointEdit
from workbench.insides.points import ATTENTION_KINDS, KINDS, ModelPoints, Point, PointKind, point_named, points_named

__all__ = [
    "ATTENTION_KINDS",
    "KINDS",
    "ModelPoints",
    "Operation",
    "Point",
    "PointEdit",
    "PointKind",
    "point_named",
    "points_named",
]
