"""/metrics is what Prometheus reads."""

from __future__ import annotations

import re
from math import inf

from genus.serve.metrics import Metrics, resident_bytes

from .conftest import Site

LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (-?[0-9.e+]+|\+Inf)')


def parse(text: str) -> dict[str, dict[str, float]]:
    """Values by name and labels; every line must be well formed."""
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# TYPE [a-z_]+ (counter|gauge|histogram)", line), line
            continue
        match = LINE.fullmatch(line)
        assert match, line
        found.setdefault(match[1], {})[match[2] or ""] = float(match[3])
    return found


def test_form() -> None:
    metrics = Metrics()
    metrics.count("tokens", 3, model='a"b\\c\nd')
    metrics.count("tokens", 2, model="x")
    for seconds in (0.001, 0.2, 400.0):
        metrics.time("first_token", seconds, model="x")
    found = parse(metrics.render({"genus_weights_bytes": {(("model", "x"),): 10}}))
    assert found["genus_tokens_total"] == {'model="a\\"b\\\\c\\nd"': 3, 'model="x"': 2}
    buckets = [value for labels, value in found["genus_first_token_seconds_bucket"].items()]
    assert buckets == sorted(buckets) and buckets[0] == 1 and buckets[-1] == 3 != inf
    assert found["genus_first_token_seconds_count"] == {'model="x"': 3}
    assert abs(found["genus_first_token_seconds_sum"]['model="x"'] - 400.201) < 1e-6
    assert found["process_resident_memory_bytes"][""] > 1e6 and resident_bytes() > 1e6


def test_a_servers_counters(site: Site) -> None:
    before = {
        name: site.metric(name) for name in ("genus_tokens_total", "genus_first_token_seconds_count", "genus_requests_total")
    }
    asked = {"model": "writer", "prompt": "abc", "max_tokens": 7, "logit_bias": {"256": -100}}
    assert site.post("/v1/completions", asked).status == 200
    assert site.post("/v1/completions", {"model": "writer"}).status == 400
    assert site.metric("genus_tokens_total") - before["genus_tokens_total"] == 4 + 7
    assert site.metric("genus_first_token_seconds_count") - before["genus_first_token_seconds_count"] == 1
    reply = site.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = parse(reply.body.decode())
    assert found["genus_requests_total"]['path="/v1/completions",status="400"'] >= 1
    assert found["genus_scheduler_new_tokens"]['model="writer"'] >= 7 and found["genus_weights_bytes"]['model="writer"'] > 1000
