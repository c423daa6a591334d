from __future__ import annotations

import os
import re

import pytest

from modeldrop.format.names import TIME
from modeldrop.registry.provenance import asked_now, now, provenance

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "acme/search",
    "GITHUB_SHA": "5f0c2a7d8e1b4930c6a5d2e7f81b3c4d9e6a7f05",
    "GITHUB_ACTOR": "dana",
    "GITHUB_RUN_ID": "11902455871",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_URL": "https://gitlab.example/acme/search",
    "CI_COMMIT_SHA": "5f0c2a7d",
    "CI_JOB_URL": "https://gitlab.example/acme/search/-/jobs/17",
    "GITLAB_USER_LOGIN": "dana",
}


def test_github() -> None:
    made = provenance(GITHUB)
    assert made.repository == "https://github.com/acme/search"
    assert made.commit == GITHUB["GITHUB_SHA"]
    assert made.run == "https://github.com/acme/search/actions/runs/11902455871"
    assert made.actor == "dana"
    assert TIME.fullmatch(made.created)


def test_gitlab() -> None:
    made = provenance(GITLAB)
    assert made.repository == GITLAB["CI_PROJECT_URL"]
    assert (made.commit, made.run, made.actor) == ("5f0c2a7d", GITLAB["CI_JOB_URL"], "dana")


def test_who_asks_is_known_by_what_stays_when_it_is_tried_again() -> None:
    assert asked_now(GITHUB).run == provenance(GITHUB).run
    pipeline = "https://gitlab.example/acme/search/-/pipelines/4"
    assert asked_now(GITLAB | {"CI_PIPELINE_URL": pipeline}).run == pipeline
    assert asked_now({"CI_PIPELINE_URL": pipeline}).run == ""
    ours = {"MODELDROP_RUN": "https://user:s3cret@ci.example/9"}
    assert asked_now(GITHUB | ours, proposal=True) == asked_now(ours, proposal=True)
    assert (asked_now(ours).run, asked_now(ours).proposal) == ("https://ci.example/9", False)
    assert TIME.fullmatch(asked_now({}).at)


def test_a_plain_shell_says_who_and_where() -> None:
    made = provenance({})
    assert (made.repository, made.commit, made.run) == ("", "", "")
    assert re.fullmatch(r".+@.+", made.actor)


def test_variables_of_our_own_come_first() -> None:
    ours = {
        "MODELDROP_ACTOR": "release-bot",
        "MODELDROP_RUN": "https://ci.example/9",
        "MODELDROP_GIT_REPOSITORY": "https://git.example/r",
        "MODELDROP_GIT_COMMIT": "abc",
    }
    for environment in (ours, GITHUB | ours, GITLAB | ours):
        made = provenance(environment)
        assert (made.repository, made.commit) == ("https://git.example/r", "abc")
        assert (made.run, made.actor) == ("https://ci.example/9", "release-bot")


@pytest.mark.parametrize(
    "url",
    [
        "https://gitlab-ci-token:s3cret@git.example/acme/search",
        "https://s3cret@git.example/acme/search",
        "https://user:s3cr@s3cret@git.example/acme/search",
        "https://:s3cret@git.example/acme/search",
    ],
)
def test_credentials_in_addresses_are_dropped(url: str) -> None:
    made = provenance({"MODELDROP_GIT_REPOSITORY": url, "MODELDROP_RUN": f"{url}/runs/1?by=a@b.example"})
    assert made.repository == "https://git.example/acme/search"
    assert made.run == "https://git.example/acme/search/runs/1?by=a@b.example"


def test_an_address_without_credentials_stays() -> None:
    for url in ("git@github.com:acme/search.git", "https://git.example/@acme/search"):
        assert provenance({"MODELDROP_GIT_REPOSITORY": url}).repository == url


def test_what_the_environment_says_fits_the_format() -> None:
    made = provenance({"MODELDROP_ACTOR": "a" * 999 + "b", "MODELDROP_RUN": os.fsdecode(b"caf\xe9")})
    assert made.actor == "a" * 256
    assert made.run == "caf?"


def test_now_is_in_utc() -> None:
    assert TIME.fullmatch(now())
