"""What the webhook of a sweep tells (worker.jobs.webhooks). This module loads no torch."""

from worker.jobs.webhooks import Notice
from worker.sweeps.records import UnknownSweep
from worker.sweeps.store import SweepStore


class SweepNotices:
    """The ends of sweeps that name an address."""

    def __init__(self, sweeps: SweepStore) -> None:
        self._sweeps = sweeps

    def notice(self, id: str) -> Notice | None:
        """Returns what to tell of the end of a sweep; None if it has not ended, was told of, or names no address."""
        try:
            sweep = self._sweeps.get(id)
        except UnknownSweep:
            return None
        view = self._sweeps.views([sweep.head])[0]
        url, state = sweep.request.get("webhook"), view.state
        if not url or not view.is_finished or state.ends <= state.announced:
            return None
        failed = view.comparison is not None and view.comparison.status == "failed"
        return Notice(
            kind="sweep",
            url=url,
            number=state.ends,
            ended_at=state.ended_at,
            told={
                "id": sweep.id,
                "name": sweep.name,
                "status": view.status,
                "model": (self._sweeps.winner(view) or {}).get("model"),
                "error": view.comparison.error if view.comparison is not None and failed else None,
                "request_id": sweep.request.get("request_id") or None,
            },
        )

    def end_webhook(self, id: str, number: int | None = None) -> None:
        """Notes that a message needs no further attempt; see JobStore.end_webhook."""
        if number is None:
            self._sweeps.jobs.end_webhook(id)
        else:
            self._sweeps.end_notice(id, number)
