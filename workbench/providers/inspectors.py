"""Inspectors that stand in front of others: of a recorded run and of a branch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from workbench.protocol import SamplingParams
from workbench.records import Insides, Inspector, KeptPosition, SamplingTrace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ForwardingInspector(ABC):
    """Implementation of `records.Inspector` that has another inspector answer for each position."""

    @abstractmethod
    def inspector_at(self, position: int) -> Inspector:
        """Return the inspector that answers for a position."""

    @abstractmethod
    def text(self, token_id: int) -> str:
        """Return a token's text."""

    def logprobs(self, position: int) -> NDArray[np.float32]:
        return self.inspector_at(position).logprobs(position)

    def trace(
        self, position: int, sampling_params: SamplingParams | None = None, number: float | None = None
    ) -> SamplingTrace:
        return self.inspector_at(position).trace(position, sampling_params, number)

    def kept(self, position: int) -> KeptPosition:
        return self.inspector_at(position).kept(position)

    @property
    def insides(self) -> Insides | None:
        return None
