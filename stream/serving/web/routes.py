"""What is answered under which path."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from stream.serving.forms import Answer, Asked, ExplainAsked, RankAsked, ShownAnswer, ShownAsked, as_candidates
from stream.serving.packing import Candidate
from stream.serving.peers import Peers
from stream.serving.service import NotReadyError, Request, Service
from stream.serving.shown import ShownLog
from stream.serving.web.figures import Counted, Figures
from stream.serving.web.http import Given, Handler, RefusedError, Reply, failed
from stream.serving.web.inference import ROUTES as INFERENCE
from stream.serving.web.inference import Inference
from stream.serving.web.openapi import document, page
from stream.serving.web.rollout import RolloutRoutes
from stream.settings import Settings

_T = TypeVar("_T")
_encode = msgspec.json.encode
_POLICY = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'"}


def _decoder(of: type[_T]) -> Callable[[bytes], _T]:
    return msgspec.json.Decoder(of).decode


_asked, _rank, _explain, _shown = _decoder(Asked), _decoder(RankAsked), _decoder(ExplainAsked), _decoder(ShownAsked)


_PATHS = (
    "/v1/score",
    "/v1/rank",
    "/v1/explain",
    "/v1/shown",
    "/v1/weights",
    "/v1/rollout",
    "/v1/rollback",
    "/metrics",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/",
)
NAMES = (*_PATHS, *INFERENCE)
"""Of all routes."""


class Routes:
    """The scorer's paths.

    Args:
        settings: effective settings.
        service: scores.
        shown: writes what was shown; None without `serving.log`.
        peers: other processes that may remember what was shown; None without.
        figures: where what is asked is counted, and the place of this process there.
    """

    def __init__(
        self,
        settings: Settings,
        service: Service,
        shown: ShownLog | None,
        peers: Peers | None,
        figures: tuple[Counted, int],
    ) -> None:
        self._service = service
        self._shown = shown
        self._peers = peers
        self._document = document(settings)
        self.figures = Figures(self._now, self._totals, *figures)
        self._inference = Inference(settings, service)
        rollout = RolloutRoutes(settings.serving, service.lineup)
        self._routes: dict[str, dict[str, tuple[Handler, bool]]] = {
            "/v1/score": {"POST": (self._score, False)},
            "/v1/rank": {"POST": (self._rank, False)},
            "/v1/explain": {"POST": (self._explain, False)},
            "/v1/shown": {"POST": (self._was_shown, False)},
            "/v1/weights": {"GET": (self._weights, False)},
            "/v1/rollout": {"GET": (rollout.show, False), "PUT": (rollout.change, False)},
            "/v1/rollback": {"POST": (rollout.roll_back, False)},
            "/metrics": {"GET": (self._metrics, False)},
            "/healthz": {"GET": (self._alive, True)},
            "/readyz": {"GET": (self._ready, True)},
            "/openapi.json": {"GET": (self._openapi, True)},
            "/": {"GET": (self._page, True)},
        }

    def find(self, method: str, path: str) -> tuple[Handler, str, bool]:
        """Handler of a request, the name of its route, and whether anybody may ask.

        Raises:
            RefusedError: there is none.
        """
        if path == "/v2" or path.startswith("/v2/"):
            return self._inference.find(method, path)
        known = self._routes.get(path)
        if known is None:
            raise RefusedError(404, f"{path!r} is not answered here; / lists what is")
        if method not in known:
            allowed = ", ".join(known)
            raise RefusedError(405, f"{path} takes {allowed}, not {method}", {"allow": allowed})
        handler, is_open = known[method]
        return handler, path, is_open

    # Scores -------------------------------------------------------------------------------------------------------

    async def _score(self, given: Given) -> Reply:
        asked = _asked(given.body)
        request = Request(asked.user, asked.context, as_candidates(asked.candidates), asked.ts)
        answer = await self._service.score(request)
        self._remember(request, answer, range(len(answer.scores)))
        return Reply(_encode(answer))

    async def _rank(self, given: Given) -> Reply:
        asked = _rank(given.body)
        request = Request(asked.user, asked.context, as_candidates(asked.candidates), asked.ts)
        if asked.shown:
            self._need_log()
        answer = await self._service.rank(request, asked.n)
        self._remember(request, answer, [int(scored.imp_id.rpartition("-")[2]) for scored in answer.scores])
        if asked.shown and self._shown is not None:
            self._shown.show([scored.imp_id for scored in answer.scores], None)
        return Reply(_encode(answer))

    async def _explain(self, given: Given) -> Reply:
        asked = _explain(given.body)
        request = Request(asked.user, asked.context, [Candidate(asked.item, asked.features)], asked.ts)
        return Reply(_encode(await self._service.explain(request)))

    # The loop -----------------------------------------------------------------------------------------------------

    def _remember(self, request: Request, answer: Answer, places: Sequence[int]) -> None:
        if self._shown is not None:
            self._shown.remember(request, answer, places)

    async def _was_shown(self, given: Given) -> Reply:
        asked = _shown(given.body)
        log = self._need_log()
        if self._peers is None:
            unknown = log.show(asked.imp_ids, asked.ts)
        else:
            unknown = await self._peers.show(asked.imp_ids, asked.ts)
        return Reply(_encode(ShownAnswer(len(asked.imp_ids) - len(unknown), unknown)))

    def _need_log(self) -> ShownLog:
        if self._shown is None:
            raise RefusedError(409, "this scorer writes no impressions: serving.log is false")
        return self._shown

    # Around it ----------------------------------------------------------------------------------------------------

    async def _weights(self, _: Given) -> Reply:
        return Reply(_encode(self._service.weights()))

    async def _metrics(self, _: Given) -> Reply:
        return Reply(self.figures.exposition(), kind=CONTENT_TYPE_PLAIN_0_0_4)

    async def _alive(self, _: Given) -> Reply:
        return Reply(_encode({"alive": True}))

    async def _ready(self, _: Given) -> Reply:
        why = self._service.not_ready()
        return failed(503, why, {"retry-after": "1"}) if why else Reply(_encode({"ready": True}))

    async def _openapi(self, _: Given) -> Reply:
        return Reply(_encode(self._document))

    async def _page(self, _: Given) -> Reply:
        return Reply(page(self._document).encode(), kind="text/html; charset=utf-8", headers=_POLICY)

    def _totals(self) -> tuple[int, ...]:
        service, shown = self._service, self._shown
        written, lost = (shown.num_written, shown.num_lost) if shown is not None else (0, 0)
        return service.num_degraded, service.num_scored, written, lost, service.num_canary

    def _now(self) -> dict[str, Any]:
        service = self._service
        try:
            weights = msgspec.structs.asdict(service.weights())
        except NotReadyError:
            versions = service.versions
            weights = {"version": None, "swaps": versions.num_swaps, "refused": versions.refused}
            weights |= {"pinned": versions.rollout.pinned}
        lineup = service.lineup
        return {**weights, "ready": not service.not_ready(), "stable": lineup.stable, "arms": lineup.arms()}
