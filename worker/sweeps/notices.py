"""The content of a sweep's webhook (worker.jobs.webhooks). This module loads no torch."""

from worker.jobs.webhooks import Notice
from worker.sweeps.records import UnknownSweep
from worker.sweeps.store import SweepStore


class SweepNotices:
    """The notices of sweeps that name an address."""

    def __init__(self, sweeps: SweepStore) -> None:
        self._sweeps = sweeps

    def notice(self, id: str) -> Notice | None:
        """Returns the notice of a sweep; None if it has not ended, was reported already, or names no address."""
        try:
            sweep = self._sweeps.get(id)
        except UnknownSweep:
            return None
        view = self._sweeps.views([sweep.head])[0]
        url, state = sweep.request.get("webhook"), view.state
        if not url or not view.is_finished or state.ends <= state.announced:
            return None
        return Notice(
            kind="sweep",
            url=url,
            number=state.ends,
            ended_at=state.ended_at,
            data={
                "id": sweep.id,
                "name": sweep.name,
                "status": view.status,
                "model": (self._sweeps.winner(view) or {}).get("model"),
                "error": view.error,
                "request_id": sweep.request.get("request_id") or None,
            },
        )

    def end_webhook(self, id: str, number: int | None = None) -> None:
        """Notes that a message needs no further attempt; see JobStore.end_webhook."""
        if number is None:
            self._sweeps.jobs.end_webhook(id)
        else:
            self._sweeps.end_notice(id, number)
