"""The attribution of a run, and the wait for it."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING

from workbench.errors import ClosedError, InvalidRequestError
from workbench.interrupts import result_of
from workbench.records import Attribution

if TYPE_CHECKING:
    from workbench.session.run_protocols import HostedRun


class RunAttribution(Attribution):
    """The attribution of a run, which a notebook shows as a text marked by chunk."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from workbench.widgets.html.attribution import attribution_html

        return attribution_html(self)


def started_attribution(run: HostedRun) -> Future[RunAttribution]:
    """Start measuring the attribution of a run, and return its future.

    Raises:
        InvalidRequestError: the run has not ended.
    """
    if not run.done:
        raise InvalidRequestError("attribution", run.state, "used after the run has ended: wait for its result()")
    return run.host.spawn(_measured(run))


async def _measured(run: HostedRun) -> RunAttribution:
    found = await run.host.attribute(run.request, list(run.tokens))
    return RunAttribution(found.tokens, found.chunks, found.without, found.scores)


def attribution_of(future: Future[RunAttribution]) -> RunAttribution:
    """Wait for an attribution and return it; interrupting the wait cancels the measurement.

    Raises:
        ClosedError: the workbench was closed before the end.
    """
    try:
        return result_of(future)
    except KeyboardInterrupt:
        future.cancel()
        raise
    except CancelledError:
        raise ClosedError("the workbench was closed during the request; open a new one") from None
