"""An exported snapshot, read by plain NumPy and by onnxruntime: both say what the serving model says."""

import json
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import redis
from safetensors.numpy import load_file
from support.serving import Trained, some_samples

from learner.adaf2m2.taken import VALUES
from learner.fast.inputs.levels import levels_of
from learner.fast.inputs.occurrences import occurrences_of, plan_of
from learner.fast.inputs.signals import signals_of
from learner.samples.columns import Samples
from learner.snapshot import ServingModel
from stream.command.export import write_export
from stream.settings import Settings

_BITS = (1 << 64) - 1
SIDE = {"user_id": 0, "item_id": 2}
OF_GROUP = {"user": 1, "item": 3}


def mix(key: int) -> int:
    """SplitMix64."""
    z = (key + 0x9E3779B97F4A7C15) & _BITS
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _BITS
    return z ^ (z >> 31)


def cross_key(a: int, b: int, names: list[str]) -> int:
    salt = int.from_bytes(blake2b("\0".join(names).encode(), digest_size=8).digest(), "little")
    return mix((mix((mix(a) + salt) & _BITS) + b) & _BITS)


class Plain:
    """The fast part of an export, sample by sample, in double precision."""

    def __init__(self, folder: Path) -> None:
        self.arrays = load_file(folder / "weights.safetensors")
        self.model = json.loads((folder / "model.json").read_text())["model"]
        self.fast = {name[5:]: a.astype(np.float64) for name, a in self.arrays.items() if name.startswith("fast.")}
        self.rows = [{int(k): n for n, k in enumerate(self.arrays[f"{t}.keys"])} for t in (0, 1)]
        self.w, self.cross_w = (self.arrays[f"{t}.values.w"][:, 0].astype(np.float64) for t in (0, 1))
        self.v = self.arrays["0.values.v"].astype(np.float64)

    def components(self, values: list[tuple[int, int, float]]) -> tuple[list[float], np.ndarray]:
        """K components but the deep one, and the vectors of the four sides before they are centred."""
        fields = self.model["fields"]
        sums, vectors, seen = np.zeros(4), np.zeros((4, self.v.shape[1])), [set(), set(), set(), set()]
        for field, key, weight in values:
            if key not in self.rows[0]:
                continue
            row, of = self.rows[0][key], fields[field]
            side = SIDE.get(of["name"], OF_GROUP.get(of["group"], 1))
            sums[side] += weight * self.w[row]
            vectors[side] += weight * self.v[row]
            seen[side].add(field)
        vectors[1] /= max(len(seen[1]), 1)
        names = [field["name"] for field in fields]
        crosses = []
        for cross in self.model["crosses"]:
            of = [[key for field, key, _ in values if names[field] == name] for name in cross["fields"]]
            keys = [cross_key(a, b, cross["fields"]) for a in of[0] for b in of[1]]
            crosses.append(sum(self.cross_w[self.rows[1][key]] for key in keys if key in self.rows[1]))
        centred = vectors.copy()
        for side in (2, 3):
            if seen[side]:
                centred[side] -= self.fast["centre_2D"][side - 2]
        products = [float(centred[ours] @ centred[theirs]) for ours in (0, 1) for theirs in (2, 3)]
        return [*sums, *crosses, *products, float(self.fast["bias_2"][0])], vectors

    def gate(self, signals: list[float], vectors: np.ndarray, num_components: int) -> tuple[np.ndarray, float]:
        norms = [0.5 * np.log(1e-6 + (vectors[side] ** 2).sum()) for side in (0, 2)]
        x = np.array([*signals, *(norms if self.model["fast"]["gate_norms"] else [])])
        share = 1 / min(self.fast["counters_3"][0] + 1, 2000)
        mean = self.fast["mean_S"] + share * (x - self.fast["mean_S"])
        var = self.fast["var_S"] + share * ((x - self.fast["mean_S"]) ** 2 - self.fast["var_S"])
        z = np.clip((x - mean) / np.sqrt(var + 1e-4), -3, 3)
        h, o = self.model["fast"]["gate_hidden"], num_components + 1
        cuts = np.cumsum([len(x) * h, h, o * h])
        w_in, b_in, w_out, b_out = np.split(self.fast["gate_P"], cuts)
        out = w_out.reshape(o, h) @ np.maximum(z @ w_in.reshape(-1, h) + b_in, 0) + b_out
        return 2 / (1 + np.exp(-out[:-1])), float(out[-1])

    def probability(
        self, values: list[tuple[int, int, float]], signals: list[float], levels: list[int], deep: list[float]
    ) -> float:
        components, vectors = self.components(values)
        components = [*components, *deep]
        gates, added = self.gate(signals, vectors, len(components))
        logit = added + float(gates @ np.array(components))
        if self.model["fast"]["levels"]:
            logit += sum(self.fast["levels_2L"][which, level] for which, level in enumerate(levels))
        return 1 / (1 + np.exp(-logit))


