"""Each scene of :mod:`tests.proof.scenes` with the code as it is: 0 lost, 0 doubled, in order, every hole declared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.proof import scenes
from tests.proof.scenes import Play, Scene
from tests.proof.stores import Ours, Plain

LONG = os.environ.get("TIPGUARD_LONG") == "1"
QUICK: dict[Scene, list[type[Plain | Ours]]] = {
    scenes.broker_forgets: [Ours],
    scenes.forged_watermark: [Plain],
}
REST: dict[Scene, list[type[Plain | Ours]]] = {
    scenes.broker_away: [Plain, Ours],
    scenes.broker_dies_again_and_again: [Plain, Ours],
    scenes.uplink_dies_again_and_again: [Plain, Ours],
    scenes.broker_denies: [Ours],
    scenes.broker_denies_without_stores: [Plain],
    scenes.slow_store: [Plain],
    scenes.forgetful_store: [Plain],
    scenes.one_of_two_stores_dead: [Plain, Ours],
    scenes.restored_store: [Plain, Ours],
    scenes.store_gone_back_unsaid: [Plain],
    scenes.store_gone_for_good: [Plain, Ours],
    scenes.full_disk: [Plain],
    scenes.slow_disk: [Plain],
    scenes.budget_reached: [Plain],
    scenes.budget_reached_and_thinned: [Ours],
    scenes.destroyed_outbox: [Plain, Ours],
    scenes.destroyed_outbox_of_two_stores: [Plain],
    scenes.full_disk_of_the_store: [Ours],
    scenes.power_cut_of_the_store: [Plain, Ours],
    scenes.store_dies_between_word_and_deed: [Plain, Ours],
}
long_only = pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1")

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def pairs(table: dict[Scene, list[type[Plain | Ours]]]) -> list[object]:
    names = {Plain: "plain", Ours: "directory"}
    return [
        pytest.param(scene, kind, id=f"{scene.__name__}-{names[kind]}")
        for scene, kinds in table.items()
        for kind in kinds
    ]


SIZES: dict[Scene, int] = {scenes.broker_away: 10}


def play(scene: Scene, kind: type[Plain | Ours], tmp_path: Path, shim: Path) -> None:
    for store, result in scene(Play(tmp_path, shim, kind=kind(), size=SIZES.get(scene, 3) if LONG else 1)).items():
        print(f"\n{scene.__name__}, store {store}: {result}")
        assert result.even, f"{store}: {result}"
        assert result.samples > 500


@pytest.mark.parametrize(("scene", "kind"), pairs(QUICK))
def test_scene(scene: Scene, kind: type[Plain | Ours], tmp_path: Path, shim: Path) -> None:
    play(scene, kind, tmp_path, shim)


@long_only
@pytest.mark.parametrize(("scene", "kind"), pairs(REST))
def test_scene_at_length(scene: Scene, kind: type[Plain | Ours], tmp_path: Path, shim: Path) -> None:
    play(scene, kind, tmp_path, shim)
