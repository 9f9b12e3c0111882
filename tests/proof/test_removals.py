"""With any one of the checks that protect data taken out, the same scene that was even shows a loss, or a doubling.

A check whose removal nothing notices would be no check. The code is changed in the process under test only, by
:mod:`tests.proof.mutations` and :mod:`tests.proof.store_process`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hil.balance import Balance
from hil.errors import BenchFaultError
from tests.proof import scenes
from tests.proof.mutations import MUTATIONS
from tests.proof.scenes import Play, Scene
from tests.proof.store_process import MUTATIONS as STORE_MUTATIONS
from tests.proof.stores import Ours, Plain, StoreKind

LONG = os.environ.get("TIPGUARD_LONG") == "1"
PATIENCE_S = 6.0
"""What has not come by then does not come: an uplink that works takes a second or two."""
long_only = pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1")

UPLINK: dict[str, Scene] = {
    "delete_at_the_acknowledgement": scenes.broker_forgets,
    "delete_when_one_store_has_it": scenes.one_of_two_stores_dead,
    "believe_any_watermark": scenes.forged_watermark,
    "ignore_what_stores_lack": scenes.broker_forgets,
    "ignore_a_store_that_goes_back": scenes.store_gone_back_unsaid,
    "forget_what_was_under_way": scenes.broker_dies_again_and_again,
    "take_a_refusal_for_an_acknowledgement": scenes.broker_denies_without_stores,
    "declare_nothing": scenes.destroyed_outbox,
}
STORE: dict[str, tuple[Scene, str]] = {
    "sync_nothing": (scenes.power_cut_of_the_store, "lost"),
    "say_before_the_commit": (scenes.store_dies_between_word_and_deed, "lost"),
}

ATTEMPTS = 4

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def lost(results: dict[str, Balance]) -> int:
    for store, result in results.items():
        print(f"\nstore {store}: {result}")
    return sum(len(result.lost) for result in results.values())


def without(name: str, scene: Scene, tmp_path: Path, shim: Path, kind: StoreKind | None = None) -> dict[str, Balance]:
    return scene(Play(tmp_path, shim, ("--mutate", name), kind, strict=False, patience_s=PATIENCE_S))


@long_only
@pytest.mark.parametrize("name", UPLINK)
def test_uplink_without_one_of_its_checks_loses(name: str, tmp_path: Path, shim: Path) -> None:
    # Where the kill falls is the scheduler's: it may miss the moment that the check is for, but not every time.
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if lost(without(name, UPLINK[name], folder, shim)):
            return
    pytest.fail(f"nothing was lost in {ATTEMPTS} attempts: the scene does not need what {name} takes away")


@long_only
@pytest.mark.parametrize("name", STORE)
def test_store_without_one_of_its_checks_loses(name: str, tmp_path: Path, shim: Path) -> None:
    scene, kind = STORE[name]
    results = scene(Play(tmp_path, shim, kind=Ours(mutate=name), strict=False, patience_s=PATIENCE_S))
    assert [line for result in results.values() for line in getattr(result, kind)]


@long_only
def test_store_that_keeps_whatever_comes_is_found_out_by_its_own_verify(tmp_path: Path, shim: Path) -> None:
    with pytest.raises(BenchFaultError, match="store verify"):
        scenes.uplink_dies_again_and_again(
            Play(tmp_path, shim, kind=Ours(mutate="store_whatever_comes"), strict=False, patience_s=PATIENCE_S)
        )


@long_only
@pytest.mark.parametrize(
    ("words", "scene", "kind"),
    [
        (("--lie", "0.3"), scenes.store_dies_between_word_and_deed, "lost"),
        (("--twice",), scenes.uplink_dies_again_and_again, "doubled"),
    ],
    ids=["watermark before the commit", "no dedupe"],
)
def test_store_that_breaks_the_contract_is_seen(
    words: tuple[str, ...], scene: Scene, kind: str, tmp_path: Path, shim: Path
) -> None:
    results = scene(Play(tmp_path, shim, kind=Plain(*words), strict=False, patience_s=PATIENCE_S))
    for result in results.values():
        print(f"\n{result}")
        assert getattr(result, kind)


def test_every_mutation_has_its_scene() -> None:
    # sync_nothing of the uplink is a power cut's: test_proof_power_cut.
    assert UPLINK.keys() | {"sync_nothing"} == MUTATIONS.keys()
    assert STORE.keys() | {"store_whatever_comes"} == STORE_MUTATIONS.keys()
