"""A host that arms the front end at a pseudo-terminal and renews its lease until it is killed (test_frontend_host)."""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import replace

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.framing import Decoder, Frame, encode
from tests.hil.frontend.desk import CONFIG, NONCE

LEASE_NS = 95_000_000
RENEW_S = 0.03


def main(link: str) -> None:
    fd = os.open(link, os.O_RDWR | os.O_NOCTTY)
    decoder = Decoder()

    def answer(kind: type[m.Welcome | m.ConfigIs]) -> m.Welcome | m.ConfigIs:
        while True:
            for event in decoder.feed(os.read(fd, 4096)):
                if isinstance(event, Frame) and isinstance(event.message, kind):
                    return event.message

    os.write(fd, encode(m.Hello(m.SCHEMA_HASH, NONCE, m.VERSION), 0, 0))
    welcome = answer(m.Welcome)
    assert isinstance(welcome, m.Welcome)
    os.write(fd, encode(replace(CONFIG, config_seq=2), 1, welcome.session))
    told = answer(m.ConfigIs)
    assert isinstance(told, m.ConfigIs)
    seq = 2
    while True:
        deadline = time.monotonic_ns() + LEASE_NS
        # Told before it is sent: whoever kills us knows at least as late an end as the device does.
        print(deadline, flush=True)
        message = m.Arm(told.config_crc, seq, deadline) if seq == 2 else m.Lease(seq, deadline)
        os.write(fd, encode(message, seq, welcome.session))
        seq += 1
        end = time.monotonic() + RENEW_S
        while (left := end - time.monotonic()) > 0:
            if select.select([fd], [], [], left)[0]:
                os.read(fd, 4096)


if __name__ == "__main__":
    main(sys.argv[1])
