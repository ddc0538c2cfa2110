"""Tokens and signed texts: who is let in, and what comes back unchanged."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from pathlib import Path

import pytest
from fastapi import HTTPException, Request

from evodiff.deployment.settings import ServingSettings, load_serving_settings
from evodiff.deployment.web.secret_files import secret_file
from evodiff.deployment.web.signing import BadSignature, Signer
from evodiff.deployment.web.tokens import Tokens
from evodiff.errors import SettingsError

USE, RELEASE = "u" * 20, "r" * 20
KNOWN = json.dumps(
    [
        {"subject": "app", "scopes": ["use"], "token": USE},
        {"subject": "operator", "scopes": ["use", "release"], "token": RELEASE},
    ]
)


def request(authorization: str | None, method: str = "POST") -> Request:
    """Return a request with an Authorization header."""
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return Request({"type": "http", "method": method, "headers": headers})


def test_a_first_token_for_everything_is_made_that_only_its_owner_can_read(tmp_path: Path) -> None:
    settings = ServingSettings(secrets_dir=tmp_path / "secrets")
    tokens = Tokens.from_settings(settings)
    file = tmp_path / "secrets" / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (entry,) = json.loads(file.read_text())
    caller = tokens.caller(f"Bearer {entry['token']}")
    assert caller is not None
    assert caller.scopes == {"use", "release"}
    assert Tokens.from_settings(settings).caller(f"bearer {entry['token']}") == caller  # the next start reads the same


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(KNOWN)
    file.chmod(0o640)
    with pytest.raises(SettingsError, match=r"0600, found 0640.*chmod 600"):
        Tokens.from_settings(ServingSettings(secrets_dir=tmp_path))


@pytest.mark.parametrize(
    ("authorization", "scope", "status"),
    [
        (None, "use", 401),
        ("", "use", 401),
        ("Bearer", "use", 401),
        (f"Bearer {USE}x", "use", 401),
        (f"Bearer {USE[:-1]}", "use", 401),
        (f"Basic {USE}", "use", 401),
        ("Bearer \xff\xfe", "use", 401),
        ("Bearer " + "x" * 100_000, "use", 401),
        (f"Bearer {USE}", "release", 403),
    ],
)
def test_who_is_not_known_or_may_not_is_kept_out(authorization: str | None, scope: str, status: int) -> None:
    tokens = Tokens.from_json(KNOWN, "the test")
    with pytest.raises(HTTPException) as caught:
        asyncio.run(tokens.require(scope)(request(authorization)))
    assert caught.value.status_code == status


def test_a_token_lets_its_subject_do_what_its_scopes_say() -> None:
    tokens = Tokens.from_json(KNOWN, "the test")
    assert asyncio.run(tokens.require("use")(request(f"Bearer {USE}"))).subject == "app"
    assert asyncio.run(tokens.require("release")(request(f"Bearer {RELEASE}"))).subject == "operator"


def test_a_browser_may_look_by_a_password_and_not_act_by_it() -> None:
    tokens = Tokens.from_json(KNOWN, "the test")
    password = "Basic " + base64.b64encode(f"anybody:{USE}".encode()).decode()
    assert asyncio.run(tokens.require("use")(request(password, "GET"))).subject == "app"
    for wrong in (request(password), request("Basic ====", "GET"), request("Basic " + "/w==", "GET")):
        with pytest.raises(HTTPException) as caught:
            asyncio.run(tokens.require("use")(wrong))
        assert caught.value.status_code == 401


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[3]",
        '[{"subject": "a", "scopes": ["use"]}]',
        '[{"subject": "a", "scopes": ["use"], "token": "short"}]',
        '[{"subject": "", "scopes": ["use"], "token": "long enough, but whose?"}]',
        '[{"subject": "a", "scopes": ["admin"], "token": "long enough to be one"}]',
        '[{"subject": "a", "scopes": "use", "token": "long enough to be one"}]',
        "no JSON",
    ],
)
def test_a_list_of_tokens_that_is_none_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingsError, match="the test: expected a list") as caught:
        Tokens.from_json(text, "the test")
    assert "long enough" not in str(caught.value)


def test_of_two_that_make_a_secret_both_get_the_first(tmp_path: Path) -> None:
    file = tmp_path / "key"

    def late() -> str:
        file.write_text("first")
        file.chmod(0o600)
        return "second"

    assert secret_file(file, late) == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key"]


def test_a_signed_text_comes_back_and_a_changed_one_does_not() -> None:
    signer = Signer("k" * 32)
    fields = {"request": "r1", "version": "run/abc", "arm": "canary", "rollout": "", "client": "é"}
    text = signer.sign(fields)
    assert text.isascii()
    assert signer.verify(text) == fields
    for position in range(len(text)):
        other = "A" if text[position] != "A" else "B"
        changed = text[:position] + other + text[position + 1 :]
        try:
            assert signer.verify(changed) == fields  # the last letter of base64 holds bits that count for nothing
            assert position >= len(text) - 1
        except BadSignature:
            pass


@pytest.mark.parametrize(
    "text", ["", "x", ".", "a.b.c", "é.b.c", "\ud800", "x" * 1_000_000, "..."], ids=lambda text: text[:5]
)
def test_what_was_never_signed_is_refused(text: str) -> None:
    with pytest.raises(BadSignature):
        Signer("k" * 32).verify(text)


def test_another_key_another_purpose_and_another_time_are_refused() -> None:
    text = Signer("k" * 32).sign({"client": "c"})
    for other in (Signer("l" * 32), Signer("k" * 32).for_purpose("client")):
        with pytest.raises(BadSignature):
            other.verify(text)
    with pytest.raises(BadSignature):
        Signer("k" * 32).verify(text, max_age_seconds=-1)


def test_a_key_is_kept_over_starts(tmp_path: Path) -> None:
    settings = ServingSettings(secrets_dir=tmp_path)
    text = Signer.from_settings(settings).sign({"client": "c"})
    assert Signer.from_settings(settings).verify(text) == {"client": "c"}
    with pytest.raises(SettingsError, match="32 characters, found 5"):
        Signer.from_settings(ServingSettings(signing_key="short"))


def test_a_setting_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVODIFF_SERVE_MAX_BATCH", "0")
    with pytest.raises(SettingsError, match="max_batch"):
        load_serving_settings({})
    monkeypatch.setenv("EVODIFF_SERVE_ALLOWED_HOSTS", "a, b")
    with pytest.raises(SettingsError, match="EVODIFF_SERVE_"):
        load_serving_settings({"max_batch": 2})
