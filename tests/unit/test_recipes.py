"""The page of recipes keeps to what its tests can follow."""

from __future__ import annotations

import re

import pytest

from tarpit_builder import paths
from tests.guest.recipes import DEVICE, INTEGRATIONS, blocks, section

HEADINGS = re.findall(r"^## (.*)$", INTEGRATIONS.read_text(), re.M)
OF_DEVICE = re.findall(r"^## (.*)$", DEVICE.read_text(), re.M)
TESTS = (paths.PROJECT / "tests" / "guest" / "test_integrations.py").read_text()


@pytest.mark.parametrize("heading", HEADINGS)
def test_each_recipe_is_followed_in_a_guest_and_names_its_files(heading: str) -> None:
    assert f'follow(guest, "{heading}")' in TESTS
    prose = re.sub(r"^```.*?^```$", "", section(heading), flags=re.M | re.S)
    for place, _ in blocks(heading):
        assert place in {"target", "update"} or f"`{place}`" in prose, place


@pytest.mark.parametrize("heading", ["", *OF_DEVICE])
def test_so_is_each_of_the_device(heading: str) -> None:
    followed = (paths.PROJECT / "tests" / "guest" / "test_device.py").read_text()
    # tcpdump goes on for as long as one watches; what the rest shows, the proof looks at.
    if blocks(heading, DEVICE) and heading != "Watch it":
        assert f'follow(guest, "{heading}", page=DEVICE, word="device")' in followed


@pytest.mark.parametrize("heading", HEADINGS)
def test_files_of_recipes_cannot_open_a_host_or_cut_it_off_ipv6(heading: str) -> None:
    for place, text in blocks(heading):
        if not place.startswith("/etc/xt-tarpit/"):
            continue
        assert "ACCEPT" not in text
        if ":XT-TARPIT " in text:
            assert re.search(r"-j TARPIT\n-A XT-TARPIT -j DROP$", text, re.M)
        for rule in re.findall(r"^-A .* -j XT-TARPIT$", text, re.M):
            assert "-p tcp" in rule or "! -p ipv6-icmp" in rule or place.endswith(".v4"), rule
