"""The OpenAPI document describes the server: schemathesis tries what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from genus.serve.app import create_app
from genus.serve.settings import Limits, Settings

from .conftest import Site

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


OPERATIONS = ("completions", "chat/completions", "embeddings", "classify", "models", "models/{name}", "health", "metrics")


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_address_keeps_its_word(site: Site, name: str) -> None:
    schema = schemathesis.openapi.from_url(f"{site.url}/openapi.json")
    path = f"/{name}" if name in ("health", "metrics") else f"/v1/{name}"
    (operation,) = [each.ok() for each in schema.get_all_operations() if each.ok().path == path]

    @given(
        right=operation.as_strategy(),
        wrong=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) if operation.body else st.none(),
    )
    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def keeps_it(right: schemathesis.Case, wrong: schemathesis.Case | None) -> None:
        for case in filter(None, (right, wrong)):
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and len(case.body["model"]) % 2:
                case.body["model"] = {"chat/completions": "talker", "embeddings": "reader"}.get(name, "writer")
            case.call_and_validate(checks=CHECKS, timeout=60)

    keeps_it()


def test_all_addresses_are_tried(site: Site) -> None:
    paths = site.get("/openapi.json").json["paths"]
    assert {path.removeprefix("/v1").removeprefix("/") for path in paths} == set(OPERATIONS)


def test_errors_are_described_as_they_are(folder: Path) -> None:
    document = create_app(Settings((str(folder / "writer"),), key="a-long-secret", limits=Limits())).openapi()
    assert document["security"] == [{"key": []}]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for address in document["paths"].values():
        for operation in address.values():
            assert "422" not in operation["responses"] and operation["summary"]
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
