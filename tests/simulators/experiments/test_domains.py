"""IDP's protocol on small domains: what is asked, what is learned from, and what is kept."""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from simulators.commands.options import UsageError
from simulators.commands.starts.domains import run
from simulators.experiments.domains.data import Domain, read_domain, union
from simulators.experiments.domains.ranking import TEST, VALIDATE, asked, gains, names, popularity, ranks
from simulators.experiments.domains.training import batches, windows
from simulators.logs import movielens
from simulators.logs.errors import DataError

KINDS = 4


def write_domain(folder: Path, category: str, num_users: int, seed: int) -> None:
    """Items of a few kinds, which their titles tell; a user stays with one kind, item after item."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    items = {str(n): {"title": f"kind{n % KINDS} thing{n}", "description": "of use"} for n in range(40)}
    with gzip.open(folder / f"{category}.item.json.gz", "wt") as file:
        file.write(json.dumps(items))
    with gzip.open(folder / f"{category}.seq.jsonl.gz", "wt") as file:
        for user in range(num_users):
            kind = int(rng.integers(KINDS))
            taken = [int(n) * KINDS + kind for n in rng.permutation(10)[: rng.integers(2, 8)]]
            file.write(json.dumps({"user": f"u{user}", "items": taken}) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_domain(tmp_path / "amazon", "Office_Products", 120, 1)
    write_domain(tmp_path / "amazon", "Industrial_and_Scientific", 150, 2)
    return tmp_path


def test_users_of_too_few_items_are_left_out_and_others_are_drawn(folder: Path) -> None:
    whole, part = (read_domain("office", folder, number, seed=0) for number in (0, 30))
    assert 60 < len(whole.sequences) < 120
    assert len(part.sequences) == 30
    assert min(map(len, whole.sequences)) >= 3
    assert set(np.concatenate(part.sequences).tolist()) == set(range(1, part.num_items + 1))
    assert {word for words in whole.words for word in words} >= {"kind0", "thing7", "use"}
    both = union([whole, part])
    assert both.num_items == whole.num_items + part.num_items
    last = both.sequences[-1]
    assert [both.words[n - 1] for n in last] == [part.words[n - 1] for n in part.sequences[-1]]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("within", ["", "ml-1m"])
def test_movielens_is_read_as_it_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, within: str
) -> None:
    files = {
        "ratings": b"2::30::5::30\n1::10::5::20\n2::10::1::10\n1::20::3::10\n2::20::4::20\n1::30::4::30\n",
        "users": b"1::F::1::10::48067\n2::M::56::16::70072\n",
        "movies": b"10::Associ\xe9 (1996)::Comedy\n20::Toy Story (1995)::Animation\n30::Heat (1995)::Crime|Drama\n",
    }
    for name, count in (("NUM_RATINGS", 6), ("NUM_USERS", 2), ("NUM_MOVIES", 3)):
        monkeypatch.setattr(movielens, name, count)
    (tmp_path / within).mkdir(exist_ok=True)
    for name, data in files.items():
        (tmp_path / within / f"{name}.dat{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    domain = read_domain("ml-1m", tmp_path, 0, seed=0)
    assert [items.tolist() for items in domain.sequences] == [[2, 1, 3], [1, 2, 3]]
    assert domain.words[1:] == [["toy", "story", "1995", "animation"], ["heat", "1995", "crime", "drama"]]


def test_a_domain_that_is_not_there_or_of_another_form_says_so(folder: Path) -> None:
    with pytest.raises(DataError, match=r"games: .*Video_Games.*is not there: give the folder with its files"):
        read_domain("games", folder, 0, 0)
    with gzip.open(folder / "amazon" / "Office_Products.seq.jsonl.gz", "wt") as file:
        file.write('{"user": "a", "items": [1, 2, 77]}\n')
    with pytest.raises(DataError, match="office: nothing is said of 1 items, item 77 among them"):
        read_domain("office", folder, 0, 0)
    (folder / "amazon" / "Office_Products.item.json.gz").write_bytes(b"none")
    with pytest.raises(DataError, match="office: what lies in"):
        read_domain("office", folder, 0, 0)


def test_one_is_left_out_and_ranked_among_all_and_among_others() -> None:
    rng = np.random.default_rng(3)
    sequences = [rng.permutation(150)[: rng.integers(3, 9)] + 1 for _ in range(40)]
    domain = Domain("d", sequences, [["w"]] * 150)
    test, validate = asked(domain, TEST, 0), asked(domain, VALIDATE, 0)
    assert [items[-1] for items in sequences] == test.next_U.tolist()
    assert [items[-2] for items in sequences] == validate.next_U.tolist()
    for items, before, drawn in zip(sequences, validate.histories, test.drawn_UC, strict=True):
        assert before.tolist() == items[:-2].tolist()
        assert len(set(drawn.tolist())) == 100
        assert not set(drawn.tolist()) & set(items.tolist())
    scores_UJ = rng.integers(5, size=(40, 150)).astype(float)
    found = ranks(lambda histories: scores_UJ, test)
    for user, item in enumerate(test.next_U):
        own, of_drawn = scores_UJ[user, item - 1], scores_UJ[user, test.drawn_UC[user] - 1]
        equal = (scores_UJ[user] == own).sum() - 1
        assert found.full_U[user] == (scores_UJ[user] > own).sum() + 0.5 * equal
        assert found.drawn_U[user] == (of_drawn > own).sum() + 0.5 * (of_drawn == own).sum()
    assert set(names()) < set(gains(found.full_U))
    counts = popularity(domain)([np.array([1])])[0]
    assert counts.sum() == sum(len(items) - 2 for items in sequences)


def test_every_step_of_a_sequence_is_learned_once() -> None:
    rng = np.random.default_rng(4)
    sequences = [rng.integers(1, 50, rng.integers(1, 23)) for _ in range(30)]
    pieces = windows(sequences, 5)
    steps = sorted((int(a), int(b)) for row in pieces for a, b in itertools.pairwise(row) if b > 0)
    assert steps == sorted((int(a), int(b)) for items in sequences for a, b in itertools.pairwise(items))
    found = batches(pieces, 7, rng)
    assert sum(map(len, found)) == len(pieces)
    padded = [np.pad(row, (0, 6 - len(row))).tolist() for batch in found for row in batch]
    assert sorted(padded) == sorted(pieces.tolist())


@pytest.mark.slow
def test_ids_of_another_domain_help_at_once_and_results_are_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = ["--set", "width=16", "inner=16", "blocks=1", "length=6", "epochs=25", "lr=0.01"]
    asked_for = ["--target", "office", "--sources", "industrial", "--losses", "bce", "--seeds", "1"]
    command = [*asked_for, "--data", str(folder), "--out", str(tmp_path / "out"), *small]
    run([*command, "--json"])
    results = {result["arm"]: result for result in json.loads(capsys.readouterr().out.splitlines()[-1])}
    assert results["zero-shot"]["full"]["HR@10"] > 2 * results["popularity"]["full"]["HR@10"]
    assert results["zero-shot"]["epochs"] == 0
    assert results["zero-shot"]["nearest"] in {1, 5, 10, 20}
    assert results["fine-tuned"]["epochs"] >= 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    run([*command, "--report"])
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    assert before == after
    text = (tmp_path / "out" / "domains-office.md").read_text()
    assert "| zero-shot |" in text
    assert "#### Loss: bce" in text
    with pytest.raises(UsageError, match="--sources office: office is the target"):
        run(["--target", "office", "--sources", "office", "--data", str(folder)])
    with pytest.raises(UsageError, match="expected NAME=VALUE"):
        run([*command, "--set", "width=x"])
