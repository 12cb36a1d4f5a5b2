"""What the documents say can be checked: links, commands, options, figures."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tarpit_builder import paths, site

TOP = paths.PROJECT
DOCUMENTS = [
    TOP / "README.md",
    TOP / "CONTRIBUTING.md",
    TOP / "SECURITY.md",
    TOP / "patches" / "README.md",
    *sorted((TOP / "docs").glob("*.md")),
]
INVOKE = Path(sys.executable).parent / "invoke"
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def slugs(text: str) -> set[str]:
    """The anchors that headings get, on the site as on forges."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return {
        re.sub(r"[^\w -]", "", heading.lower().replace(".", "-")).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", prose, re.M)
    }


@each_document
def test_every_link_to_a_file_leads_to_one(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", address):
            continue
        name, _, place = address.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), address
        included = re.findall(r"^```\{include\} (\S+)", file.read_text(encoding="utf-8"), re.M)
        places = slugs(file.read_text(encoding="utf-8"))
        for other in included:
            places |= slugs((file.parent / other).read_text(encoding="utf-8"))
        assert not place or place in places, address


@cache
def options_of(task: str) -> set[str] | None:
    """The options of *task*, None if there is no such task."""
    shown = subprocess.run(
        [INVOKE, "--help", task], cwd=TOP, capture_output=True, text=True, check=False
    )
    return set(re.findall(r"--[\w-]+", shown.stdout)) if shown.returncode == 0 else None


def commands(text: str) -> list[str]:
    """What *text* calls a command: the lines of its shell blocks, and code within prose."""
    blocks = re.findall(r"^ *```sh[^\n]*\n(.*?)^ *```", text, flags=re.M | re.S)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [*lines, *(" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))]


@each_document
def test_every_task_and_option_exists(document: Path) -> None:
    for command in commands(document.read_text(encoding="utf-8")):
        if not (match := re.match(r"(?:\./bootstrap )?invoke ([a-z][a-z-]*)(.*)", command)):
            continue
        known = options_of(match[1])
        assert known is not None, f"there is no task {match[1]}: {command}"
        missing = set(re.findall(r"(?<= )--[a-z][\w-]*", match[2])) - known
        assert not missing, f"invoke {match[1]} has no {missing}"


def test_every_option_of_a_program_on_the_host_is_in_its_manual_page() -> None:
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    named = [command for text in texts for command in commands(text)]
    for page in site.manual_pages():
        manual = page.read_text(encoding="utf-8").replace("\\-", "-")
        for command in named:
            words = command.split()
            if words and words[0] == page.stem:
                given = [re.split(r"[=&|]", word)[0] for word in words[1:] if word[0] == "-"]
                assert not [option for option in given if option not in manual], command


@each_document
def test_every_figure_has_the_command_that_measures_it(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    text = re.sub(r"^```(?!sh).*?^```", "", text, flags=re.M | re.S)
    figure = re.compile(r"\b\d[\d.,]*\s?(?:s|ms|%|×|MB|kB|CPU s|instructions)(?=[\s,.;:|)])")
    for section in re.split(r"^(?=#{1,3} )", text, flags=re.M):
        if found := figure.findall(section):
            heading = section.partition("\n")[0]
            assert "invoke " in section, f"{heading}: {found} without a command that measures it"


EXAMPLES = sorted((TOP / "dkms" / "examples").iterdir())
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)


def rules(text: str) -> list[str]:
    """The rules of *text* that are for IPv6, in order: of a script, or a file for ip6tables."""
    pattern = r"(?:\$iptables|ip6tables) -[AI] .*|^-A .*|^:(?:INPUT|FORWARD) DROP.*"
    return re.findall(pattern, re.sub(r"^#.*", "", text, flags=re.M), re.M)


@pytest.mark.parametrize(
    "example",
    [path for path in EXAMPLES if not path.name.endswith("v4")],
    ids=lambda path: path.name,
)
def test_no_example_drops_neighbour_discovery(example: Path) -> None:
    found = rules(example.read_text())
    assert found
    accepts = [i for i, rule in enumerate(found) if "INPUT -p ipv6-icmp -j ACCEPT" in rule]
    drops = [i for i, rule in enumerate(found) if re.search(r"-A INPUT -j DROP$", rule)]
    if drops or ":INPUT DROP [0:0]" in found:
        assert accepts, f"{example.name} drops ICMPv6"
        assert not drops or accepts[0] < drops[0]


@each_example
def test_what_is_loaded_at_boot_never_names_the_target(example: Path) -> None:
    if not example.name.startswith("rules."):
        assert "-j TARPIT" in example.read_text()
        return
    loaded = [line for line in example.read_text().splitlines() if not line.startswith("#")]
    assert "-A XT-TARPIT -j DROP" in loaded
    assert ":XT-TARPIT - [0:0]" in loaded
    assert not [line for line in loaded if "-j TARPIT" in line]


def test_the_manual_page_and_the_guide_accept_icmpv6_before_a_drop() -> None:
    page = (TOP / "dkms" / "xt-tarpit.8").read_text().replace("\\-", "-")
    assert "ip6tables -A INPUT -p ipv6-icmp -j ACCEPT" in page
    last = page.rindex("ip6tables -A INPUT -j DROP")
    assert page.index("ip6tables -A INPUT -p ipv6-icmp -j ACCEPT") < last
    assert "The same for IPv6" not in page


LOCKS = tuple(f"requirements{part}.lock" for part in ("", "-dev", "-docs", "-cluster"))


def test_locks_agree_and_are_hashed() -> None:
    seen: dict[str, str] = {}
    for lock in LOCKS:
        text = (TOP / lock).read_text()
        pins = re.findall(r"^([\w.-]+)==([\w.+]+)", text, re.M)
        assert pins
        assert text.count("==") == len(pins)
        for name, version in pins:
            assert seen.setdefault(name, version) == version, f"{name} in {lock}"
            assert re.search(rf"^{re.escape(name)}==\S+ \\\n    --hash=sha256:", text, re.M)
