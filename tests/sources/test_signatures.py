"""Whose signatures count, with real keys: pinned, unknown, expired, retired, forged."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tarpit_builder.errors import InfrastructureError, NetworkError, SourceError, ToolMissingError
from tarpit_builder.sources.catalogue import SHIPPED
from tarpit_builder.sources.signatures import (
    Keys,
    PinnedKey,
    _wkd,
    dearmored,
    has_key,
    load_keys,
)
from tarpit_builder.sources.store import Store
from tests.sources.conftest import People
from tests.sources.kit import KeyRing, Site

DATA = b"what is signed\n" * 1000


@pytest.fixture
def keys(people: People, store: Store, tmp_path: Path) -> Keys:
    """The developer and the retired count for ``kernel``, the latter for what it signed in time."""

    def pinned(name: str, fingerprint: str, *, retired: bool = False) -> PinnedKey:
        file = tmp_path / f"{name}.asc"
        file.write_bytes(people.ring.public(name))
        return PinnedKey(name, fingerprint, ("kernel",), file, retired=retired)

    return Keys(
        [
            pinned("developer", people.developer),
            pinned("retired", people.retired, retired=True),
        ],
        store,
    )


def test_a_pinned_key_counts_and_is_named(keys: Keys, people: People) -> None:
    found = keys.verify(DATA, people.ring.detach("developer", DATA), "it", "kernel")
    assert found.key.fingerprint == people.developer
    assert people.developer in str(found)


def test_a_clear_signed_text_is_what_the_signature_covers(keys: Keys, people: People) -> None:
    signed = people.ring.clear("developer", b"- dashes\nand lines\n")
    framed = b"not signed\n" + signed + b"not signed either\n"
    text, _ = keys.verify_clear(framed, "it", "kernel")
    assert text == b"- dashes\nand lines\n"


@pytest.mark.parametrize("first", [True, False])
def test_a_strangers_text_beside_a_good_one_is_not_taken_for_good(
    keys: Keys, people: People, first: bool
) -> None:
    texts = [people.ring.clear("developer", b"good\n"), people.ring.clear("stranger", b"evil\n")]
    both = b"".join(texts if first else texts[::-1])
    try:
        text, _ = keys.verify_clear(both, "it", "kernel")
    except SourceError:
        text = b"good\n"  # refusing both is as good
    assert text == b"good\n"


def test_a_key_counts_only_for_its_role(keys: Keys, people: People) -> None:
    with pytest.raises(SourceError, match="not signed by anyone whose word counts"):
        keys.verify(DATA, people.ring.detach("developer", DATA), "it", "iptables")


@pytest.mark.parametrize("change", [lambda data: data[1:], lambda data: data + b" ", lambda _: b""])
def test_changed_data_is_noticed(
    keys: Keys, people: People, change: Callable[[bytes], bytes]
) -> None:
    signature = people.ring.detach("developer", DATA)
    with pytest.raises(SourceError, match="does not fit its content"):
        keys.verify(change(DATA), signature, "it", "kernel")


def test_a_strangers_signature_does_not_count_even_beside_a_good_key(
    keys: Keys, people: People, tmp_path: Path
) -> None:
    """The key material may hold more keys than the pinned one: they do not count."""
    both = tmp_path / "both.asc"
    both.write_bytes(people.ring.public("developer") + people.ring.public("stranger"))
    keys.pinned = [PinnedKey("developer", people.developer, ("kernel",), both)]
    keys.verify(DATA, people.ring.detach("developer", DATA), "it", "kernel")
    with pytest.raises(SourceError, match="not signed by anyone") as caught:
        keys.verify(DATA, people.ring.detach("stranger", DATA), "it", "kernel")
    assert people.stranger[-16:] in caught.value.message


def test_a_forged_signature_in_a_second_block_does_not_count(keys: Keys, people: People) -> None:
    good = people.ring.detach("developer", b"something else")
    own = people.ring.detach("stranger", DATA)
    for both in (good + own, own + good):
        with pytest.raises(SourceError):
            keys.verify(DATA, both, "it", "kernel")


def test_an_expired_signature_does_not_count(keys: Keys, people: People) -> None:
    signature = people.ring.detach("developer", DATA, expire="seconds=1", when="20260101T000000!")
    with pytest.raises(SourceError, match="has expired") as caught:
        keys.verify(DATA, signature, "it", "kernel")
    assert "clock" in caught.value.hint


def test_a_retired_key_counts_for_what_it_signed_in_its_time(keys: Keys, people: People) -> None:
    signature = people.ring.detach("retired", DATA, when="20200601T000000!")
    assert keys.verify(DATA, signature, "it", "kernel").made.year == 2020


def test_an_expired_key_that_is_not_known_to_be_retired_does_not_count(
    keys: Keys, people: People
) -> None:
    keys.pinned = [
        PinnedKey(key.name, key.fingerprint, key.signs, key.material) for key in keys.pinned
    ]
    signature = people.ring.detach("retired", DATA, when="20200601T000000!")
    with pytest.raises(SourceError, match="expired key"):
        keys.verify(DATA, signature, "it", "kernel")


def test_a_retired_key_does_not_count_for_what_it_signed_later(
    keys: Keys, store: Store, tmp_path: Path
) -> None:
    """Whoever got hold of an old key can make it valid again for himself, but not for us."""
    ring = KeyRing(tmp_path / "g")
    try:
        fingerprint = ring.make("old", when="20200101T000000!", expire="1y")
        file = tmp_path / "old.asc"
        file.write_bytes(ring.public("old"))
        ring.gpg("--quick-set-expire", fingerprint, "0")
        signature = ring.detach("old", DATA, when="20220101T000000!")
    finally:
        ring.stop()
    keys.pinned = [PinnedKey("old", fingerprint, ("kernel",), file, retired=True)]
    with pytest.raises(SourceError, match="expired key"):
        keys.verify(DATA, signature, "it", "kernel")


def test_a_revoked_key_does_not_count(keys: Keys, tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "g")
    try:
        fingerprint = ring.make("lost")
        signature = ring.detach("lost", DATA)
        kept = (ring.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_bytes()
        ring.gpg("--import", content=kept.replace(b":-----BEGIN", b"-----BEGIN"))
        file = tmp_path / "lost.asc"
        file.write_bytes(ring.public("lost"))
    finally:
        ring.stop()
    keys.pinned = [PinnedKey("lost", fingerprint, ("kernel",), file)]
    with pytest.raises(SourceError, match="revoked"):
        keys.verify(DATA, signature, "it", "kernel")


def test_a_clock_that_is_behind_does_not_make_good_signatures_bad(
    keys: Keys, people: People
) -> None:
    """Seen from a machine whose clock stands still, today's signatures are from the future."""
    signature = people.ring.detach("developer", DATA, when="20391231T000000!")
    assert keys.verify(DATA, signature, "it", "kernel").made.year == 2039


