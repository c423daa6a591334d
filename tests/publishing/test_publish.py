from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modeldrop.config import registry_settings
from modeldrop.errors import IntegrityError, MissingExtraError, UsageError, UserTestError
from modeldrop.publishing.plan import plan
from modeldrop.registry.channels import promote, rollback
from modeldrop.registry.versions import claimed_numbers
from modeldrop.storage.write import open_store
from modeldrop.storage.write.documents import DocumentStore
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import contents, edit
from tests.helpers.publisher import MODEL, Publisher, named, publish_built, why_rejected

if TYPE_CHECKING:
    from pathlib import Path

FAILS = "exit 3"
WHY = "its test ended with exit code 3"


def test_a_rejected_version_is_promoted_by_no_later_run_but_by_a_person(
    publisher: Publisher, any_registry: str
) -> None:
    (first,) = publisher.publish("a", any_registry, test="true")
    assert (first.how, first.tested, named(any_registry)) == ("built", True, 1)

    with pytest.raises(UserTestError, match=rf"v2 in .* was rejected: {WHY}; current stays at v1") as caught:
        publisher.publish("b", any_registry, test=FAILS)
    (second,) = caught.value.published
    assert (second.version.number, second.how, second.tested) == (2, "built", False)
    assert f"modeldrop promote {open_store(any_registry).url}/embedder@v2\n" in caught.value.hint
    assert why_rejected(any_registry, 2) == WHY

    for test in (FAILS, "true", ""):
        with pytest.raises(UserTestError, match=f"{WHY}, at 20") as caught:
            publisher.publish("b", any_registry, test=test)
        (again,) = caught.value.published
        assert (again.how, again.tested, again.channel.after) == ("unchanged", None, 1)
    with pytest.raises(UserTestError, match="staging was not made"):
        publisher.publish("b", any_registry, channel="staging")
    assert (named(any_registry), named(any_registry, "staging")) == (1, None)

    moved = promote(open_store(any_registry), MODEL, 2, "current", by="dana")
    assert (moved.moved, moved.after) == (True, 2)
    assert moved.rejection is not None
    assert moved.rejection.why == WHY
    (kept,) = publisher.publish("b", any_registry, test=FAILS)
    assert (kept.how, kept.tested, named(any_registry)) == ("unchanged", None, 2)


