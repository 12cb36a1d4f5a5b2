"""Versions: what is one, how they sort, and which are in a range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarpit_builder.errors import UserError
from tarpit_builder.versions import IptablesVersion, KernelVersion, Version, VersionRange, suggest

small = st.integers(min_value=0, max_value=400)
point = st.integers(min_value=1, max_value=999)


@st.composite
def kernels(draw: st.DrawFn) -> KernelVersion:
    series = draw(
        st.one_of(
            st.tuples(st.just(2), st.just(6), st.integers(0, 39)),
            st.tuples(st.integers(3, 9), small),
        )
    )
    kind = draw(st.sampled_from(["series", "point", "candidate"]))
    if kind == "point":
        return KernelVersion((*series, draw(point)))
    return KernelVersion(series, draw(point) if kind == "candidate" else None)


@st.composite
def iptables(draw: st.DrawFn) -> IptablesVersion:
    series = (1, draw(st.integers(2, 9)), draw(small))
    kind = draw(st.sampled_from(["series", "point", "candidate"]))
    if kind == "point":
        return IptablesVersion((*series, draw(point)))
    return IptablesVersion(series, draw(point) if kind == "candidate" else None)


@given(kernels())
def test_a_kernel_survives_the_round_trip_through_text(version: KernelVersion) -> None:
    assert KernelVersion.parse(str(version)) == version
    assert KernelVersion.parse(version.tag) == version


@given(iptables())
def test_an_iptables_survives_the_round_trip_through_text(version: IptablesVersion) -> None:
    assert IptablesVersion.parse(str(version)) == version


@given(kernels(), kernels(), kernels())
def test_the_order_is_total(a: KernelVersion, b: KernelVersion, c: KernelVersion) -> None:
    assert (a < b) + (a == b) + (a > b) == 1
    if a <= b <= c:
        assert a <= c
    assert a != b or hash(a) == hash(b)


@given(kernels())
def test_candidates_come_before_their_release_and_points_after(version: KernelVersion) -> None:
    series = version.series
    assert series.is_series
    assert KernelVersion(series.numbers, 1) < KernelVersion(series.numbers, 10) < series
    assert series < KernelVersion((*series.numbers, 1)) < KernelVersion((*series.numbers, 256))
    if not version.is_series:
        assert (version < series) == (version.rc is not None)


@given(kernels(), kernels(), kernels())
def test_a_range_holds_what_lies_between_its_ends(
    low: KernelVersion, high: KernelVersion, version: KernelVersion
) -> None:
    if low > high:
        low, high = high, low
    for text in (f"{low}-{high}", f"{low}..{high}", f">={low},<={high}"):
        span = VersionRange.parse(text, KernelVersion)
        assert low in span
        assert high in span
        if low <= version <= high:
            assert version in span
        assert VersionRange.parse(str(span), KernelVersion) == span


@given(kernels(), kernels())
def test_every_version_is_on_one_side_of_a_bound(
    bound: KernelVersion, version: KernelVersion
) -> None:
    def has(operator: str) -> bool:
        return version in VersionRange.parse(f"{operator}{bound}", KernelVersion)

    assert has("<") + has("") + has(">") == 1
    assert has("<=") != has(">")
    assert has(">=") != has("<")


@pytest.mark.parametrize(
    ("text", "series", "folders"),
    [
        ("2.6.19", "2.6.19", ("v2.6",)),
        ("2.6.24.7", "2.6.24", ("v2.6",)),
        ("2.6.27", "2.6.27", ("v2.6",)),
        ("2.6.27.62", "2.6.27", ("v2.6/longterm/v2.6.27", "v2.6")),
        ("2.6.32.71", "2.6.32", ("v2.6/longterm/v2.6.32", "v2.6")),
        ("3.2", "3.2", ("v3.x",)),
        ("3.2.102", "3.2", ("v3.x",)),
        ("4.9.337", "4.9", ("v4.x",)),
        ("5.10.251", "5.10", ("v5.x",)),
        ("6.18-rc3", "6.18", ()),
        ("7.2", "7.2", ("v7.x",)),
    ],
)
def test_where_kernel_org_keeps_a_release(text: str, series: str, folders: tuple[str, ...]) -> None:
    version = KernelVersion.parse(text)
    assert str(version) == text
    assert str(version.series) == series
    assert version.folders == folders
    assert version.stem == f"linux-{text}"


def test_the_spelling_of_uname_is_the_same_release() -> None:
    assert KernelVersion.parse("6.1.0") == KernelVersion.parse("6.1")


def test_iptables_candidates_are_spelt_without_a_dash() -> None:
    assert str(IptablesVersion.parse("1.4.1-rc1")) == "1.4.1rc1"
    assert IptablesVersion.parse("1.4.0rc1") < IptablesVersion.parse("1.4.0")
    assert IptablesVersion.parse("1.4.3.2").series == IptablesVersion.parse("1.4.3")


@pytest.mark.parametrize(
    "text",
    ["", "2.6", "6", "2.6.24.7.1", "2.5.75", "1.0.9", "2.6.24.0", "2.6.024", "5.10.251-rc1",
     "6.18-rc0", "6.18-rc", "٦.1", "6.1.0-18-amd64", "6.1\n6.2", "-6.1", "6..1"],
)  # fmt: skip
def test_what_is_no_kernel_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        KernelVersion.parse(text)


@pytest.mark.parametrize("text", ["", "1.4", "2.0.0", "1.4.0.0", "1.4.3.2rc1", "1.8.x"])
def test_what_is_no_iptables_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        IptablesVersion.parse(text)


def test_a_misspelt_kernel_brings_near_ones() -> None:
    with pytest.raises(UserError) as caught:
        KernelVersion.parse("2.6.24x", known=["2.6.24", "2.6.24.7", "5.10.251"])
    assert "2.6.24" in caught.value.hint
    with pytest.raises(UserError) as caught:
        KernelVersion.parse("2,6,24")
    assert caught.value.hint == "did you mean 2.6.24?"
    with pytest.raises(UserError) as caught:
        KernelVersion.parse("latest")
    assert "write it like" in caught.value.hint


def test_suggestions_are_few_and_the_nearest_first() -> None:
    known = [f"2.6.27.{n}" for n in range(1, 58)]
    assert suggest("2.6.27.58", known)[0] in known
    assert len(suggest("2.6.27.58", known)) == 3
    assert suggest("windows", known) == ()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("2.6.19-2.6.21", ["2.6.19-rc1", "2.6.19", "2.6.21.7"], ["2.6.18.8", "2.6.22-rc1"]),
        (">=2.6.22", ["2.6.22-rc1", "7.2"], ["2.6.21.7"]),
        ("2.6.22..2.6.26", ["2.6.22", "2.6.26.8"], ["2.6.27"]),
        ("<=5.10.100", ["5.10", "5.10.100", "2.6.19"], ["5.10.101"]),
        (">5.10", ["5.11-rc1", "5.11"], ["5.10.251"]),
        ("<5.10", ["5.9.16"], ["5.10-rc1"]),
        ("6.1", ["6.1", "6.1.192", "6.1-rc2"], ["6.0.19", "6.2"]),
        (">=2.6.22, <2.6.27", ["2.6.26.8"], ["2.6.27", "2.6.21"]),
        ("6.18-rc2-6.18-rc4", ["6.18-rc3"], ["6.18", "6.18-rc1"]),
    ],
)
def test_ranges_as_rules_write_them(text: str, inside: list[str], outside: list[str]) -> None:
    span = VersionRange.parse(text, KernelVersion)
    assert all(KernelVersion.parse(version) in span for version in inside)
    assert not any(KernelVersion.parse(version) in span for version in outside)


@pytest.mark.parametrize("text", ["", "2.6.22-2.6.19", ">=", "~2.6.22", "2.6.19-", "2.6.19,,"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        VersionRange.parse(text, KernelVersion)


def test_kernels_and_iptables_do_not_mix() -> None:
    kernel: Version = KernelVersion.parse("2.6.24")
    with pytest.raises(TypeError):
        assert kernel < IptablesVersion.parse("1.4.0")
