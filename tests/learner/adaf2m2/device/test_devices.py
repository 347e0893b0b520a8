"""A deep part on a device that is not the CPU says, learns and keeps what it does on the CPU.

Without a GPU the device is a foreign one (`support.foreign_device`), which is as strict, and steps are recorded as CUDA
graphs are (`support.recording`). Each check has a process of its own, as PyTorch knows of such a device for good.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from support.alone import check_alone
from support.group import FOLLOW, group

from learner.adaf2m2.deep import DeepPart
from learner.adaf2m2.device import rows as device_rows
from learner.adaf2m2.device.choice import DeviceError, chosen_device, generator_on, set_state
from learner.adaf2m2.device.graphs import Half
from learner.adaf2m2.device.recorded import RecordedSteps
from learner.config import BalanceSettings
from learner.group.leader import GroupLearner
from learner.learned import Learned, joined
from learner.learner import Learner
from learner.published.codes import frozen_codes
from learner.recipe import Recipe
from learner.samples.columns import Samples, blocks
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from tests.learner import checkpoints, test_histories, test_sif
from tests.learner.fast.records import changed, make_records, to_samples
from tests.learner.tasks import streams, test_tasks
from tests.learner.test_every_model import MODELS, make_learner
from tests.learner.test_learner import DAY_MS

DEVICES = ["foreign", *(["cuda"] if torch.cuda.is_available() else [])]
on_devices = pytest.mark.parametrize("device", DEVICES)


@contextmanager
def on(name: str) -> Iterator[torch.device]:
    if name == "cuda":
        yield torch.device("cuda", 0)
        return
    from support.foreign_device import foreign_device

    with foreign_device() as device:
        yield device


def check(device: str, name: str) -> None:
    """What each process runs."""
    with on(device) as there:
        for one in CHECKS[name]:
            one(there)


def learn(learner: Learner, samples: Samples, size: int = 96) -> Learned:
    return joined([learner.learn(part) for part in blocks(samples, size)])


def with_settings(recipe: Recipe, **learner: Any) -> Recipe:
    return msgspec.structs.replace(recipe, learner=msgspec.structs.replace(recipe.learner, **learner))


def deep_of(learner: Learner) -> DeepPart:
    assert learner.deep is not None
    return learner.deep


def assert_same(got: Learned, expected: Learned, atol: float = 1e-4) -> None:
    for name in ("predictions_B", "norms_B2", "weights_BK"):
        if getattr(expected, name) is not None:
            np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=atol, err_msg=name)
    np.testing.assert_array_equal(got.unseen_B2, expected.unseen_B2)


def assert_same_state(one: Learner, other: Learner, atol: float = 1e-3) -> None:
    got, expected = one.state()[0], other.state()[0]
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        if "rng." not in name:
            np.testing.assert_allclose(got[name], array, atol=atol, err_msg=name)


def strict(device: torch.device) -> None:
    """Of the device that stands for a GPU: what fails there fails here."""
    there = torch.ones(2, device=device)
    assert (there + 1).device == device
    assert (there * torch.tensor(2.0)).cpu().tolist() == [2.0, 2.0]
    for mistaken in (lambda: there + torch.ones(2), there.numpy, lambda: torch.stack([there, torch.ones(2)])):
        with pytest.raises((RuntimeError, TypeError)):
            mistaken()
    if device.type == "foreign":
        from support.recording import recording

        for mistaken in (
            lambda: there.sum().item(),
            lambda: there.add_(torch.ones(2).to(device)),
            lambda: there[[1, 0]],
        ):
            with recording(), pytest.raises(RuntimeError):
                mistaken()


# What a GPU draws a CPU does not: there, nothing is drawn where both are to be the same.
_DRAWN_OFF = {"num_masks": 0, "dropout": 0.0, "id_dropout": 0.0}


def every_model(device: torch.device) -> None:
    """With rows in either memory, recorded or not; whole micro-batches, so that masks are the same."""
    samples = to_samples(make_records(288))
    for model in MODELS:
        drawn = _DRAWN_OFF if device.type == "cuda" else {}
        cpu = make_learner({**model, **drawn})
        expected = learn(cpu, samples)
        # Near 0, AFN's logarithm makes much of little.
        atol = 0.05 if model["deep"] == "afn" else 1e-4
        for settings in ({"deep_rows": "host"}, {"cuda_graphs": False}, {}):
            there = Learner(with_settings(cpu.recipe, **settings), device)
            assert_same(learn(there, samples), expected, atol)
            assert there.fast is not None or deep_of(there).device == device
            if model["deep"] != "afn":
                assert_same_state(there, cpu)


def tasks(device: torch.device) -> None:
    """All heads, and every way to balance them."""
    samples = streams.to_samples(streams.make_stream(70))
    methods = ("fixed", "uncertainty", "pcgrad")
    models = {name: model for name, model in test_tasks.MODELS.items() if model.heads.kind != "none"}
    for n, (name, model) in enumerate(models.items()):
        drawn = msgspec.structs.replace(model, num_masks=0) if device.type == "cuda" else model
        recipe = streams.make_recipe(drawn, balance=BalanceSettings(methods[n % 3]))
        cpu, there = Learner(recipe), Learner(recipe, device)
        expected, got = learn(cpu, samples), learn(there, samples)
        assert_same(got, expected)
        assert got.by_task is not None, name
        assert_same_state(there, cpu)


def histories(device: torch.device) -> None:
    """Every reader of them, and sample tokens, whose codebooks move."""
    for model in test_histories.DEEP:
        recipe = test_histories.recipe_of(model)
        samples = test_histories.samples_of(recipe, 160)
        cpu, there = Learner(recipe), Learner(recipe, device)
        assert_same(learn(there, samples), learn(cpu, samples), 1e-3)
    sif = msgspec.structs.replace(test_sif.SIF, freeze_samples=300)
    for model in test_sif.FORMS:
        drawn = _DRAWN_OFF if device.type == "cuda" else {}
        recipe = test_sif.recipe_of({**model, **drawn, "sif": sif})
        world, cpu, there = test_sif.World(recipe), Learner(recipe), Learner(recipe, device)
        for _ in range(4):
            samples = world.samples(100, cpu)
            assert_same(learn(there, samples), learn(cpu, samples), 1e-2)
        codes = frozen_codes(there), frozen_codes(cpu)
        assert codes[0] is not None
        assert codes[1] is not None
        assert codes[0][0] == codes[1][0] == 1


def mixed(count: int, seed: int = 0) -> Samples:
    """Samples of which some are only asked for, so that micro-batches are not whole; later ones have more values."""
    records = make_records(count, seed)
    for n in range(0, count, 3):
        records[n] = changed(records[n], kind=SampleKind.SHOWN)
    for n in range(count // 2, count):
        record = records[n]
        genres = [f"g{n}-{m}" for m in range(12)]
        records[n] = changed(record, features=[record.core.features[0], genres, record.core.features[2]])
    return to_samples(records)


def with_recorder(learner: Learner) -> RecordedSteps:
    """What records its steps: where there is no GPU, what does as CUDA graphs do."""
    steps = deep_of(learner).recorded
    assert steps is not None
    if steps.recorder is None:
        from support.recording import Recorder

        steps.recorder = Recorder()
    return steps


def both(model: dict[str, Any], device: torch.device) -> tuple[Learner, Learner]:
    """Learners whose steps are not recorded, and are."""
    plain, fixed = (Learner(make_learner(model, cuda_graphs=graphs).recipe, device) for graphs in (False, True))
    assert deep_of(plain).recorded is None
    return plain, fixed


def recorded(device: torch.device) -> None:
    """Every model's step can be recorded and stays the same: it looks at no value, and what it reads stays in place."""
    samples = to_samples(make_records(288))
    for model in MODELS:
        if "dropout" in model or "id_dropout" in model:
            assert deep_of(both(model, device)[1]).recorded is None
            continue
        plain, fixed = both(model, device)
        steps = with_recorder(fixed)
        atol = 0.05 if model["deep"] == "afn" else 1e-4
        assert_same(learn(fixed, samples), learn(plain, samples), atol)
        assert steps.is_recorded, model
        if model["deep"] != "afn":
            assert_same_state(fixed, plain)


