"""The alert rules: they ask for what there is, and by Prometheus's own tool each fires when it should and only then."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from edge.uplink.metrics import MetricsPage
from hil.broker import free_port
from tests.interop import publishing as p
from tests.interop.test_metrics import FULL, scrape

RULES: Final = Path(__file__).resolve().parents[2] / "deploy/examples/prometheus/tipguard.rules.yml"
PROMTOOL: Final = shutil.which("promtool")
RIG: Final = f'{{rig="{p.RIG}"}}'
STORE: Final = f'{{rig="{p.RIG}",store="lab"}}'
QUIET: Final[Mapping[str, str]] = {
    # As Prometheus writes series for tests, a value a minute: first, step, count.
    'up{job="tipguard",instance="a"}': "1x120",
    f"tipguard_figures_age_seconds{RIG}": "0.5x120",
    f"tipguard_worker_answers{RIG}": "1x120",
    f'tipguard_worker_state{{rig="{p.RIG}",state="SAFE"}}': "1x120",
    f"tipguard_broker_connected{RIG}": "1x120",
    f"tipguard_refused_total{RIG}": "3x120",
    f"tipguard_no_subscriber_total{RIG}": "3x120",
    f"tipguard_ring_used_ratio{RIG}": "0.01x120",
    f"tipguard_outbox_budget_used_ratio{RIG}": "0.2x120",
    f"tipguard_store_lag_seconds{STORE}": "1x120",
    f"tipguard_store_watermark_age_seconds{STORE}": "10000x120",
    f"tipguard_store_waiting_frames{STORE}": "0x120",
    f"tipguard_redriven_total{RIG}": "5x120",
    f"tipguard_samples_dropped_total{RIG}": "0x120",
    f'tipguard_fault{{rig="{p.RIG}",what="fault"}}': "0x120",
    f"tipguard_certificate_days{RIG}": "300x120",
    f"tipguard_outbox_written_bytes_total{RIG}": "0+1000000x120",
}
"""A rig that rests with everything stored."""
FIRES: Final[Mapping[str, Mapping[str, str]]] = {
    "TipguardUplinkGone": {'up{job="tipguard",instance="a"}': "0x120"},
    "TipguardUplinkHangs": {f"tipguard_figures_age_seconds{RIG}": "11+60x120"},
    "TipguardControllerSilent": {f"tipguard_worker_answers{RIG}": "0x120"},
    "TipguardTripped": {f'tipguard_worker_state{{rig="{p.RIG}",state="TRIPPED"}}': "1x120"},
    "TipguardBrokerUnreachable": {f"tipguard_broker_connected{RIG}": "0x120"},
    "TipguardBrokerRefuses": {f"tipguard_refused_total{RIG}": "0+1x120"},
    "TipguardNobodyListens": {f"tipguard_no_subscriber_total{RIG}": "0+1x120"},
    "TipguardRingFilling": {f"tipguard_ring_used_ratio{RIG}": "0.51x120"},
    "TipguardOutboxHalfFull": {f"tipguard_outbox_budget_used_ratio{RIG}": "0.51x120"},
    "TipguardOutboxNearlyFull": {f"tipguard_outbox_budget_used_ratio{RIG}": "0.81x120"},
    "TipguardOutboxFullTomorrow": {f"tipguard_outbox_budget_used_ratio{RIG}": "0.3+0.001x120"},
    "TipguardStoreBehind": {f"tipguard_store_lag_seconds{STORE}": "301x120"},
    "TipguardStoreSilent": {f"tipguard_store_waiting_frames{STORE}": "1x120"},
    "TipguardFramesSentAgain": {f"tipguard_redriven_total{RIG}": "0+10x120"},
    "TipguardSamplesDropped": {f"tipguard_samples_dropped_total{RIG}": "0+1x120"},
    "TipguardFault": {f'tipguard_fault{{rig="{p.RIG}",what="fault"}}': "1x120"},
    "TipguardCertificateExpires": {f"tipguard_certificate_days{RIG}": "20x120"},
    "TipguardCardWears": {f"tipguard_outbox_written_bytes_total{RIG}": "0+200000000x120"},
}
TOO: Final[Mapping[str, set[str]]] = {"TipguardOutboxNearlyFull": {"TipguardOutboxHalfFull"}}
"""What comes along with another."""


def expressions() -> dict[str, str]:
    text = RULES.read_text(encoding="utf-8")
    return dict(re.findall(r"- alert: (\w+)\n +expr: (.+)\n", text))


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    port = free_port()
    with MetricsPage(p.RIG, port, now_ns=lambda: 0) as page:
        page.show(FULL)
        seen = scrape(port)
    there = {name for name, _ in seen}
    labels = {key for _, labels in seen for key, _ in labels} | {"instance"}
    text = RULES.read_text(encoding="utf-8")
    assert list(expressions()) == list(FIRES)
    assert len(FIRES) == text.count("- alert:")
    for alert, expression in expressions().items():
        asked = set(re.findall(r"tipguard_\w+", expression))
        assert asked <= there, alert
        assert asked or "up{" in expression
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels


def promtool(*words: str) -> None:
    done = subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (of Prometheus)")
def test_promtool_finds_the_files_right() -> None:
    promtool("check", "rules", str(RULES))
    promtool("check", "config", str(RULES.with_name("prometheus.yml")))


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (of Prometheus)")
def test_each_rule_fires_when_it_should_and_alone(tmp_path: Path) -> None:
    cases = {"": {}, **FIRES}
    tests = []
    for alert, series in cases.items():
        firing = sorted({alert} | TOO.get(alert, set())) if alert else []
        values = {**QUIET, **series}
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": _written(value)} for name, value in values.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "2h",
                        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in firing],
                    }
                ],
            }
        )
    file = tmp_path / "tests.yml"
    # JSON is YAML, too.
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": tests}), encoding="utf-8")
    promtool("test", "rules", str(file))


def _written(value: str) -> str:
    first, _, count = value.partition("x")
    return value if "+" in first else f"{first}+0x{count}"
