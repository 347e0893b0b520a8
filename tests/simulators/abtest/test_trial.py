"""Two pipelines behind one world: the product's own decisions, and what an experiment does to an arm."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
import redis
from support.worlds import SMALL

from simulators.abtest.arm import Arm, ArmError, load_arm
from simulators.abtest.choice import Choice, best, clicks, reach
from simulators.abtest.feed import Feed
from simulators.abtest.local import LocalSide
from simulators.abtest.paired import Pairs
from simulators.abtest.pipeline import Pipeline
from simulators.abtest.ranking import Ranker
from simulators.abtest.reporting.page import write_page
from simulators.abtest.reporting.report import Run, summary_of
from simulators.abtest.retrieved import Retrieval
from simulators.abtest.run import Opened, Trial, TrialSettings
from simulators.abtest.tally import Period, Tally
from simulators.abtest.verdict import GROUPS, verdict_of
from simulators.encoding import LogEntry
from simulators.faults import FaultSettings
from simulators.replay import Replay, ReplaySettings
from simulators.world.items import NONE
from simulators.world.log import WorldLog, show_unranked
from simulators.world.parameters import Candidates
from simulators.world.rows import Rows, feedback_of, value_name
from simulators.world.world import Visits, World
from state_store.config import RedisSettings
from state_store.errors import OperatorError
from state_store.weights import WeightStore
from stream.process.store import open_store
from stream.serving.scorer import Candidate, Scorer
from stream.training.norms import NormWriter
from stream.training.publisher import Publisher

HOW = TrialSettings(days=1, days_before=1, candidates=20, seed=3)


def arm_of(name: str, redis_settings: RedisSettings, text: str, tmp_path: Path) -> Arm:
    file = tmp_path / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    arm = load_arm(name, file, SMALL)
    redis = msgspec.structs.replace(redis_settings, prefix=f"{redis_settings.prefix}-{name}")
    return msgspec.structs.replace(arm, settings=msgspec.structs.replace(arm.settings, redis=redis))


@pytest.fixture
def make_trial(redis_settings: RedisSettings, client: redis.Redis, tmp_path: Path):  # type: ignore[no-untyped-def]
    def made(
        first: str = "", second: str = "", how: TrialSettings = HOW, run: str = "", kind: type[Trial] = Trial
    ) -> Trial:
        files = zip("ab", (first, second), strict=True)
        arms = [arm_of(f"{run}{name}", redis_settings, text, tmp_path) for name, text in files]
        world = World(SMALL, how.seed)
        sides = LocalSide(world, arms[0], how, client), LocalSide(world, arms[1], how, client)
        return kind(world, arms, how, Opened(sides))

    return made


def pipelines_of(trial: Trial) -> list[Pipeline]:
    return [side.pipeline for side in trial._opened.sides if isinstance(side, LocalSide)]


def test_a_seed_decides_everything(make_trial) -> None:  # type: ignore[no-untyped-def]
    first, same = make_trial(run="x").run(), make_trial(run="y").run()
    assert first.of(Period.TEST).sum() > 0
    assert np.array_equal(first.of(Period.TEST), same.of(Period.TEST))
    assert np.array_equal(first.arm_U, same.arm_U)


def test_arms_that_are_one_pipeline_rank_alike_when_both_learn_from_all(make_trial, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    trial = make_trial(how=msgspec.structs.replace(HOW, learns_from="all"))
    tally = trial.run()
    a, b = (side.ranker for side in trial._opened.sides)
    pairs = np.arange(100), np.arange(100), np.full(100, trial.world.now_ms)
    assert np.array_equal(a.scores(*pairs), b.scores(*pairs))
    assert a.scores(*pairs).std() > 0.05
    verdict = verdict_of(tally)
    assert verdict.users["all"] == [x + y for x, y in zip(verdict.users["new"], verdict.users["old"], strict=True)]
    assert set(verdict.differences) == set(GROUPS)
    assert {"active_days", "duration", "click", "like"} <= set(verdict.differences["all"])
    summary = summary_of([Run(3, [verdict])] * 2, {"a": "A.toml", "b": "<B>.toml"}, 0.05)
    assert {"arms", *GROUPS} <= set(summary)
    assert set(summary["new"]["click"]) == {"difference", "low", "high"}
    assert summary["users_needed"]["all"]["click"] > summary["arms"]["a"]["users"]
    page = write_page(summary, "<B>.toml against A.toml", tmp_path).read_text(encoding="utf-8")
    assert "&lt;B&gt;.toml" in page
    assert "<B>" not in page
    assert page.count("<svg") == 1


def test_a_frozen_arm_keeps_its_weights_and_noise_costs_clicks(make_trial) -> None:  # type: ignore[no-untyped-def]
    trial = make_trial("[arm]\nfrozen = true\n", "[arm]\nnoise = 50.0\n", msgspec.structs.replace(HOW, days=2))
    tally = trial.run()
    steps = 3
    assert [pipeline.version for pipeline in pipelines_of(trial)] == [steps, 3 * steps]
    assert [pipeline.dead for pipeline in pipelines_of(trial)] == [[], []]
    sums_UM, m = tally.of(Period.TEST), tally.metrics.index("click")
    rates = [sums_UM[tally.arm_U == n, m].sum() / sums_UM[tally.arm_U == n, 2].sum() for n in (0, 1)]
    assert rates[0] > rates[1]


def test_the_ranker_scores_as_the_scorer_does(redis_settings: RedisSettings, client: redis.Redis) -> None:
    """The same state, the same learned weights: over the product's own request path, one user at a time."""
    settings = msgspec.structs.replace(load_arm("s", None, SMALL).settings, redis=redis_settings)
    world, rows, feed = World(SMALL, 4), Rows(SMALL), Feed(feedback_of(SMALL), 300_000)
    pipeline = Pipeline(settings, client)
    for _ in range(8):
        feed.add(rows.frame(show_unranked(world, world.step())))
        pipeline.ingest(feed.until(world.now_ms))
        pipeline.learn()
        pipeline.publish()
    store = open_store(settings, client)
    publisher = Publisher(
        WeightStore(client, settings.redis.prefix), NormWriter(store, 1), settings.publish, settings.redis.prefix
    )
    learner = pipeline._learner
    visits = world.step()
    slots_VC = world.candidates(len(visits), 15, SMALL.lists.shown)
    ranker, choice = Ranker(world, pipeline), Choice(0.0, np.random.default_rng(0))
    publisher.publish(learner, {0: 1}, {}, 1)
    scorer = Scorer(settings, client)
    assert scorer.refresh()
    for visit in range(0, len(visits), 7):
        user, items = int(visits.slot_V[visit]), slots_VC[visit][slots_VC[visit] >= 0]
        found = ranker.scores(np.full(len(items), user), items, np.full(len(items), world.now_ms))
        wanted = scorer.scores(*_asked(world, user, items), ts=world.now_ms).ranks_B
        assert found == pytest.approx(wanted, abs=1e-5)
        lists = choice.lists(slots_VC[visit : visit + 1], found, 4)
        assert lists[0].tolist() == items[np.argsort(-wanted, kind="stable")][:4].tolist()


