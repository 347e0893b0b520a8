"""The Open Inference Protocol (KServe's version 2, REST, with its binary tensor data extension).

Inputs: `user` (BYTES, one), `item` (BYTES, one per candidate), and, as JSON objects of features, `context` (BYTES, one)
and `features` (BYTES, one per candidate), which may be left out. The request's parameter `ts` says when they would be
shown (event time, ms). Outputs: `probability` and `rank` (FP32, one per candidate).
"""

import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from stream.events import EventTime
from stream.serving.packing import Candidate
from stream.serving.service import Outcome, Request, Service
from stream.serving.web.http import Given, Handler, RefusedError, Reply, failed
from stream.settings import Settings

MODEL = "coldstream"
_OF_MODEL = f"/v2/models/{MODEL}"
ROUTES = ("/v2", "/v2/health/live", "/v2/health/ready", _OF_MODEL, f"{_OF_MODEL}/ready", f"{_OF_MODEL}/infer")
"""Names of its routes."""
_LENGTH = "inference-header-content-length"
_INPUTS = {"user": [1], "item": [-1], "context": [1], "features": [-1]}
_OUTPUTS = ("probability", "rank")
_encode = msgspec.json.encode
_features = msgspec.json.Decoder(dict[str, Any])


class Tensor(msgspec.Struct, kw_only=True):
    """An input as it is sent."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct, kw_only=True):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferAsked(msgspec.Struct, kw_only=True):
    """What is sent to `/infer`."""

    inputs: list[Tensor]
    outputs: list[Wanted] = []
    id: str = ""
    parameters: dict[str, Any] = {}


_asked = msgspec.json.Decoder(InferAsked)


class Inference:
    """The protocol's paths.

    Args:
        settings: effective settings.
        service: scores.
    """

    def __init__(self, settings: Settings, service: Service) -> None:
        self._settings = settings
        self._service = service

    def find(self, method: str, path: str) -> tuple[Handler, str, bool]:
        """Handler of a request, the name of its route, and whether anybody may ask.

        Raises:
            RefusedError: there is none.
        """
        match path.strip("/").split("/"):
            case ["v2"]:
                found: tuple[str, Handler, str, bool] = "GET", self._server, "/v2", False
            case ["v2", "health", "live"]:
                found = "GET", self._live, "/v2/health/live", True
            case ["v2", "health", "ready"]:
                found = "GET", self._ready, "/v2/health/ready", True
            case ["v2", "models", name, *rest]:
                found = self._of_model(name, rest)
            case _:
                raise RefusedError(404, f"{path!r} is not answered here; /v2 is the Open Inference Protocol")
        allowed, handler, route, is_open = found
        if method != allowed:
            raise RefusedError(405, f"{path} takes {allowed}, not {method}", {"allow": allowed})
        return handler, route, is_open

    def _of_model(self, name: str, rest: list[str]) -> tuple[str, Handler, str, bool]:
        if name != MODEL:
            raise RefusedError(404, f"there is no model {name!r}; there is {MODEL!r}")
        if rest[:1] == ["versions"] and len(rest) > 1:
            self._need_version(rest[1])
            rest = rest[2:]
        match rest:
            case []:
                return "GET", self._model, _OF_MODEL, False
            case ["ready"]:
                return "GET", self._ready, f"{_OF_MODEL}/ready", False
            case ["infer"]:
                return "POST", self._infer, f"{_OF_MODEL}/infer", False
            case _:
                raise RefusedError(404, f"a model has metadata, /ready and /infer, and not {'/'.join(rest)!r}")

    def _need_version(self, said: str) -> None:
        manifest = self._service.versions.manifest
        held = str(manifest.version) if manifest is not None else "none yet"
        if said != held:
            raise RefusedError(404, f"version {said!r} of {MODEL!r} is not in use; {held} is")

    async def _server(self, _: Given) -> Reply:
        return Reply(_encode({"name": MODEL, "version": "2", "extensions": ["binary_tensor_data"]}))

    async def _live(self, _: Given) -> Reply:
        return Reply(_encode({"live": True}))

    async def _ready(self, _: Given) -> Reply:
        why = self._service.not_ready()
        return failed(503, why) if why else Reply(_encode({"ready": True}))

    async def _model(self, _: Given) -> Reply:
        manifest = self._service.versions.manifest
        inputs = [{"name": name, "datatype": "BYTES", "shape": shape} for name, shape in _INPUTS.items()]
        outputs = [{"name": name, "datatype": "FP32", "shape": [-1]} for name in _OUTPUTS]
        return Reply(
            _encode(
                {
                    "name": MODEL,
                    "versions": [str(manifest.version)] if manifest is not None else [],
                    "platform": "coldstream",
                    "inputs": inputs,
                    "outputs": outputs,
                }
            )
        )

    async def _infer(self, given: Given) -> Reply:
        asked, binary = _split(given)
        tensors = _texts(asked, binary)
        outcome = await self._service.evaluate(_request(tensors, asked.parameters.get("ts")))
        return _answer(asked, outcome)


def _split(given: Given) -> tuple[InferAsked, bytes]:
    """The JSON, and what of binary tensors stands behind it."""
    said = given.headers.get(_LENGTH, "")
    size = int(said) if said.isdecimal() else len(given.body)
    return _asked.decode(given.body[:size]), given.body[size:]


def _texts(asked: InferAsked, binary: bytes) -> dict[str, list[str]]:
    """The inputs, all of which are texts.

    Raises:
        RefusedError: an input is unknown, of another type, or of another size than it says.
    """
    found, at = {}, 0
    for tensor in asked.inputs:
        if tensor.name not in _INPUTS:
            raise RefusedError(422, f"input {tensor.name!r} is not one of {', '.join(_INPUTS)}")
        if tensor.datatype != "BYTES":
            raise RefusedError(422, f"input {tensor.name!r} is {tensor.datatype}, and must be BYTES")
        size = tensor.parameters.get("binary_data_size")
        if isinstance(size, int) and tensor.data is None:
            values = _unpack(tensor.name, binary[at : at + size])
            at += size
        else:
            values = _flat(tensor.data or [])
        if not all(isinstance(value, str) for value in values):
            raise RefusedError(422, f"input {tensor.name!r}: every element must be a string")
        number = int(np.prod(tensor.shape)) if tensor.shape else 1
        if number != len(values):
            raise RefusedError(
                422, f"input {tensor.name!r} has {len(values)} elements, its shape {tensor.shape} says {number}"
            )
        found[tensor.name] = values
    return found


def _flat(data: list[Any]) -> list[Any]:
    return [leaf for one in data for leaf in (_flat(one) if isinstance(one, list) else [one])]


def _unpack(name: str, data: bytes) -> list[str]:
    """Elements, each behind its length (four bytes, little endian)."""
    values, at = [], 0
    try:
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            at += 4 + length
            if at > len(data):
                raise RefusedError(422, f"input {name!r}: its binary data are cut off")
            values.append(data[at - length : at].decode())
    except (struct.error, UnicodeDecodeError) as exc:
        raise RefusedError(422, f"input {name!r}: its binary data are not elements of BYTES in UTF-8 ({exc})") from exc
    return values


def _request(tensors: Mapping[str, list[str]], ts: object) -> Request:
    for name in ("user", "item"):
        if name not in tensors:
            raise RefusedError(422, f"input {name!r} is missing")
    users, items, contexts = tensors["user"], tensors["item"], tensors.get("context", ["{}"])
    features = tensors.get("features", ["{}"] * len(items))
    if len(users) != 1 or len(contexts) != 1 or len(features) != len(items):
        raise RefusedError(422, "user and context have one element, item and features one per candidate")
    candidates = [Candidate(item, _features.decode(own)) for item, own in zip(items, features, strict=True)]
    try:
        at_ms = msgspec.convert(ts, EventTime | None)
    except msgspec.ValidationError as exc:
        raise RefusedError(422, f"parameter 'ts': {exc}; it is event time in milliseconds") from exc
    return Request(users[0], _features.decode(contexts[0]), candidates, at_ms)


def _answer(asked: InferAsked, outcome: Outcome) -> Reply:
    """Tensors as JSON, or behind it where they are asked for as binary."""
    by_name = {"probability": outcome.said.scores.predictions_B, "rank": outcome.said.scores.ranks_B}
    all_binary = bool(asked.parameters.get("binary_data_output"))
    wanted = asked.outputs or [Wanted(name=name) for name in _OUTPUTS]
    outputs, behind = [], []
    for want in wanted:
        if want.name not in by_name:
            raise RefusedError(422, f"output {want.name!r} is not one of {', '.join(_OUTPUTS)}")
        values = by_name[want.name].astype("<f4")
        output: dict[str, Any] = {"name": want.name, "datatype": "FP32", "shape": [len(values)]}
        if want.parameters.get("binary_data", all_binary):
            output["parameters"] = {"binary_data_size": values.nbytes}
            behind.append(values.tobytes())
        else:
            output["data"] = values.tolist()
        outputs.append(output)
    head = _encode(
        {
            "model_name": MODEL,
            "model_version": str(outcome.said.manifest.version),
            **({"id": asked.id} if asked.id else {}),
            "parameters": {"degraded": outcome.degraded, "variant": outcome.said.arm, "canary": outcome.said.canary},
            "outputs": outputs,
        }
    )
    if not behind:
        return Reply(head)
    return Reply(head + b"".join(behind), kind="application/octet-stream", headers={_LENGTH: str(len(head))})