def with_counts(samples: Samples) -> Samples:
    """State that differs from sample to sample."""
    rng, rows = np.random.default_rng(5), samples.rows_B
    for name in ("user_counts", "item_counts"):
        rows[name][:, 0] = rng.integers(0, 300, len(rows))
        rows[name][:, 1] = rows[name][:, 0] // 3
    rows["user_norm"], rows["item_norm"] = rng.random(len(rows)), rng.random(len(rows))
    return samples


@pytest.mark.parametrize("deep", ["none", "dcnv2"])
def test_numpy_and_onnxruntime_say_what_the_scorer_says(
    deep: str, settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(settings, model=msgspec.structs.replace(settings.model, deep=deep))
    trained = Trained(settings, client)
    trained.publish(300, 1)
    files = write_export(settings, client, tmp_path, 0)
    assert [file.name for file in files] == ["weights.safetensors", "model.json", "dense.onnx"][
        : 3 if deep != "none" else 2
    ]
    recipe, samples = settings.recipe, with_counts(some_samples(settings, 40, seed=9, num_users=30, num_items=40))
    model = ServingModel(recipe)
    model.load([files[0].read_bytes()])
    wanted = model.predict(samples).predictions_B
    plain, found = Plain(tmp_path), occurrences_of(samples, plan_of(recipe.layout))
    assert plain.model["components"][-1] == ("deep" if deep != "none" else "bias")
    signals = signals_of(samples, plain.model["gate_signals"], recipe.positive).tolist()
    levels = levels_of(samples, recipe.fast_recipe.user_levels, recipe.fast_recipe.item_levels).tolist()
    of = [slice(*ends) for ends in zip(found.offsets_B1[:-1], found.offsets_B1[1:], strict=True)]
    columns = (found.fields_N.tolist(), found.keys_N.tolist(), found.weights_N.tolist())
    values = [list(zip(*(column[each] for column in columns), strict=True)) for each in of]
    logits = deep_logits(tmp_path, plain, values, samples) if deep != "none" else [[]] * len(values)
    ours = [plain.probability(*each) for each in zip(values, signals, levels, logits, strict=True)]
    np.testing.assert_allclose(ours, wanted, rtol=2e-5)
    assert np.ptp(wanted) > 0.05


def deep_logits(
    folder: Path, plain: Plain, values: list[list[tuple[int, int, float]]], samples: Samples
) -> list[list[float]]:
    """By onnxruntime, of pooled rows."""
    rows_RW = plain.arrays[f"0.values.{VALUES}"]
    pooled = np.zeros((len(values), len(plain.model["fields"]), rows_RW.shape[1]), np.float32)
    for b, sample in enumerate(values):
        for field, key, weight in sample:
            if key in plain.rows[0]:
                pooled[b, field] += np.float32(weight) * rows_RW[plain.rows[0][key]]
    rows = samples.rows_B
    session = onnxruntime.InferenceSession(str(folder / "dense.onnx"))
    given = {
        "embeddings": pooled[..., :-1],
        "first_order": pooled[..., -1],
        "norms": np.stack([rows["user_norm"], rows["item_norm"]], axis=1).astype(np.float32),
        "counts": np.concatenate([rows["user_counts"], rows["item_counts"]], axis=1).astype(np.float32),
    }
    [logit_B] = session.run(None, {one.name: given[one.name] for one in session.get_inputs()})
    return [[float(logit)] for logit in logit_B]
