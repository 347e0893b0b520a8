"""What is answered under which path."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from stream.serving.forms import Answer, Asked, ExplainAsked, RankAsked, ShownAnswer, ShownAsked, as_candidates
from stream.serving.packing import Candidate
from stream.serving.service import NotReadyError, Request, Service
from stream.serving.shown import ShownLog
from stream.serving.web.figures import Figures
from stream.serving.web.http import Given, Handler, RefusedError, Reply, failed
from stream.serving.web.inference import Inference
from stream.serving.web.openapi import document, page
from stream.settings import Settings

_T = TypeVar("_T")
_encode = msgspec.json.encode
_POLICY = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'"}


def _decoder(of: type[_T]) -> Callable[[bytes], _T]:
    return msgspec.json.Decoder(of).decode


_asked, _rank, _explain, _shown = _decoder(Asked), _decoder(RankAsked), _decoder(ExplainAsked), _decoder(ShownAsked)


class Routes:
    """The scorer's paths.

    Args:
        settings: effective settings.
        service: scores.
        shown: writes what was shown; None without `serving.log`.
    """

    def __init__(self, settings: Settings, service: Service, shown: ShownLog | None) -> None:
        self._service = service
        self._shown = shown
        self._document = document(settings)
        self.figures = Figures(self._now)
        self._inference = Inference(settings, service)
        self._routes: dict[str, tuple[str, Handler, bool]] = {
            "/v1/score": ("POST", self._score, False),
            "/v1/rank": ("POST", self._rank, False),
            "/v1/explain": ("POST", self._explain, False),
            "/v1/shown": ("POST", self._was_shown, False),
            "/v1/weights": ("GET", self._weights, False),
            "/metrics": ("GET", self._metrics, False),
            "/healthz": ("GET", self._alive, True),
            "/readyz": ("GET", self._ready, True),
            "/openapi.json": ("GET", self._openapi, True),
            "/": ("GET", self._page, True),
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
        allowed, handler, is_open = known
        if method != allowed:
            raise RefusedError(405, f"{path} takes {allowed}, not {method}", {"allow": allowed})
        return handler, path, is_open

    # Scores -------------------------------------------------------------------------------------------------------

    async def _score(self, given: Given) -> Reply:
        asked = _asked(given.body)
        request = Request(asked.user, asked.context, as_candidates(asked.candidates))
        answer = await self._service.score(request)
        self._remember(request, answer, range(len(answer.scores)))
        return Reply(_encode(answer))

    async def _rank(self, given: Given) -> Reply:
        asked = _rank(given.body)
        request = Request(asked.user, asked.context, as_candidates(asked.candidates))
        if asked.shown:
            self._need_log()
        answer = await self._service.rank(request, asked.n)
        self._remember(request, answer, [int(scored.imp_id.rpartition("-")[2]) for scored in answer.scores])
        if asked.shown and self._shown is not None:
            self._shown.show([scored.imp_id for scored in answer.scores], None)
        return Reply(_encode(answer))

    async def _explain(self, given: Given) -> Reply:
        asked = _explain(given.body)
        request = Request(asked.user, asked.context, [Candidate(asked.item, asked.features)])
        return Reply(_encode(await self._service.explain(request)))

    # The loop -----------------------------------------------------------------------------------------------------

    def _remember(self, request: Request, answer: Answer, places: Sequence[int]) -> None:
        if self._shown is not None:
            self._shown.remember(request, answer, places)

    async def _was_shown(self, given: Given) -> Reply:
        asked = _shown(given.body)
        log = self._need_log()
        unknown = log.show(asked.imp_ids, asked.ts)
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

    def _now(self) -> dict[str, Any]:
        service, shown = self._service, self._shown
        try:
            weights = msgspec.structs.asdict(service.weights())
        except NotReadyError:
            weights = {"version": None, "created_ms": 0, "swaps": 0, "refused": service.versions.refused}
        return {
            **weights,
            "degraded": service.num_degraded,
            "scored": service.num_scored,
            "shown": shown.num_written if shown is not None else 0,
            "lost": shown.num_lost if shown is not None else 0,
            "ready": not service.not_ready(),
        }
