"""udev rules as far as ours go: read strictly, and applied to a device that is described. See udev(7)."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from typing import Final

MATCHES: Final = {
    "ACTION", "SUBSYSTEM", "KERNEL", "DRIVER", "ATTR", "ATTRS", "ENV", "TEST", "TAG", "SUBSYSTEMS", "DRIVERS", "KERNELS"
}  # fmt: skip
ASSIGNMENTS: Final = {"ATTR", "ENV", "GROUP", "MODE", "TAG", "SYMLINK", "GOTO", "LABEL"}
_ITEM: Final = re.compile(r'\s*([A-Z]+)(?:\{([^}"]+)\})?(==|!=|\+=|=)"([^"]*)"\s*')


class RuleError(Exception):
    """A line that udev would not take, or that this reader does not know."""


@dataclasses.dataclass(frozen=True)
class Item:
    key: str
    name: str
    operator: str
    value: str

    @property
    def asks(self) -> bool:
        return self.operator in ("==", "!=")


@dataclasses.dataclass
class Device:
    """What udev knows of a device, and what rules have made of it."""

    subsystem: str
    kernel: str
    action: str = "add"
    driver: str = ""
    attributes: dict[str, str] = dataclasses.field(default_factory=dict)
    parents: dict[str, str] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    group: str = "root"
    mode: str = "0600"
    tags: set[str] = dataclasses.field(default_factory=set)

    def holds(self, item: Item) -> bool:
        """Tell whether a match holds; alternatives are divided by |."""
        if item.key == "TEST":
            return (item.name or item.value) in self.attributes
        actual = {
            "ACTION": self.action,
            "SUBSYSTEM": self.subsystem,
            "KERNEL": self.kernel,
            "DRIVER": self.driver,
            "ATTR": self.attributes.get(item.name),
            "ATTRS": self.attributes.get(item.name) or self.parents.get(item.name),
            "ENV": self.environment.get(item.name, ""),
        }[item.key]
        same = actual is not None and any(fnmatch.fnmatchcase(actual, one) for one in item.value.split("|"))
        return same is (item.operator == "==")

    def take(self, item: Item) -> None:
        """Apply an assignment."""
        if item.key == "ATTR":
            self.attributes[item.name] = item.value
        elif item.key == "ENV":
            self.environment[item.name] = item.value
        elif item.key == "GROUP":
            self.group = item.value
        elif item.key == "MODE":
            self.mode = item.value
        elif item.key == "TAG":
            self.tags.add(item.value)


def parse(text: str) -> list[list[Item]]:
    """Return the rules of a file; raise RuleError for what udev would refuse or read otherwise than it looks."""
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            rules.append(_rule(line, f"line {number}"))
    labels = {item.value for rule in rules for item in rule if item.key == "LABEL"}
    for rule in rules:
        for item in rule:
            if item.key == "GOTO" and item.value not in labels:
                raise RuleError(f"GOTO without its LABEL: {item.value}")
    return rules


def _rule(line: str, where: str) -> list[Item]:
    items, at = [], 0
    while at < len(line):
        found = _ITEM.match(line, at)
        if found is None:
            raise RuleError(f"{where}: not KEY, operator and quoted value: {line[at:]!r}")
        item = Item(found[1], found[2] or "", found[3], found[4])
        if item.key not in (MATCHES if item.asks else ASSIGNMENTS):
            raise RuleError(f"{where}: {item.key}{item.operator} is nothing udev knows")
        if item.key in ("ATTR", "ATTRS", "ENV") and not item.name:
            raise RuleError(f"{where}: {item.key} of what?")
        items.append(item)
        at = found.end()
        if at < len(line):
            if line[at] != ",":
                raise RuleError(f"{where}: a comma is missing before {line[at:]!r}")
            at += 1
    return items


def apply(rules: list[list[Item]], device: Device) -> Device:
    """Let a device go through the rules; return it."""
    until = ""
    for rule in rules:
        if until:
            if any(item.key == "LABEL" and item.value == until for item in rule):
                until = ""
            continue
        if all(device.holds(item) for item in rule if item.asks):
            for item in rule:
                if item.key == "GOTO":
                    until = item.value
                elif not item.asks:
                    device.take(item)
    return device
