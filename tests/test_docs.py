"""The pages: links that lead somewhere, decision records in form, verbs and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from edge.cli.app import build_app
from edge.guard.verdicts import Verdict

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")])
RECORDS = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))
LATER: set[str] = set()
"""Verbs that a page may name because it says that they come later."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" not in target, f"{target}: pages stand alone"
        assert (page.parent / target).exists(), target


def code(page: Path) -> list[str]:
    """Return what stands in a page as code: each line of its blocks, each span."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [*"".join(fenced).splitlines(), *re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```$", "", text))]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_named_exist(page: Path) -> None:
    for words in code(page):
        for path in re.findall(r"(?<![\w/.-])(?:edge|hil|firmware_proto|tests|deploy|docs)/[\w./-]+", words):
            assert (ROOT / path).exists(), path


def verbs() -> set[str]:
    command = typer.main.get_command(build_app(with_hil=False, with_demo=False))
    return set(getattr(command, "commands", {}))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_verbs_named_exist(page: Path) -> None:
    named = {match[1] for words in code(page) if (match := re.match(r"tipguard ([a-z][a-z-]*)", words))}
    assert named <= verbs() | LATER


def test_what_to_do_is_said_for_every_verdict_and_alarm() -> None:
    page = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    said = set(re.findall(r"`([A-Z_]+)`", page[page.index("## What to do at an alarm") :]))
    alarms = {
        found
        for module in (ROOT / "edge" / "controller").glob("*.py")
        for found in re.findall(
            r'(?:raise_alarm\(\s*|ALARM: Final = |ALARM = )"([A-Z_]+)"', module.read_text(encoding="utf-8")
        )
    }
    assert {"HOST", "NO_ANSWER", "MIRROR", "FRONTEND", "STAGE", "TIP_NOT_LIFTED"} <= alarms
    assert {verdict.value for verdict in Verdict} | alarms <= said


def test_what_to_do_is_said_for_every_alert() -> None:
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deploy/examples/prometheus").glob("*.yml"))
    alerts = set(re.findall(r"alert: (\w+)", rules))
    said = set(re.findall(r"`(Tipguard\w+)`", (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")))
    assert alerts
    assert alerts == said


def test_the_changelog_names_every_verb() -> None:
    listed = re.search(r"Verbs `([^`]+)`", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert listed is not None
    assert set(listed[1].split()) == verbs()


def test_decision_records_are_numbered_listed_and_complete() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    assert [path.name[:4] for path in RECORDS] == [f"{number:04}" for number in range(1, len(RECORDS) + 1)]
    for path in RECORDS:
        text = path.read_text(encoding="utf-8")
        assert f"]({path.name})" in index
        assert text.startswith(f"# {path.name[:4]}: ")
        assert re.search(r"^Status: (proposed|accepted|replaced by \d{4})", text, re.MULTILINE)
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
