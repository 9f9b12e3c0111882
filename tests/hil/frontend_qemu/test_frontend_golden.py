"""The golden vectors in C on a Cortex-M3: the exit code comes out of the firmware by semihosting."""

from __future__ import annotations

import os

import pytest

from hil.frontend.build import Edit
from hil.frontend.qemu import run_to_end
from tests.firmware_tools import needs_firmware
from tests.hil.frontend_qemu.images import golden_image

LONG = os.environ.get("TIPGUARD_LONG") == "1"

pytestmark = needs_firmware
long_only = pytest.mark.skipif(not LONG, reason="an image more for each: TIPGUARD_LONG=1")


def test_every_vector_holds_in_c_on_the_cortex_m3() -> None:
    code, _, said = run_to_end(golden_image())
    assert code == 0, said


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(
            Edit("tg_frame.c", "if (tg_crc32(0, d->raw, used) != tg_get_u32(d->raw + used))", "if (0)"), id="no-crc"
        ),
        pytest.param(Edit("tg_frame.c", "return want == length ?", "return want ?"), id="no-length", marks=long_only),
        pytest.param(
            Edit("tg_frame.c", "if (session != d->session || session == 0)", "if (0)"), id="no-session", marks=long_only
        ),
        pytest.param(
            Edit("tg_frame.c", "if (w->at - w->code == 255)", "if (w->at - w->code == 254)"),
            id="cobs-group",
            marks=long_only,
        ),
    ],
)
def test_a_codec_that_lacks_a_check_fails_vectors(edit: Edit) -> None:
    code, _, said = run_to_end(golden_image([edit]))
    assert code > 0
    assert said