def recorded_anew(device: torch.device) -> None:
    """Of micro-batches that are filled up; where lists get longer, rows come to lie elsewhere, and behind a restore."""
    device_rows._LEAST_ROWS = 4
    for model in ({"deep": "dcnv2"}, {"deep": "fm", "fast": True}, {"deep": "dnn", "adapter": False}):
        plain, fixed = both({**model, "num_masks": 0}, device)
        steps = with_recorder(fixed)
        for n in range(2):
            samples = mixed(600, n)
            assert_same(learn(fixed, samples, 100), learn(plain, samples, 100))
            assert steps.is_recorded
            assert_same_state(fixed, plain)
            fixed.restore(*fixed.state())
            assert not steps.is_recorded
        if device.type != "cuda":
            assert steps.recorder.num_recorded > 2  # type: ignore[union-attr]


class Refusing:
    """As a GPU that records nothing."""

    def run(self, half: Half) -> None:
        half()

    def record(self, halves: Sequence[Half], generator: torch.Generator) -> list[Half]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


def refused(device: torch.device) -> None:
    """What cannot be recorded goes on as it comes."""
    samples = to_samples(make_records(288))
    plain, fixed = both({"deep": "dcnv2"}, device)
    steps = deep_of(fixed).recorded
    assert steps is not None
    steps.recorder = Refusing()
    assert_same(learn(fixed, samples), learn(plain, samples))
    assert steps.recorder is None
    assert not steps.is_recorded


