"""The seeds of the fuzzer, and whatever it finds, keep every promise; and the target sees a broken one."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import target
from fuzz.mutation import mutate
from kixo import decode, ingest

SEEDS = sorted((Path(target.__file__).parent / "seeds").iterdir())
GOOD = next(path for path in SEEDS if path.name == "good").read_bytes()


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.name)
def test_each_seed_keeps_every_promise(path: Path) -> None:
    target.try_one(target.make_ingest(), path.read_bytes())


def test_the_seeds_reach_every_kind_of_end() -> None:
    found = {target.try_one(target.make_ingest(), path.read_bytes()) for path in SEEDS}
    assert found >= {"as sent", "judged", "invalid_json"}


@settings(deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 2**32), st.integers(1, 8))
def test_what_is_made_of_the_seeds_keeps_every_promise(path: Path, seed: int, steps: int) -> None:
    dice, data = Random(seed), path.read_bytes()
    for _ in range(steps):
        data = mutate(data, 100_000, dice)
    target.try_one(target.make_ingest(), data)


def test_a_key_that_stays_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_without_key", lambda body, _: [body])
    with pytest.raises(AssertionError, match="the key is stored"):
        target.try_one(target.make_ingest(), GOOD)


def test_paths_that_disagree_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_is_instant", lambda _: False)
    with pytest.raises(AssertionError):
        target.try_one(target.make_ingest(), GOOD.replace(b', "sent_at": "2026-04-08T12:00:01Z"', b""))
