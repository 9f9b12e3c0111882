"""Both decoders over the same damaged streams; and that the comparison would see a decoder that lacks something."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from firmware_proto.frontend import framing, wire
from hil.errors import BenchOptionError
from hil.frontend import fuzz, fuzz_batch, fuzz_build
from hil.frontend.build import CORE
from hil.frontend.fuzz_batch import Disagreement, pieces

LONG = os.environ.get("TIPGUARD_LONG") == "1"
FRAMES = 1_000_000 if LONG else 20_000
SOURCE = (CORE / "tg_frame.c").read_text(encoding="utf-8")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")


def without(old: str, new: str, *, sanitize: bool = False) -> Path:
    assert SOURCE.count(old) == 1, old
    return fuzz_build.build(sanitize=sanitize, source=SOURCE.replace(old, new))


@pytest.mark.timeout(600)
def test_both_decoders_give_the_same_events() -> None:
    seed = random.SystemRandom().randrange(1, 2**31) if LONG else 20
    counts = fuzz.run(FRAMES, seed)
    print(f"seed {seed}: {counts}")
    assert counts["frames"] == FRAMES
    assert counts["undetected"] == counts["lost"] == 0
    # Each way to be refused was taken, and often.
    for name in ("accepted", "bad_cobs", "bad_length", "bad_crc", "unknown", "stale", "repeated", "plausible"):
        assert counts[name] > FRAMES / 500, name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if (d->left)\n        return TG_BAD_COBS;", ""),
        ("used > TG_RAW_MAX", "0"),
        ("return want == length ?", "return length ?"),
        ("|| session == 0)", ")"),
        ("gap >= 0x10000u - TG_REPEAT_WINDOW", "gap > 0x10000u - TG_REPEAT_WINDOW"),
        ("if (tg_get_u16(d->raw + 1) != length)\n        return TG_BAD_LENGTH;", ""),
        ("d->gaps += gap;", "(void)gap;"),
    ],
    ids=["cobs", "longest", "length-of-its-id", "session-zero", "repetition", "length-field", "gaps"],
)
def test_a_decoder_that_lacks_a_check_disagrees(old: str, new: str) -> None:
    with pytest.raises(Disagreement):
        fuzz.run(20_000, 20, tool=without(old, new), batch=500)


def test_a_frame_nobody_sent_is_seen_when_the_crc_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = without("if (tg_crc32(0, d->raw, used) != tg_get_u32(d->raw + used))", "if (0)")
    monkeypatch.setattr(framing, "crc32", lambda body: int.from_bytes(b"", "little"))
    with pytest.raises(Disagreement):
        fuzz.run(4000, 20, tool=tool)
    monkeypatch.setattr(fuzz, "compare", lambda batch, seed: None)
    assert fuzz.run(20_000, 20, tool=tool)["undetected"] > 100


def test_a_write_past_the_buffer_stops_the_c_side() -> None:
    with pytest.raises(BenchOptionError, match="index 528 out of bounds"):
        fuzz.run(20_000, 20, tool=without("d->coded >= TG_CODED_MAX", "d->coded >= 60000u", sanitize=True))


def test_an_encoder_that_closes_a_group_too_early_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = without("if (w->at - w->code == 255) {", "if (w->at - w->code == 254) {")
    with pytest.raises(Disagreement, match=r"here, .* in C"):
        fuzz.run(80_000, 20, tool=tool)
    # Nor is what it makes a frame; a whole frame that is not taken is counted.
    monkeypatch.setattr(fuzz, "compare", lambda batch, seed: None)
    assert fuzz.run(20_000, 20, tool=tool)["lost"] > 0


def test_a_python_decoder_that_depends_on_the_pieces_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(framing.Decoder):
        def events(self, data: bytes):  # type: ignore[no-untyped-def] # noqa: ANN202 - as the one it spoils
            self._rest = b""
            return super().events(data)

    monkeypatch.setattr(fuzz_batch, "Decoder", Forgetful)
    with pytest.raises(Disagreement):
        fuzz.run(4000, 20)


def test_pieces_are_all_of_it_and_repeat_with_their_seed() -> None:
    stream = random.Random(3).randbytes(60_000)
    sizes: set[tuple[int, ...]] = set()
    for seed in range(40):
        cut = list(pieces(stream, seed))
        assert b"".join(cut) == stream
        assert cut == list(pieces(stream, seed))
        sizes.add(tuple(map(len, cut)))
    assert len(sizes) > 30
    assert any(set(lengths[: 2 * wire.MAX_CODED]) == {1} for lengths in sizes)


def test_the_report_says_what_was_not_seen_and_how_much_that_is_worth() -> None:
    counts = dict.fromkeys(("frames", "undetected", "lost", "crc_low8", "crc_low12", "crc_low16"), 0)
    counts |= {"frames": 1000, "damaged": 300, "crc_alone": 256, "plausible": 150, "crc_low8": 2}
    said = fuzz.report(counts, 1, 2, 0.5)
    assert said["undetected_below_95"] == pytest.approx(0.01)
    assert said["undetected_estimate"] == pytest.approx(0.5 / 2**32)
    assert said["crc_low_bits_times_chance"]["crc_low8"] == pytest.approx(2.0)
    assert said["frames_per_s"] == 2000
    assert fuzz.report({**counts, "undetected": 1}, 1, 2, 0.5)["undetected_below_95"] is None


def test_the_command_prints_one_object(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"frames": 10, "damaged": 3, "undetected": 0, "lost": 0, "crc_alone": 1, "plausible": 1}
    counts |= dict.fromkeys(fuzz.LOW_BITS, 0)
    monkeypatch.setattr(fuzz, "run_all", lambda frames, seed, processes: fuzz.report(counts, seed, processes, 1.0))
    assert fuzz.main(["--frames", "10", "--seed", "7", "--processes", "1"]) == 0
    assert '"seed": 7' in capsys.readouterr().out
    for bad in ("undetected", "lost"):
        counts[bad] = 1
        assert fuzz.main(["--frames", "10"]) == 1
        counts[bad] = 0

    def disagree(frames: int, seed: int, processes: int) -> dict[str, object]:
        raise Disagreement("event 3")

    monkeypatch.setattr(fuzz, "run_all", disagree)
    assert fuzz.main([]) == 1
    assert "event 3" in capsys.readouterr().err
