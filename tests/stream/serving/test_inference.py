"""The Open Inference Protocol, asked by NVIDIA's Triton client, which nobody here wrote."""

import json
import subprocess
import sys

import pytest
from support.serving import CONTEXT, ITEM, LAST_MS, Http, Trained, asked_for

pytest.importorskip("tritonclient", reason="tritonclient[http] is not installed (it is part of the dev extra)")

LATER_MS = LAST_MS + 3_600_000

# In a process of its own: the client brings gevent, which warns of what pytest has imported.
_CLIENT = """
import json, sys
import numpy as np
import tritonclient.http as triton

url, context, features, binary = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "binary"
client = triton.InferenceServerClient(url)
texts = {
    "user": ["u1"], "context": [context],
    "item": [f"i{n}" for n in range(20)], "features": [features] * 20,
}
inputs = []
for name, values in texts.items():
    given = triton.InferInput(name, [len(values)], "BYTES")
    given.set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)
    inputs.append(given)
outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("rank", "probability")]
version = client.get_model_metadata("coldstream")["versions"][0]
said = client.infer("coldstream", inputs, model_version=version, outputs=outputs, request_id="seven")
plain = client.infer("coldstream", inputs)
later = client.infer("coldstream", inputs, parameters={"ts": int(sys.argv[5])})
try:
    client.infer("coldstream", inputs[:1])
    refused = ""
except triton.InferenceServerException as exc:
    refused = str(exc)
print(json.dumps({
    "live": client.is_server_live(), "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready("coldstream"), "other_ready": client.is_model_ready("other"),
    "server": client.get_server_metadata(), "model": client.get_model_metadata("coldstream"),
    "response": said.get_response(), "refused": refused,
    "probability": said.as_numpy("probability").tolist(), "rank": said.as_numpy("rank").tolist(),
    "plain": plain.as_numpy("probability").tolist(), "later": later.as_numpy("probability").tolist(),
}))
"""


@pytest.mark.parametrize("how", ["binary", "json"])
def test_tritons_client_is_served(how: str, scorer: Http) -> None:
    asked = [scorer.url.removeprefix("http://"), json.dumps(CONTEXT), json.dumps(ITEM), how, str(LATER_MS)]
    done = subprocess.run([sys.executable, "-c", _CLIENT, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [said[name] for name in ("live", "ready", "model_ready", "other_ready")] == [True, True, True, False]
    assert said["server"]["name"] == "coldstream"
    assert said["model"]["versions"] == ["1"]
    assert {tensor["name"] for tensor in said["model"]["inputs"]} == {"user", "context", "item", "features"}
    assert (said["response"]["model_version"], said["response"]["id"]) == ("1", "seven")
    assert "'item' is missing" in said["refused"]
    own = scorer.post("/v1/score", asked_for(20))["scores"]
    assert said["probability"] == pytest.approx([s["probability"] for s in own], abs=1e-5)
    assert said["plain"] == pytest.approx(said["probability"], abs=1e-5)
    assert said["rank"] == pytest.approx([s["rank"] for s in own], abs=1e-4)
    later = scorer.post("/v1/score", asked_for(20, ts=LATER_MS))["scores"]
    assert said["later"] == pytest.approx([s["probability"] for s in later], abs=1e-6)


NOTHING = [{"name": "user", "shape": [1], "datatype": "BYTES", "data": ["u"]}]
NOTHING += [{"name": "item", "shape": [0], "datatype": "BYTES", "data": []}]

WRONG = [
    ({"inputs": NOTHING, "parameters": {"ts": "noon"}}, 422, "parameter 'ts'"),
    ({"inputs": NOTHING, "parameters": {"ts": -1}}, 422, "milliseconds"),
    ({"inputs": [{"name": "users", "shape": [1], "datatype": "BYTES", "data": ["u"]}]}, 422, "users"),
    ({"inputs": [{"name": "user", "shape": [1], "datatype": "INT64", "data": [7]}]}, 422, "BYTES"),
    ({"inputs": [{"name": "user", "shape": [2], "datatype": "BYTES", "data": ["u"]}]}, 422, "shape"),
    ({"inputs": [{"name": "user", "shape": [1], "datatype": "BYTES", "data": [7]}]}, 422, "string"),
    ({}, 422, "inputs"),
    (b"{", 400, "JSON"),
]


@pytest.mark.parametrize(("given", "status", "said"), WRONG)
def test_what_is_wrong_is_named(given: object, status: int, said: str, scorer: Http, trained: Trained) -> None:
    found, answer, _ = scorer.ask("/v2/models/coldstream/infer", given)
    assert (found, said in answer["error"]) == (status, True), answer


def test_other_models_and_versions_are_not_there(scorer: Http) -> None:
    assert scorer.ask("/v2/models/coldstream/versions/1")[0] == 200
    assert scorer.ask("/v2/models/coldstream/versions/1/ready")[0] == 200
    for path in ("/v2/models/other", "/v2/models/coldstream/versions/99", "/v2/models/coldstream/load", "/v2/nothing"):
        assert scorer.ask(path)[0] == 404, path