def test_what_a_test_finds(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = str(tmp_path / "registry with a blank")
    monkeypatch.setenv("FOUND", str(tmp_path / "found here"))
    publisher.publish("a", registry)
    wanted = plan(publisher.request("b", registry, channel="staging", test='env -0 > "$FOUND" && cd "$MODELDROP_NEW"'))
    (outcome,) = publish_built(wanted, publisher.built(wanted, "b"))
    found = dict(line.split("=", 1) for line in (tmp_path / "found here").read_text().split("\0") if line)
    assert found["MODELDROP_NEW"] == str(publisher.built(wanted))
    assert found["MODELDROP_NEW_VERSION"] == "v2"
    assert found["MODELDROP_NEW_REFERENCE"] == f"{registry}/embedder@v2@{outcome.version.digest}"
    assert (found["MODELDROP_MODEL"], found["MODELDROP_CHANNEL"]) == ("embedder", "staging")
    assert (found["MODELDROP_CURRENT"], found["MODELDROP_CURRENT_VERSION"]) == ("", "")


def test_old_and_new_are_there_complete(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = str(tmp_path / "registry")
    copied = tmp_path / "a copy"
    monkeypatch.setenv("COPIED", str(copied))
    publisher.publish("a", registry)
    take = 'mkdir "$COPIED" && cp -r "$MODELDROP_NEW" "$COPIED/new" && cp -r "$MODELDROP_CURRENT" "$COPIED/current"'
    (outcome,) = publisher.publish("b", registry, test=f'test "$MODELDROP_CURRENT_VERSION" = v1 && {take}')
    assert (outcome.tested, named(registry)) == (True, 2)
    for name, seed in (("new", "b"), ("current", "a")):
        assert json.loads((copied / name / "manifest.json").read_bytes())["files"]
        for path, data in contents(seed).items():
            assert (copied / name / path).read_bytes() == data


def test_a_missing_channel_is_made_after_the_test(publisher: Publisher, registry: Path) -> None:
    publisher.publish("a", str(registry), channel=None)
    with_channel = {"channel": "staging"}
    (made,) = publisher.publish("a", str(registry), test='test -f "$MODELDROP_NEW/onnx/model.onnx"', **with_channel)
    assert (made.how, made.tested, named(str(registry), "staging")) == ("unchanged", True, 1)
    (kept,) = publisher.publish("a", str(registry), test=FAILS, **with_channel)
    assert kept.promotion == "unchanged"
    assert (kept.tested, why_rejected(str(registry), 1)) == (None, None)
    with pytest.raises(UserTestError, match="current was not made"):
        publisher.publish("a", str(registry), test=FAILS)
    assert (named(str(registry)), why_rejected(str(registry), 1)) == (None, WHY)


def test_no_channel_is_to_move_and_the_test_still_counts(publisher: Publisher, registry: Path) -> None:
    publisher.publish("a", str(registry))
    compares = 'test -z "$MODELDROP_CHANNEL" && test "$MODELDROP_CURRENT_VERSION" = v1'
    (good,) = publisher.publish("b", str(registry), channel=None, test=compares)
    assert (good.tested, good.channel) == (True, None)
    publisher.publish("b", str(registry), channel="stable")
    beside = 'test "$MODELDROP_CURRENT_VERSION" = v2'
    assert publisher.publish("d", str(registry), channel=None, compare_with="stable", test=beside)[0].tested
    with pytest.raises(UserTestError, match="its test failed; no channel was moved") as caught:
        publisher.publish("c", str(registry), channel=None, test=FAILS)
    assert caught.value.published[0].tested is False
    (unchanged,) = publisher.publish("c", str(registry), channel=None, test=FAILS)
    assert (unchanged.how, unchanged.tested) == ("unchanged", None)
    with pytest.raises(UserTestError):
        publisher.publish("c", str(registry))
    assert named(str(registry)) == 1


def test_a_move_that_would_not_be_made_needs_no_test(publisher: Publisher, registry: Path) -> None:
    publisher.publish("a", str(registry))
    publisher.publish("b", str(registry))
    rollback(FolderStore(str(registry)), MODEL, "current", by="dana")
    (outcome,) = publisher.publish("b", str(registry), test=FAILS)
    assert outcome.channel is not None
    assert (outcome.tested, outcome.promotion, outcome.channel.after) == (None, "held", 1)
    assert why_rejected(str(registry), 2) is None
    (outcome,) = publisher.publish("c", str(registry), test="true")
    assert (outcome.tested, outcome.promotion, named(str(registry))) == (True, "moved", 3)


def test_several_registries_are_tested_once_and_rejected_together(publisher: Publisher, tmp_path: Path) -> None:
    registries = [str(tmp_path / name) for name in ("one", "two")]
    count = tmp_path / "count"
    publisher.publish("a", *registries, test=f"echo >> '{count}'")
    assert count.read_text() == "\n"
    with pytest.raises(UserTestError) as caught:
        publisher.publish("b", *registries, test=f"echo >> '{count}'; {FAILS}")
    assert count.read_text() == "\n\n"
    assert [outcome.tested for outcome in caught.value.published] == [False, False]
    assert [named(registry) for registry in registries] == [1, 1]
    assert [why_rejected(registry, 2) for registry in registries] == [WHY, WHY]

    third = str(tmp_path / "three")
    with pytest.raises(UserTestError) as caught:
        publisher.publish("b", *registries, third)
    assert [outcome.how for outcome in caught.value.published] == ["unchanged", "unchanged", "mirrored"]
    assert (named(third), why_rejected(third, 1)) == (None, WHY)


def test_a_copy_is_tested_before_its_channel_moves(publisher: Publisher, tmp_path: Path) -> None:
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    publisher.publish("a", one)
    outcomes = publisher.publish("a", one, two, test='test -s "$MODELDROP_NEW/onnx/model.onnx"')
    assert [(outcome.how, outcome.tested) for outcome in outcomes] == [("unchanged", True), ("mirrored", True)]
    assert named(two) == 1


def test_force_builds_and_tests_anew(publisher: Publisher, registry: Path) -> None:
    with pytest.raises(UserTestError):
        publisher.publish("a", str(registry), test=FAILS)
    (outcome,) = publisher.publish("a", str(registry), test="true", force=True)
    assert (outcome.version.number, outcome.how, named(str(registry))) == (2, "built", 2)


def test_what_the_channel_names_cannot_be_read(publisher: Publisher, registry: Path) -> None:
    publisher.publish("a", str(registry))
    edit(registry / "embedder/v1/onnx/model.onnx", contents("a")["onnx/model.onnx"][:8], b"changed!")
    with pytest.raises(IntegrityError, match="does not have the digest") as caught:
        publisher.publish("b", str(registry), test="true")
    assert "no channel was moved" in caught.value.hint
    assert (named(str(registry)), why_rejected(str(registry), 2)) == (1, None)


def test_another_build_is_not_delivered(publisher: Publisher, registry: Path) -> None:
    one, other = plan(publisher.request("a", str(registry))), plan(publisher.request("b", str(registry)))
    with pytest.raises(UsageError, match="does not hold the whole build of this recipe and source"):
        publish_built(one, publisher.built(other))
    whole = publisher.built(one)
    (whole / "onnx/model.onnx").write_bytes(b"cut")
    with pytest.raises(UsageError, match="does not hold the whole build"):
        publish_built(one, whole)
    assert not registry.exists()


def test_a_finished_build_that_cannot_be_uploaded_claims_no_number(publisher: Publisher, cloud_registry: str) -> None:
    """An earlier step has built it, and the one that publishes has no SDK for this cloud yet."""
    wanted = plan(publisher.request("a", cloud_registry))
    documents = DocumentStore(registry_settings(cloud_registry), MissingExtraError("There is no SDK."))
    with pytest.raises(MissingExtraError, match="no SDK"):
        publish_built(replace(wanted, stores=(documents,)), publisher.built(wanted))
    assert claimed_numbers(open_store(cloud_registry), MODEL) == []
    (outcome,) = publisher.publish("a", cloud_registry)
    assert outcome.version.number == 1


def test_the_bytes_of_another_publisher_are_those_that_are_tested(
    publisher: Publisher, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", str(tmp_path / "mine"))
    test = 'cp "$MODELDROP_NEW/onnx/model.onnx" "$MINE"'
    first, second = (plan(publisher.request("a", str(registry), test=test)) for _ in range(2))
    publish_built(first, publisher.built(first, "first"))
    (outcome,) = publish_built(second, publisher.built(second, "second", "another build"))
    assert (outcome.how, outcome.version.number, outcome.tested) == ("adopted", 1, None)
    staging = replace(second, request=replace(second.request, channel="staging"))
    (outcome,) = publish_built(staging, publisher.built(second))
    assert (outcome.how, outcome.tested) == ("adopted", True)
    assert (tmp_path / "mine").read_bytes() == contents("first")["onnx/model.onnx"]
