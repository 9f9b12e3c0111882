"""Names: what each is called in a certificate, and which names are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.certs.acl import acl_text, reads, writes
from edge.certs.identities import Identity, Role, identity, of_common_name
from edge.errors import ConfigError

GOOD = [
    (Role.RIG, "rig-1", "rig-1"),
    (Role.RIG, "userland", "userland"),
    (Role.STORE, "lab", "store-lab"),
    (Role.USER, "Ana.Lu@lab", "user-Ana.Lu@lab"),
    (Role.USER, "x" * 58, f"user-{'x' * 58}"),
    (Role.VIEWER, "hall", "viewer-hall"),
    (Role.BROKER, "broker.lab", "broker.lab"),
    (Role.BROKER, "192.168.1.5", "192.168.1.5"),
    (Role.BROKER, "fd00::1", "fd00::1"),
]
BAD = [
    *((Role.RIG, name) for name in ("", "Rig", "-a", "a/b", "a+", "a#", "a b", "x" * 33, "ca", "reply", "a\n")),
    *((Role.RIG, name) for name in ("store-lab", "user-ana", "viewer-hall")),
    *((Role.STORE, name) for name in ("", "Lab", "store-lab", "+", "a/b")),
    *((Role.USER, name) for name in ("", "a/b", "+", "#", "ana\n", "User-ana", "x" * 59, ".hidden", "../x")),
    *((Role.VIEWER, name) for name in ("", "viewer-hall", "a b")),
    *((Role.BROKER, name) for name in ("", "Broker", "*.lab", "a:8883", "mqtts://a", "a..b", "10.0.0.256", "a/b")),
    (Role.BROKER, f"{'x' * 40}.{'x' * 40}"),
]


@pytest.mark.parametrize(("role", "name", "common_name"), GOOD)
def test_a_name_in_a_certificate_leads_back_to_whom_it_names(role: Role, name: str, common_name: str) -> None:
    who = identity(role, name)
    assert who.common_name == common_name
    assert of_common_name(role, common_name) == who


@pytest.mark.parametrize(("role", "name"), BAD)
def test_a_name_that_cannot_work_is_refused(role: Role, name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected|another|without"):
        identity(role, name)


def test_a_role_and_a_name_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="begins with user-"):
        of_common_name(Role.USER, "viewer-hall")


@given(st.sampled_from(list(Role)), st.text(max_size=70))
def test_no_name_reaches_beyond_its_line_and_its_topics(role: Role, name: str) -> None:
    try:
        who = identity(role, name)
    except ConfigError:
        return
    assert not set("/+#\n\r\0 ") & set(who.common_name)
    text = acl_text([who])
    assert text.count("\nuser ") == (role is not Role.BROKER)
    assert all(topic.startswith("tipguard/") for topic in (*writes(who), *reads(who)))


def test_no_two_identities_share_a_name_on_the_broker() -> None:
    # A rig could be called like somebody with a prefix: that is what its rule is for.
    names = ["lab", "store-lab", "ana", "user-ana"]
    made: dict[str, Identity] = {}
    for role in (Role.RIG, Role.STORE, Role.USER, Role.VIEWER):
        for name in names:
            try:
                who = identity(role, name)
            except ConfigError:
                continue
            assert made.setdefault(who.common_name, who) == who


def test_the_list_names_everybody_once_and_no_broker() -> None:
    people = [identity(role, name) for role, name, _ in GOOD]
    text = acl_text([*people, *people])
    users = [line.removeprefix("user ") for line in text.splitlines() if line.startswith("user ")]
    assert sorted(users) == sorted(who.common_name for who in people if who.role is not Role.BROKER)