def _asked(world: World, user: int, items: np.ndarray) -> tuple[str, dict[str, str], list[Candidate]]:
    def values(of: Iterable[str], codes: np.ndarray) -> dict[str, str]:
        return {name: value_name(name, int(code)) for name, code in zip(of, codes, strict=True)}

    users, catalogue = world.users, world.items
    known = values(SMALL.users.attributes, users.tastes.codes_NA[user])
    offered = [
        Candidate(f"i{catalogue.serial_I[i]}", values(SMALL.items.attributes, catalogue.tastes.codes_NA[i]))
        for i in items
    ]
    return f"u{users.serial_U[user]}", known, offered


def test_the_feed_writes_what_a_replay_writes() -> None:
    log = WorldLog(SMALL, 6, 1500)
    arm = load_arm("r", None, SMALL).settings
    calm = ReplaySettings(faults=FaultSettings(duplicates=0, out_of_order=0))
    wanted = [(e.topic, e.key, e.value) for e in Replay(log, calm, 1, arm.join).entries()]
    world, rows, feed = World(SMALL, 6), Rows(SMALL), Feed(feedback_of(SMALL), 300_000)
    found: list[LogEntry] = []
    while sum(entry.topic == 0 for entry in found) < 1500:
        feed.add(rows.frame(show_unranked(world, world.step())))
        batches = list(feed.until(world.now_ms))
        assert all(len({entry.topic for entry in batch}) == 1 for batch in batches)
        found += [entry for batch in batches for entry in batch]
    shown = [(e.topic, e.key, e.value) for e in found if e.topic == 0]
    assert shown[:1500] == [one for one in wanted if one[0] == 0]
    until = max(e.written_ms for e in found)
    all_wanted = [one for one in wanted if one[0] == 1]
    known = {(e.topic, e.key, e.value) for e in found}
    assert {one for one in all_wanted if msgspec.json.decode(one[2])["ts"] < world.now_ms} <= known
    assert until < world.now_ms