def kept(device: torch.device) -> None:
    """Checkpoints, whole and of what has changed, weights, and ids that go and come back, while rows lie there."""
    device_rows._LEAST_ROWS = 4
    model = {"deep": "dcnv2", "num_masks": 0}
    recipe = make_learner(model, embedding_ttl_days=1).recipe
    cpu, there = Learner(recipe), Learner(recipe, device)
    first, records = make_records(300), make_records(300, seed=1)
    later = to_samples([changed(record, ts=record.core.ts + 3 * DAY_MS) for record in records])
    whole = None
    for n, samples in enumerate((to_samples(first), mixed(300, 2), later, mixed(200, 3))):
        assert_same(learn(there, samples), learn(cpu, samples))
        if n == 1:
            # What was only seen is in the table already; what was learned must be brought.
            whole = there.state()
        assert there.evict_stale() == cpu.evict_stale()
        changes, expected = there.take_changes()[0], cpu.take_changes()[0]
        np.testing.assert_array_equal(changes["fast.rows"], expected["fast.rows"])
        np.testing.assert_allclose(changes["fast.values.deep"], expected["fast.values.deep"], atol=1e-4)
        np.testing.assert_allclose(changes["fast.values.deep_squares"], expected["fast.values.deep_squares"], atol=1e-3)
    assert len(changes["fast.gone"]) == len(expected["fast.gone"])
    assert isinstance(deep_of(there)._rows, device_rows.DeviceRows)
    assert deep_of(there)._rows.num_moves > 3
    assert_same_state(there, cpu)
    # A checkpoint of one goes on on the other, either way.
    assert whole is not None
    with TemporaryDirectory() as folder:
        checkpoints.write(there, Path(folder))
        back, again = Learner(recipe), Learner(recipe, device)
        learn(again, to_samples(first))
        for each in (back, again):
            checkpoints.restore(each, Path(folder))
    following = mixed(200, 4)
    expected_next = learn(there, following)
    for each in (back, again):
        assert_same(learn(each, following), expected_next)
    users = following.user_keys
    assert there.norms_of(users).all()
    np.testing.assert_allclose(there.norms_of(users), again.norms_of(users), atol=1e-5)


def published(device: torch.device) -> None:
    """What is served is what the learner would say, of a full snapshot, and of one with what has changed on top."""
    recipe = make_learner({"deep": "dnn", "adapter": False, "fast": True}).recipe
    learner, scorer = Learner(recipe, device), ServingModel(recipe)
    learn(learner, mixed(300))
    # All of it, though nobody has taken what has changed.
    scorer.load(encode_snapshot(learner, None))
    take_changed(learner)
    learn(learner, mixed(300, 1))
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    asked = to_samples([changed(record, kind=SampleKind.SHOWN) for record in make_records(200, 2)])
    served, said = scorer.predict(asked), learn(learner, asked)
    assert served.predictions_B.std() > 0.01
    np.testing.assert_allclose(served.predictions_B, said.predictions_B, atol=1e-5)


_FOLLOW = """
import sys
from learner.group.agreed import Place
from learner.group.follower import follow
from learner.group.wire import Wire
from tests.learner.adaf2m2.device.test_devices import on

with on("foreign") as device:
    follow(Wire(Place(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])), device=device)
"""


def groups(device: torch.device) -> None:
    """Two processes, each with such a device, are what two on the CPU are."""
    recipe = make_learner({"deep": "dcnv2", "fast": True, "num_masks": 0}, exchange_samples=100).recipe
    samples, said, states = mixed(400), [], []
    for follow, where in ((FOLLOW, torch.device("cpu")), (_FOLLOW.replace("foreign", device.type), device)):
        with group(2, follow) as (wire, _):
            learner = GroupLearner(recipe, wire, where)
            said.append(joined([learner.learn(part) for part in blocks(samples, 100)]))
            states.append(learner.take_changes(whole=True)[0])
    assert_same(said[1], said[0])
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        if "rng." not in name:
            np.testing.assert_allclose(states[1][name], array, atol=1e-3, err_msg=name)


# Each process takes five seconds to start, so some do several.
CHECKS = {
    "every model": (strict, every_model),
    "tasks": (tasks,),
    "histories": (histories,),
    "recorded": (refused, recorded),
    "recorded anew": (recorded_anew,),
    "kept": (published, kept),
    "groups": (groups,),
}


@pytest.mark.slow
@on_devices
@pytest.mark.parametrize("name", list(CHECKS))
def test_it_is_the_same_as_on_the_cpu(name: str, device: str) -> None:
    check_alone(__name__, f"check({device!r}, {name!r})")


def test_random_numbers_go_on_as_they_were_or_anew_behind_a_state_of_another_device() -> None:
    state = generator_on(torch.device("cpu"), 3).get_state()
    there = torch.zeros(16, dtype=torch.uint8)
    drawn = []
    for given in (state, there, there + 1):
        pair = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        for generator in pair:
            set_state(generator, given)
        one, other = (torch.rand(4, generator=generator) for generator in pair)
        assert one.equal(other)
        drawn.append(one.tolist())
    assert drawn[0] == torch.rand(4, generator=torch.Generator().manual_seed(3)).tolist()
    assert len(set(map(tuple, drawn))) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(DeviceError, match=r"learner\.device cuda: PyTorch finds no GPU here"):
        chosen_device("cuda")
    assert chosen_device("auto") == chosen_device("cpu") == torch.device("cpu")
