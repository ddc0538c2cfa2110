"""What clients may say, and what is refused of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from feedback_app import TextSigner, create_app, signed

from evodiff.deployment.feedback.store import FeedbackStore, StoreLimits
from evodiff.deployment.feedback.votes import VoteKind
from evodiff.deployment.observation import Arm, RatingObservation
from evodiff.deployment.web.clients import hashed_key

USE = {"Authorization": "Bearer for-use"}


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback.sqlite", StoreLimits(votes_a_day=5))


@pytest.fixture
def heard() -> list[RatingObservation]:
    return []


@pytest.fixture
def client(store: FeedbackStore, heard: list[RatingObservation], tmp_path: Path) -> TestClient:
    return TestClient(create_app(store, tmp_path / "galleries", heard=heard), headers=USE)


def test_a_rating_is_kept_and_the_rollout_hears_of_it(
    client: TestClient, store: FeedbackStore, heard: list[RatingObservation]
) -> None:
    answer = client.post(
        "/v1/feedback", json={"request": signed("r0", "run/b", arm="canary", rollout="o1"), "rating": 4}
    )
    assert (answer.status_code, answer.json()) == (201, {"kept": "rating"})
    (vote,) = store.votes()
    assert (vote.subject, vote.version, vote.value, vote.arm, vote.rollout) == ("r0", "run/b", 4.0, "canary", "o1")
    assert vote.rater == vote.source == store.pseudonym("token:ann")
    assert heard == [RatingObservation(vote.source, Arm.CANARY, "run/b", 4.0, vote.at, "o1")]


def test_clients_that_an_application_names_rate_one_by_one(client: TestClient, store: FeedbackStore) -> None:
    def rate(token: str, name: str, whose: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}", "X-Client-Id": name}
        request = signed("r0", client=hashed_key(f"client:{whose or name} app"))
        return client.post("/v1/feedback", json={"request": request, "rating": 4}, headers=headers).status_code

    found = [rate("for-others", "ann"), rate("for-others", "bob"), rate("for-others", "bob"), rate("for-use", "bob")]
    assert found == [201, 201, 409, 403]
    assert len({vote.rater for vote in store.votes()}) == 2
    assert [rate("for-others", f"made up {number}".replace(" ", "-"), "ann") for number in range(3)] == [403] * 3


def test_which_of_two_is_better_and_errors_are_kept(client: TestClient, store: FeedbackStore) -> None:
    bodies: list[dict[str, Any]] = [
        {"request": signed("r0"), "other": signed("r1", "run/b"), "better": "other"},
        {"request": signed("r2"), "other": signed("r3", "run/b"), "better": "tie"},
        {"request": signed("r4"), "error": "all grey"},
    ]
    assert [client.post("/v1/feedback", json=body).status_code for body in bodies] == [201] * 3
    found = [(vote.kind, vote.version, vote.other, vote.value, vote.text) for vote in store.votes()]
    assert found == [
        (VoteKind.COMPARISON, "run/a", "run/b", 0.0, ""),
        (VoteKind.COMPARISON, "run/a", "run/b", 0.5, ""),
        (VoteKind.ERROR, "run/a", "", None, "all grey"),
    ]


def test_each_rater_has_one_vote_on_a_request_also_the_other_way_round(client: TestClient) -> None:
    first = {"request": signed("r0"), "rating": 5}
    assert client.post("/v1/feedback", json=first).status_code == 201
    assert client.post("/v1/feedback", json=first | {"rating": 1}).status_code == 409
    bob = {"Authorization": "Bearer for-bob"}
    assert client.post("/v1/feedback", json=first, headers=bob).status_code == 201
    pair = {"request": signed("r1"), "other": signed("r2", "run/b"), "better": "request"}
    turned = {"request": signed("r2", "run/b"), "other": signed("r1"), "better": "request"}
    assert client.post("/v1/feedback", json=pair).status_code == 201
    assert client.post("/v1/feedback", json=turned).status_code == 409


def test_a_flood_from_one_key_is_capped(
    client: TestClient, store: FeedbackStore, heard: list[RatingObservation]
) -> None:
    answers = [client.post("/v1/feedback", json={"request": signed(f"r{n}"), "rating": 5}) for n in range(20)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429] * 15
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert len(store.votes()) == len(heard) == 5


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer guess"}, 401),
        ({"Authorization": "Bearer for-release"}, 403),
    ],
)
def test_a_vote_needs_a_token_of_its_scope(
    client: TestClient, store: FeedbackStore, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/v1/feedback", json={"request": signed("r0"), "rating": 5}, headers=headers)
    assert answer.status_code == status
    assert store.votes() == []


@pytest.mark.parametrize(
    "forged",
    [
        "r0",
        signed("r0")[:-3] + "abc",
        TextSigner(key="o" * 32).sign({"request": "r0", "version": "run/a", "arm": "stable", "rollout": ""}),
        TextSigner("comparison").sign({"request": "r0", "version": "run/a", "arm": "stable", "rollout": ""}),
        TextSigner().sign({"rater": "r0"}),
        TextSigner().sign({"request": 7, "version": "run/a", "arm": "stable", "rollout": ""}),
        TextSigner().sign({"request": "r0", "version": "run/a", "arm": "both", "rollout": ""}),
        "ü" * 50,
    ],
)
def test_a_request_id_that_was_not_signed_here_is_refused(
    client: TestClient, store: FeedbackStore, forged: str
) -> None:
    assert client.post("/v1/feedback", json={"request": forged, "rating": 5}).status_code == 403
    pair = {"request": signed("r1"), "other": forged, "better": "other"}
    assert client.post("/v1/feedback", json=pair).status_code == 403
    assert store.votes() == []


R0 = f'"request": "{signed("r0")}"'


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        f"{{{R0}}}",
        f'{{{R0}, "rating": 0}}',
        f'{{{R0}, "rating": 6}}',
        f'{{{R0}, "rating": 4.5}}',
        f'{{{R0}, "rating": true}}',
        f'{{{R0}, "rating": "5"}}',
        f'{{{R0}, "rating": NaN}}',
        f'{{{R0}, "rating": Infinity}}',
        f'{{{R0}, "rating": 1e999}}',
        f'{{{R0}, "rating": {"9" * 5000}}}',
        f'{{{R0}, "rating": 5, "error": "and"}}',
        f'{{{R0}, "rating": 5, "colour": "blue"}}',
        f'{{{R0}, "rating": 5, "more": {"[" * 20000}{"]" * 20000}}}',
        f'{{{R0}, "rating": {"[" * 17}{"]" * 17}}}',
        f'{{{R0}, "better": "tie"}}',
        f'{{{R0}, "other": "{signed("r1", "run/b")}"}}',
        f'{{{R0}, "other": "{signed("r1", "run/b")}", "better": "mine"}}',
        f'{{{R0}, "other": "{signed("r1", "run/a")}", "better": "tie"}}',
        f'{{{R0}, "error": ""}}',
        f'{{{R0}, "error": "{"e" * 1001}"}}',
        f'{{"request": "{"r" * 3000}", "rating": 5}}',
        b"\xff\xfe",
    ],
)
def test_a_body_that_says_nothing_to_keep_is_refused(
    client: TestClient, store: FeedbackStore, body: str | bytes
) -> None:
    answer = client.post("/v1/feedback", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert len(answer.json()["detail"]) < 500
    assert store.votes() == []


def test_a_body_must_be_short_and_say_that_it_is_json(client: TestClient, store: FeedbackStore) -> None:
    long = {"request": signed("r0"), "error": "e" * 70_000}
    assert client.post("/v1/feedback", json=long).status_code == 413
    assert client.post("/v1/feedback", data={"rating": 5}).status_code == 415
    plain = {"Content-Type": "text/plain"}
    assert client.post("/v1/feedback", content=f'{{{R0}, "rating": 5}}', headers=plain).status_code == 415
    assert store.votes() == []


def test_the_openapi_page_says_what_a_body_is(client: TestClient) -> None:
    route = client.get("/openapi.json").json()["paths"]["/v1/feedback"]["post"]
    schema = route["requestBody"]["content"]["application/json"]["schema"]
    assert {"request", "rating", "other", "better", "error"} == set(schema["properties"])
    assert {"201", "401", "403", "409", "413", "415", "422", "429"} <= set(route["responses"])
