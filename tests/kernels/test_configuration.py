"""What a user brings for a kernel of theirs is looked at before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarpit_builder.errors import UserError
from tarpit_builder.kernels import configuration
from tarpit_builder.request import Request

CONFIG = """\
#
# Automatically generated make config: don't edit
# Linux kernel version: 2.6.24
#
CONFIG_X86_32=y
CONFIG_MODULES=y
CONFIG_NET=y
CONFIG_INET=y
CONFIG_NETFILTER=y
CONFIG_NETFILTER_XTABLES=m
CONFIG_IP_NF_IPTABLES=m
# CONFIG_MODVERSIONS is not set
"""
SYMVERS = "0x00000000\txt_register_target\tnet/netfilter/x_tables\tEXPORT_SYMBOL_GPL\n"
VERSIONED = "0x1a2b3c4d\txt_register_target\tnet/netfilter/x_tables\tEXPORT_SYMBOL_GPL\n"


def read(
    tmp_path: Path,
    config: str | bytes = CONFIG,
    symvers: str | bytes | None = None,
    *,
    kernel: str = "2.6.24",
    arch: str = "i386",
    release: str = "",
) -> configuration.KernelFiles:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return configuration.read(
        Request(
            kernel,
            arch,
            release=release,
            config=written("config", config),
            symvers=None if symvers is None else written("symvers", symvers),
        )
    )


def test_good_files_pass_without_a_word(tmp_path: Path) -> None:
    assert read(tmp_path, CONFIG, SYMVERS).warnings == ()
    versioned = CONFIG.replace("# CONFIG_MODVERSIONS is not set", "CONFIG_MODVERSIONS=y")
    assert read(tmp_path, versioned, VERSIONED).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2.6.24", "2.6.23", "--config is of Linux 2.6.23, not 2.6.24"),
        ("CONFIG_X86_32=y", "CONFIG_X86_64=y", "--config is of amd64, not i386"),
        ("CONFIG_X86_32=y", "CONFIG_ARM64=y", "--config is of arm64, not i386"),
        ("CONFIG_X86_32=y", "CONFIG_ARM=y", "--config is of armhf, not i386"),
        ("CONFIG_NETFILTER=y", "# CONFIG_NETFILTER is not set", "has no CONFIG_NETFILTER"),
        ("CONFIG_NETFILTER_XTABLES=m", "", "has no CONFIG_NETFILTER_XTABLES"),
        ("CONFIG_IP_NF_IPTABLES=m", "", "has no CONFIG_IP_NF_IPTABLES"),
        ("CONFIG_MODULES=y", "", "has no CONFIG_MODULES"),
        ("\n", "\r\n", "has DOS line endings"),
        ("CONFIG_NET=y", "CONFIG_NET=y\0", "is no text"),
        ("CONFIG_", "SETTING_", "is no kernel configuration"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, CONFIG.replace(old, new))
    assert caught.value.hint


def test_the_architecture_of_a_configuration_is_the_one_that_is_built_for(tmp_path: Path) -> None:
    other = CONFIG.replace("CONFIG_X86_32=y", "CONFIG_ARM64=y\nCONFIG_64BIT=y")
    assert read(tmp_path, other, arch="arm64").config
    amd64 = CONFIG.replace("CONFIG_X86_32=y", "CONFIG_X86_64=y\nCONFIG_64BIT=y")
    with pytest.raises(UserError, match="--config is of amd64, not arm64") as caught:
        read(tmp_path, amd64, arch="arm64")
    assert "--arch amd64" in caught.value.hint
    with pytest.raises(UserError, match="--config is of s390x") as caught:
        read(tmp_path, CONFIG.replace("CONFIG_X86_32=y", "CONFIG_S390=y\nCONFIG_64BIT=y"))
    assert "are built for amd64, i386, arm64" in caught.value.hint


@pytest.mark.parametrize(
    ("symvers", "message"),
    [
        ("", "is no Module.symvers"),
        ("hello\n", "is no Module.symvers"),
        (SYMVERS.replace("xt_register", "ipt_register"), "has no xt_register_target"),
        (VERSIONED, "Module.symvers is of another kernel: it has checksums"),
        (SYMVERS.replace("\n", "\r\n"), "has DOS line endings"),
    ],
)
def test_wrong_symbol_versions_are_refused(tmp_path: Path, symvers: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, CONFIG, symvers)
    assert caught.value.hint


def test_symbol_versions_that_are_missing_are_said(tmp_path: Path) -> None:
    versioned = CONFIG.replace("# CONFIG_MODVERSIONS is not set", "CONFIG_MODVERSIONS=y")
    assert "only by force" in read(tmp_path, versioned).warnings[0]
    with pytest.raises(UserError, match="it has no checksums"):
        read(tmp_path, versioned, SYMVERS)


def test_a_point_release_of_the_same_series_is_said(tmp_path: Path) -> None:
    found = read(tmp_path, CONFIG.replace("2.6.24", "2.6.24.7"))
    assert "--kernel 2.6.24.7" in found.warnings[0]
    assert read(tmp_path, CONFIG.replace("2.6.24", "2.6.24.7"), kernel="2.6.24.7").warnings == ()


@pytest.mark.parametrize("rest", ["-1-686", "-19-generic", "-64.fc8"])
def test_the_name_that_a_distribution_gave_its_kernel_is_suggested(
    tmp_path: Path, rest: str
) -> None:
    config = CONFIG.replace("2.6.24", f"2.6.24{rest}")
    (warning,) = read(tmp_path, config).warnings
    assert f"--release 2.6.24{rest}" in warning
    assert read(tmp_path, config, release=f"2.6.24{rest}").warnings == ()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    request = Request("2.6.24", config=tmp_path / "absent")
    with pytest.raises(UserError, match="absent cannot be read"):
        configuration.read(request)