def test_a_clock_before_this_program_is_told_of_and_not_a_stranger(
    keys: Keys, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To gpgv, keys that are made in the future are none."""
    monkeypatch.setattr(time, "time", lambda: 1_136_073_600.0)
    with pytest.raises(InfrastructureError, match="clock shows 2006-01-01, which is before"):
        keys.verify(DATA, people.ring.detach("stranger", DATA), "it", "kernel")


def test_damaged_armour_is_refused(keys: Keys, people: People) -> None:
    signature = people.ring.detach("developer", DATA)
    for damaged in (b"", b"garbage", signature[:-60], signature.replace(b"\n\n", b"\n\n$")):
        with pytest.raises(SourceError):
            keys.verify(DATA, damaged, "it", "kernel")


def test_a_key_is_fetched_once_and_only_with_the_right_fingerprint(
    keys: Keys, people: People, site: Site, store: Store
) -> None:
    ring = people.ring
    site.files |= {"/wrong.asc": ring.public("stranger"), "/right.asc": ring.public("autosigner")}
    urls = (f"{site.url}/none.asc", f"{site.url}/wrong.asc", f"{site.url}/right.asc")
    keys.pinned = [PinnedKey("autosigner", people.autosigner, ("kernel",), urls=urls)]
    signature = ring.detach("autosigner", DATA)
    for _ in range(2):
        keys.verify(DATA, signature, "it", "kernel")
    assert len(site.requests) == 3
    again = Keys(keys.pinned, Store(store.root, offline=True))
    again.verify(DATA, signature, "it", "kernel")


def test_a_key_that_cannot_be_fetched_is_named_with_its_place(
    keys: Keys, people: People, store: Store
) -> None:
    store.offline = True
    keys.pinned = [PinnedKey("autosigner", people.autosigner, ("kernel",))]
    with pytest.raises(NetworkError, match=people.autosigner) as caught:
        keys.verify(DATA, people.ring.detach("autosigner", DATA), "it", "kernel")
    assert f"{people.autosigner}.asc" in caught.value.hint


def test_without_gpgv_the_package_is_named(
    keys: Keys, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = people.ring.detach("developer", DATA)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissingError) as caught:
        keys.verify(DATA, signature, "it", "kernel")
    assert "gpgv" in caught.value.hint


def test_the_web_key_directory_is_addressed_as_its_draft_shows() -> None:
    """The example of draft-koch-openpgp-webkey-service, 3.1."""
    assert _wkd("Joe.Doe@example.org")[1] == (
        "https://example.org/.well-known/openpgpkey/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe"
    )


def test_every_key_that_is_shipped_has_the_fingerprint_that_is_pinned() -> None:
    keys = load_keys(SHIPPED)
    shipped = [key for key in keys if key.material]
    assert len(shipped) >= 5
    for key in shipped:
        assert key.material is not None
        assert has_key(dearmored(key.material.read_bytes(), key.name), key.fingerprint), key.name
    for key in keys:
        assert len(key.fingerprint) == 40
        assert key.material or key.urls, f"{key.name} cannot be had"