def test_who_comes_on_two_days_is_active_on_two(make_trial) -> None:  # type: ignore[no-untyped-def]
    world, tally = World(SMALL, 2), Tally(SMALL.outcomes)
    days: dict[int, set[int]] = {}
    for _ in range(9):
        shown = show_unranked(world, world.step())
        tally.update(shown, Period.BEFORE)
        for user, ts in zip(shown.user_N.tolist(), shown.ts_N.tolist(), strict=True):
            days.setdefault(user, set()).add(ts // 86_400_000)
    found_U = tally.of(Period.BEFORE)[:, 0]
    assert {user: len(of) for user, of in days.items()} == {u: int(found_U[u]) for u in np.flatnonzero(found_U)}


def first_six(world: World, visits: Visits, slots_VC: np.ndarray) -> float:
    place_N, column_N = np.nonzero(slots_VC[:, :6] != NONE)
    return float(world.click(visits.slot_V[place_N], slots_VC[place_N, column_N]).mean())


def test_what_two_towers_find_is_better_than_what_is_drawn() -> None:
    world = World(msgspec.structs.replace(SMALL, step_minutes=240), 6)
    retrieval = Retrieval(world, 0.5, 6)
    gains = []
    for step in range(40):
        visits = world.step()
        drawn_VC = world.candidates(len(visits), 12, Candidates(popular=0.0, new=0.0))
        slots_VC = retrieval.among(visits, drawn_VC)
        assert all(len(set(of)) == len(of) for of in (slots[slots != NONE].tolist() for slots in slots_VC))
        if step == 0:
            assert np.array_equal(slots_VC, drawn_VC)
        if step >= 20:
            found, drawn = (first_six(world, visits, of) for of in (slots_VC, drawn_VC))
            gains.append(found - drawn)
        shown = world.show(visits, slots_VC[:, [0, 1, 6, 7]])
        retrieval.learn(visits, slots_VC[:, [0, 1, 6, 7]], shown.reactions.happened_NO[:, 0])
    assert np.mean(gains) > 0.02


def test_reach_is_what_a_list_gains_of_what_could_be_gained() -> None:
    world = World(SMALL, 5)
    visits = world.step()
    slots_VC = world.candidates(len(visits), 12, SMALL.lists.shown)
    pairs = zip(visits.slot_V, slots_VC, strict=True)
    clicks_VC = np.array([[world.click(np.array([u]), np.array([i]))[0] for i in slots] for u, slots in pairs])
    clicks_VC[slots_VC == NONE] = np.nan
    by_click_VC = np.take_along_axis(slots_VC, np.argsort(-np.nan_to_num(clicks_VC, nan=-1.0), axis=1), axis=1)
    assert reach(world, visits, slots_VC, by_click_VC[:, :4]) == pytest.approx(1.0)
    # Of a list that ends early, against the best that are as many.
    cut_VL = by_click_VC[:, :4].copy()
    cut_VL[:, 2:] = NONE
    assert reach(world, visits, slots_VC, cut_VL) == pytest.approx(1.0)
    first_VL = np.where(np.arange(4) < 3, slots_VC[:, :4], NONE)
    found_V = reach(world, visits, slots_VC, first_VL)
    for v in range(len(visits)):
        there = clicks_VC[v][~np.isnan(clicks_VC[v])]
        shown = clicks_VC[v, :3][slots_VC[v, :3] != NONE]
        best = np.sort(there)[::-1][: len(shown)]
        assert found_V[v] == pytest.approx((shown.mean() - there.mean()) / (best.mean() - there.mean()), abs=1e-4)


class Noted(Trial):
    """Keeps what either arm would have shown."""

    reach_of: list[tuple[int, int, float]]
    """User, arm, how far the arm's list reaches."""

    def both(self, visits: Visits, slots_VC: np.ndarray, arms_V: np.ndarray) -> np.ndarray:
        shown_VL = super().both(visits, slots_VC, arms_V)
        size = self.world.parameters.lists.size
        self.reach_of = getattr(self, "reach_of", [])
        for a, side in enumerate(self._opened.sides):
            lists_VL = best(slots_VC, side.scores(visits, slots_VC), size)
            assert np.array_equal(shown_VL[arms_V == a], lists_VL[arms_V == a])
            users_V = self.world.users.serial_U[visits.slot_V].tolist()
            reach_V = reach(self.world, visits, slots_VC, lists_VL).tolist()
            self.reach_of += [(user, a, value) for user, value in zip(users_V, reach_V, strict=True)]
        return shown_VL


PAIRED = msgspec.structs.replace(HOW, learns_from="all", paired=True)


def test_either_arms_lists_are_compared_visit_by_visit(make_trial) -> None:  # type: ignore[no-untyped-def]
    trial = make_trial("[fast]\ngate = false\n", "[learner]\nmicro_batch = 5\n", PAIRED, kind=Noted)
    tally = trial.run()
    found = pl.DataFrame(trial.reach_of, schema=["user", "arm", "reach"], orient="row")
    by_user = found.group_by("user", "arm").agg(pl.col("reach").mean()).pivot("arm", index="user", values="reach")
    gains = by_user["1"] - by_user["0"]
    verdict = verdict_of(tally)
    found_all = verdict.differences["all"]["reach_gain"]
    assert found_all.difference == pytest.approx(gains.mean())
    assert found_all.error == pytest.approx(gains.std() / len(gains) ** 0.5)
    assert found_all.difference != 0.0
    # Both rank alike where they are one pipeline, whoever is in which arm.
    same = verdict_of(make_trial(how=PAIRED, run="s").run())
    assert {same.differences[group]["reach_gain"].difference for group in GROUPS} == {0.0}
    assert same.differences["all"]["reach"].difference != 0.0


def test_items_are_told_apart_by_how_often_they_were_shown() -> None:
    world, pairs = World(SMALL, 5), Pairs()
    seen: dict[int, int] = {}
    for _ in range(4):
        shown = show_unranked(world, world.step())
        pairs.update(shown)
        for item in shown.item_N.tolist():
            seen[item] = seen.get(item, 0) + 1
    visits = world.step()
    slots_VC = world.candidates(len(visits), 30, Candidates(popular=0.0, new=0.3))
    truth_M = clicks(world, visits, slots_VC)[slots_VC != NONE]
    # Who ranks by the truth reaches all that there is to reach in every band, who ranks against it less than chance.
    pairs.judge(world, visits, slots_VC, [-truth_M, truth_M])
    everybody = np.ones(world.users.num_arrived, np.bool_)
    for band, (low, below) in {"unseen": (0, 1), "few": (1, 10), "some": (10, 100)}.items():
        reach_SA = pairs.of(f"reach_gain_{band}", everybody)
        in_band_V = [
            sum(low <= seen.get(int(world.items.serial_I[slot]), 0) < below for slot in slots if slot != NONE)
            for slots in slots_VC
        ]
        users = {int(visits.slot_V[v]) for v, number in enumerate(in_band_V) if number > 1}
        assert len(reach_SA) == len(users) > 0
        assert reach_SA[:, 1] == pytest.approx(1.0)
        assert (reach_SA[:, 0] < 1).any()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("[arm]\nfroze = true", ArmError, "froze"),
        ("[learner]\nmicro_batc = 5", OperatorError, "micro_batc"),
        ("[arm", ArmError, "TOML"),
    ],
)
def test_an_arm_that_cannot_be_is_refused(text: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    file = tmp_path / "arm.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=said):
        load_arm("a", file, SMALL)


@pytest.mark.parametrize(("name", "kind"), [("mood", "categorical"), (next(iter(SMALL.users.attributes)), "multi")])
def test_a_field_that_the_world_lacks_is_named(name: str, kind: str, tmp_path: Path) -> None:
    fields = [("user_id", "user", "id"), ("item_id", "item", "id"), (name, "user", kind)]
    file = tmp_path / "arm.toml"
    told = [
        f'[[fields]]\nname = "{n}"\ngroup = "{g}"\nkind = "{k}"\nstate = {str(k == "id").lower()}' for n, g, k in fields
    ]
    file.write_text("crosses = []\n" + "\n".join(told), encoding="utf-8")
    with pytest.raises(ArmError, match=rf"fields \['{name}'\]"):
        load_arm("f", file, SMALL)


def test_histories_are_refused(tmp_path: Path) -> None:
    """Candidates would be scored without them, and samples learned with them."""
    file = tmp_path / "arm.toml"
    file.write_text(f'[[histories]]\nname = "liked"\nactions = ["{SMALL.outcomes[0].name}"]', encoding="utf-8")
    with pytest.raises(ArmError, match=r"arm .*arm\.toml: histories \['liked'\]"):
        load_arm("h", file, SMALL)
