"""The insides of a served model without a run at hand: its points, and steering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import InvalidRequestError
from workbench.insides import KINDS
from workbench.protocol import Edit
from workbench.session.arguments import checked_list, checked_number, checked_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from workbench.insides import ModelPoints
    from workbench.session.reading import Reading
    from workbench.session.run import Run


class _Bench(Protocol):
    """What these methods use of a workbench."""

    def model_points(self, model: str | None = None) -> ModelPoints: ...
    def reading(self, text: str, *, model: str | None = None, alternatives: int = 5) -> Reading: ...

    @property
    def completion(self) -> Callable[..., Run[Any, Any]]: ...


class ModelInsides:
    """Methods that look into models, or change what they compute."""

    def points(self: _Bench, model: str | None = None) -> pd.DataFrame:
        """Return the points at which a model's numbers can be read and changed; load the model if necessary.

        There is one row for each kind of point, in forward order: its ``name``, with ``{layer}`` for those of a layer;
        the names and sizes of its ``axes`` after that of the tokens; whether the numbers are ``computed`` by the
        model's step or derived from others; and ``missing``, the reason why a model lacks it.
        """
        import pandas as pd

        points = self.model_points(model)
        rows = []
        for kind in KINDS.values():
            size = points.sizes.get(kind.name)
            rows.append(
                {
                    "name": kind.pattern,
                    "meaning": kind.meaning,
                    "axes": ", ".join(_axes(kind.axes, size)) if size else "",
                    "computed": size is not None and kind.name not in points.derived,
                    "missing": points.why_missing(kind.name),
                }
            )
        return pd.DataFrame(rows)

    def steering_vector(
        self: _Bench, towards: Sequence[str], away: Sequence[str], *, point: str, model: str | None = None
    ) -> NDArray[np.float32]:
        """Return the difference between the mean numbers at a point over two sets of texts, shape (size of the point,).

        Means are over all tokens of a text but the first, then over the texts.

        Args:
            towards: texts that have what the answer is to have.
            away: texts that have the opposite, or nothing of it.
            point: name of a point of one layer, such as ``resid_post.12``.
        """
        import numpy as np

        means = []
        for field, texts in (("towards", towards), ("away", away)):
            if not checked_list(field, texts):
                raise InvalidRequestError(field, texts, "at least one text")
            arrays = [self.reading(checked_text(field, text), model=model, alternatives=0) for text in texts]
            for reading in arrays:
                reading.result()
            captured = [reading.capture([point])[point] for reading in arrays]
            means.append(np.mean([array[min(1, len(array) - 1) :].mean(0) for array in captured], axis=0))
        difference: NDArray[np.float32] = (means[0] - means[1]).astype(np.float32)
        return difference

    def steer(
        self: _Bench,
        content: Any,
        vector: NDArray[np.float32],
        *,
        point: str,
        factor: float = 1.0,
        start: int = 0,
        stop: int | None = None,
        model: str | None = None,
        **options: Any,
    ) -> Run[Any, Any]:
        """Continue a text while ``factor`` times a vector is added at a point, and return the run at once.

        Args:
            vector: such as `steering_vector` returns.
            point: name of a point, such as ``resid_post.12``.
            start, stop: positions from which and before which the vector is added; all by default.
            options: further arguments of `completion`.
        """
        value: Any = steered(vector, factor)
        edit = Edit(point=point, operation="add", value=value, start=start, stop=stop)
        return self.completion(content, model=model, edits=[*(options.pop("edits", None) or []), edit], **options)


def steered(vector: Any, factor: float) -> NDArray[np.float32]:
    """Return a vector times a factor; raise `InvalidRequestError` unless both are finite numbers."""
    import numpy as np

    checked_number("factor", factor)
    try:
        array = np.asarray(vector, np.float32)
    except (TypeError, ValueError):
        raise InvalidRequestError("vector", vector, "an array of numbers") from None
    if array.ndim == 0 or not np.isfinite(array).all():
        raise InvalidRequestError("vector", "not finite" if array.ndim else vector, "an array of finite numbers")
    return array * np.float32(factor)


def _axes(names: Sequence[str], sizes: Sequence[int]) -> list[str]:
    return [f"{name} {size}" for name, size in zip(names, sizes, strict=False)] + list(names[len(sizes) :])
