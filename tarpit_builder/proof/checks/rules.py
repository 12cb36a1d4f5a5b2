"""Contract section 3: where the target may be used, what is refused and why, how rules print."""

from __future__ import annotations

import re
import socket
import struct

from tarpit_builder.proof.lab import MODES, Deviation, Lab, Unavailable
from tarpit_builder.proof.registry import Group

rules = Group(
    "rules",
    "where rules may stand, and how they print",
    order=60,
    provokes=(
        "x_tables: ",
        "xt_check_target: ",
        "unknown variant",
        "unknown settings",
        "counters copy to user failed",
        "tarpit_check: ",  # how many of its messages were left out
        "net_ratelimit: ",
        "xt_TARPIT: only valid ",
    ),
)

TABLES = ("filter", "mangle", "security")
TARGET = ("-j", "TARPIT")
TCP = ("-p", "tcp")

IPT_SO_SET_REPLACE, IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES = 64, 64, 65
SOL_IPV6, SOL_IP = 41, 0
FLAGS6 = 32 + 168 - 131
"""How far before a target's data the flags of a rule of IPv6 are, which say that it has a protocol:
the target's head, and struct ip6t_entry where no match is between, less the place of ipv6.flags."""


def attempt(lab: Lab, family: int, table: str, chain: str, *args: str) -> str | None:
    """Try a rule and take it away again; None if it was accepted, else what was said."""
    done = lab.attempt_rule(family, "-t", table, "-A", chain, *args)
    lab.clear()
    return None if done.status == 0 else (done.stderr or done.stdout).strip() or "(nothing)"


def require_table(lab: Lab, family: int, table: str) -> None:
    """Skip the check if this kernel has no such table."""
    if lab.attempt_rule(family, "-t", table, "-L", "-n").status:
        raise Unavailable(f"this kernel has no table {table} for {lab.program(family)}")


def allowed_in(table: str) -> None:
    """A check for one table."""

    @rules.check(f"allowed in INPUT, FORWARD and chains they call, table {table}", section="3")
    def allowed(lab: Lab, family: int) -> None:
        require_table(lab, family, table)
        for chain in ("INPUT", "FORWARD"):
            for mode in ("", *MODES):
                option = (f"--{mode}",) if mode else ()
                said = attempt(lab, family, table, chain, *TCP, *TARGET, *option)
                if said:
                    raise Deviation(f"{table}/{chain} --{mode}: {said}")
            lab.rule(family, "-t", table, "-N", "trap")
            lab.rule(family, "-t", table, "-A", "trap", *TCP, *TARGET)
            lab.rule(family, "-t", table, "-A", chain, "-j", "trap")
            lab.clear()


for name in TABLES:
    allowed_in(name)


@rules.check("refused in raw, nat and in every other hook", section="3")
def hooks(lab: Lab, family: int) -> None:
    places = [("filter", "OUTPUT"), ("security", "OUTPUT")]
    places += [("mangle", chain) for chain in ("PREROUTING", "OUTPUT", "POSTROUTING")]
    places += [("raw", "PREROUTING"), ("raw", "OUTPUT"), ("nat", "PREROUTING"), ("nat", "OUTPUT")]
    for table, chain in places:
        if attempt(lab, family, table, chain, *TCP, *TARGET) is None:
            raise Deviation(f"accepted in {table}/{chain}")
    for table in ("filter", "mangle"):
        lab.rule(family, "-t", table, "-N", "trap")
        lab.rule(family, "-t", table, "-A", "trap", *TCP, *TARGET)
        done = lab.attempt_rule(family, "-t", table, "-A", "OUTPUT", "-j", "trap")
        lab.clear()
        if done.status == 0:
            raise Deviation(f"accepted in a chain that {table}/OUTPUT calls")


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "no -p tcp": (TARGET, r"-p tcp|tcp"),
    "! -p tcp": (("!", "-p", "tcp", *TARGET), r"-p tcp|tcp|!"),
    "-p udp": (("-p", "udp", *TARGET), r"-p tcp|tcp"),
    "two modes": ((*TCP, *TARGET, "--tarpit", "--reset"), r"one|mode|twice|--reset|--tarpit"),
    "two other modes": ((*TCP, *TARGET, "--honeypot", "--reset"), r"one|mode|--reset|--honeypot"),
    "a mode twice": ((*TCP, *TARGET, "--reset", "--reset"), r"one|mode|twice|--reset"),
    "! before a mode": ((*TCP, *TARGET, "!", "--reset"), r"!|invert|--reset"),
    "an unknown option": ((*TCP, *TARGET, "--tar-pot"), r"tar-pot"),
}


@rules.check("a rule that is not allowed says why before the kernel can", section="3")
def messages(lab: Lab, family: int) -> None:
    wrong = []
    for label, (args, reason) in REFUSED.items():
        said = attempt(lab, family, "filter", "INPUT", *args)
        if said is None:
            wrong.append(f"{label}: accepted")
        elif label != "an unknown option" and "TARPIT" not in said:
            wrong.append(f"{label}: the message does not name TARPIT: {said}")
        elif not re.search(reason, said):
            wrong.append(f"{label}: the message does not say why: {said}")
    if wrong:
        raise Deviation("\n".join(wrong))


@rules.check(
    "a chain or table that is not for it is refused with a message that says why", section="3"
)
def places(lab: Lab, family: int) -> None:
    for table, chain, reason in (
        ("filter", "OUTPUT", "OUTPUT"),
        ("mangle", "PREROUTING", "PREROUTING"),
        ("mangle", "POSTROUTING", "POSTROUTING"),
        ("raw", "PREROUTING", "raw"),
    ):
        said = attempt(lab, family, table, chain, *TCP, *TARGET)
        if said is None:
            raise Deviation(f"accepted in {table}/{chain}")
        if "TARPIT" not in said or reason not in said:
            raise Deviation(f"{table}/{chain}: iptables does not say why: {said}")


@rules.check("-S and -L print each rule once and cleanly", section="3")
def listing(lab: Lab, family: int) -> None:
    for mode in ("", *MODES):
        lab.tarpit(mode, families=(family,), match=("--dport", "25"))
        printed = lab.guest.attempt(lab.program(family), *lab.tools.wait, "-S", "INPUT")
        lines = [line for line in printed.stdout.splitlines() if "TARPIT" in line]
        wanted = mode or "tarpit"
        pattern = r"-A INPUT -p tcp -m tcp --dport 25 -j TARPIT( --(\w+))?"
        match = re.fullmatch(pattern, lines[0].rstrip()) if len(lines) == 1 else None
        if match is None or (match[2] or "tarpit") != wanted:
            raise Deviation(f"-S of --{wanted} prints {lines}")
        complaints = [x for x in printed.stderr.splitlines() if not x.startswith("# Warning: ")]
        if complaints:  # (the warning is about tables of the other backend)
            raise Deviation(f"-S complains: {complaints[0]}")
        table = lab.guest.attempt(lab.program(family), *lab.tools.wait, "-n", "-L", "INPUT")
        lines = [line for line in table.stdout.splitlines() if "TARPIT" in line]
        tail = lines[0].split("dpt:25", 1)[-1].strip() if len(lines) == 1 else "?"
        clean = ("", wanted, f"--{wanted}") if wanted == "tarpit" else (wanted, f"--{wanted}")
        if tail not in clean:
            raise Deviation(f"-L of --{wanted} prints {lines}")
        lab.clear()


@rules.check(
    "iptables-save | iptables-restore is a fixed point, -C and -D find the rule", section="3"
)
def fixed_point(lab: Lab, family: int) -> None:
    for mode in ("", *MODES):
        lab.tarpit(mode, families=(family,), match=("--dport", "25"))
        lab.tarpit(mode, families=(family,), chain="FORWARD")
    save, restore = lab.program(family, "-save"), lab.program(family, "-restore")
    saved = lab.guest.run(save, "-t", "filter")
    lab.guest.run(restore, stdin=saved)
    again = lab.guest.run(save, "-t", "filter")
    if rules_of(saved) != rules_of(again) or len(rules_of(saved)) != 2 * (len(MODES) + 1):
        raise Deviation(f"first:\n{saved}\nthen:\n{again}")
    for mode in reversed(MODES):  # that of the first rule last
        option = ("INPUT", *TCP, "--dport", "25", *TARGET, f"--{mode}")
        there = 1 + (mode == MODES[0])  # the default's rule is the same
        for action in ("-C", *("-D",) * there):
            done = lab.attempt_rule(family, action, *option)
            if done.status:
                raise Deviation(f"{done.command}: {done.stderr.strip()}")
        if not lab.attempt_rule(family, "-C", *option).status:
            raise Deviation(f"-D of --{mode} deleted another rule")
    lab.clear()


def rules_of(saved: str) -> list[str]:
    """The rules of a dump."""
    return [line for line in saved.splitlines() if line.startswith("-A")]


@rules.check("-j TARPIT --help tells the modes", section="3")
def usage(lab: Lab, family: int) -> None:
    text = lab.guest.attempt(lab.program(family), *TARGET, "--help").stdout
    for mode in MODES:
        if f"--{mode}" not in text:
            raise Deviation(f"--{mode} is not mentioned")


@rules.check("arguments of other matches are not taken for the rule's own", section="3")
def arguments(lab: Lab, family: int) -> None:
    texts = ("-t nat", "-tnat", "-pudp", "-p", "-AOUTPUT", "-A", "--table=nat", "--protocol", "!")
    wrong = []
    for text in texts:
        said = attempt(
            lab, family, "filter", "INPUT", *TCP, "-m", "comment", "--comment", text, *TARGET
        )
        if said and "comment" in said and "TARPIT" not in said:
            raise Unavailable("this kernel or user land has no comment match")
        if said:
            wrong.append(f"--comment {text!r}: {said}")
    if wrong:
        raise Deviation("\n".join(wrong))


@rules.check(
    "the binary interface: revisions 0 and 1, one byte, unknown variants are refused", section="2"
)
def binary(lab: Lab, family: int) -> None:
    if lab.backend == "nft":
        raise Unavailable("the nft backend hands the same structure on: legacy shows it")
    level = SOL_IPV6 if family == 6 else SOL_IP
    for number, mode in enumerate(MODES):
        lab.tarpit(mode, families=(family,))
        blob, at, size, revision = target_of(lab, family, level)
        if revision != 1:
            raise Deviation(f"revision {revision}")
        if blob[at] != number or any(blob[at + 1 : at + size]):
            raise Deviation(f"--{mode} is {blob[at : at + size].hex()}")
        lab.clear()
    lab.tarpit("reset", families=(family,))
    for revision, known in ((0, MODES[:3]), (1, MODES)):
        for number, mode in enumerate(known):
            error = replace_target(lab, family, level, revision, bytes([number]))
            if error:
                raise Deviation(f"revision {revision} of --{mode} was refused: {error}")
            syn = lab.probe(family, "S")
            window = {"tarpit": 5, "reset": 0}.get(mode, 64240)
            flags = "RA" if mode == "reset" else "SA"
            lab.expect(syn, lab.answers(syn), f"SYN at --{mode}", flags=flags, window=window)
        for variant in (len(known), 4, 127, 255):
            if replace_target(lab, family, level, revision, bytes([variant])) is None:
                raise Deviation(f"variant {variant} of revision {revision} was accepted")
    if replace_target(lab, family, level, 1, b"\0\0\0\1") is None:
        raise Deviation("revision 1 was accepted with settings that nobody knows")


@rules.check(
    "the binary interface: the kernel itself refuses other tables, and rules without -p tcp",
    section="2",
)
def binary_places(lab: Lab, family: int) -> None:
    if lab.backend == "nft":
        raise Unavailable("the nft backend hands the same structure on: legacy shows it")
    level = SOL_IPV6 if family == 6 else SOL_IP
    stand_in = ("-j", "MARK", "--set-mark", "0")
    lab.tarpit(families=(family,))
    _, _, ours, _ = target_of(lab, family, level)
    for table, chain, protocol, allowed in (
        ("raw", "trap", TCP, False),  # that nobody calls, so that no hook forbids it
        ("nat", "INPUT", TCP, False),
        ("mangle", "INPUT", (), False),
        ("mangle", "INPUT", TCP, True),
    ):
        lab.clear()
        require_table(lab, family, table)
        if chain == "trap":
            lab.rule(family, "-t", table, "-N", chain)
        lab.rule(family, "-t", table, "-A", chain, *protocol, *stand_in)
        _, _, size, _ = target_of(lab, family, level, table, b"MARK")
        if size != ours:
            raise Unavailable(f"MARK's settings have {size} bytes here, ours {ours}")
        error = replace_target(lab, family, level, 1, bytes(8), table, b"MARK")
        if (error is None) is not allowed:
            what = "accepted" if error is None else f"refused: {error}"
            raise Deviation(f"{table} {chain} {' '.join(protocol) or 'without -p'}: {what}")


@rules.check("the binary interface: IPv6 with a protocol that does not count", section="2")
def binary_flag(lab: Lab) -> None:
    if lab.backend == "nft" or 6 not in lab.families:
        raise Unavailable("only legacy's rules of IPv6 have a flag for that")
    lab.clear()
    lab.tarpit(families=(6,))
    if replace_target(lab, 6, SOL_IPV6, 1, bytes(8), cleared=FLAGS6) is None:
        # Newer kernels set the flag themselves where there is a protocol.
        whole, at, _, _ = target_of(lab, 6, SOL_IPV6)
        if not whole[at - FLAGS6]:
            raise Deviation("accepted, though the rule is for any protocol")


def raw_socket(lab: Lab, family: int):  # type: ignore[no-untyped-def]
    """The kind of socket that legacy iptables talks to the kernel through."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    return lab.guest.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW)


def entries(lab: Lab, family: int, level: int, table: str) -> tuple[bytes, bytes]:
    """``ipt_getinfo`` and the entries of a table, as the kernel hands them out."""
    sock = raw_socket(lab, family)
    name = table.encode().ljust(32, b"\0")
    info = sock.getsockopt(level, IPT_SO_GET_INFO, 84, name + bytes(52))
    order = lab.guest.c.mark
    size = struct.unpack_from(f"{order}I", info, 80)[0]
    request = name + struct.pack(f"{order}II", size, 0)
    whole = sock.getsockopt(level, IPT_SO_GET_ENTRIES, len(request) + size, request + bytes(size))
    sock.close()
    return info, whole[40:]


def target_of(
    lab: Lab, family: int, level: int, table: str = "filter", name: bytes = b"TARPIT"
) -> tuple[bytes, int, int, int]:
    """A table, where the data of the target *name* is in it, its size, and its revision."""
    _, whole = entries(lab, family, level, table)
    # struct xt_entry_target: size, name[29], revision, data
    at = whole.index(name + b"\0") - 2
    size = struct.unpack_from(f"{lab.guest.c.mark}H", whole, at)[0]
    return whole, at + 32, size - 32, whole[at + 31]


def replace_target(
    lab: Lab,
    family: int,
    level: int,
    revision: int,
    data: bytes,
    table: str = "filter",
    name: bytes = b"TARPIT",
    *,
    cleared: int = 0,
) -> OSError | None:
    """Put a table back with ours in place of a target; the error, or None if it was accepted.

    :param cleared: how far before the target's data a byte is that becomes 0.
    """
    c = lab.guest.c
    info, _ = entries(lab, family, level, table)
    whole, at, _, _ = target_of(lab, family, level, table, name)
    changed = bytearray(whole)
    if cleared:
        changed[at - cleared] = 0
    changed[at - 30 : at + len(data)] = b"TARPIT".ljust(29, b"\0") + bytes([revision]) + data
    hooks_and_numbers = info[32:84]  # valid_hooks, hook_entry[5], underflow[5], num, size
    valid, *rest = struct.unpack(f"{c.mark}13I", hooks_and_numbers)
    entry, underflow, count, size = rest[0:5], rest[5:10], rest[10], rest[11]
    header = info[0:32] + struct.pack(
        f"{c.mark}III5I5II", valid, count, size, *entry, *underflow, count
    )
    if c.bits == 64:
        header += bytes(-len(header) % 8)
    sock = raw_socket(lab, family)
    try:
        sock.setsockopt(
            level, IPT_SO_SET_REPLACE, header + struct.pack(f"{c.mark}{c.long}", 0) + bytes(changed)
        )
    except OSError as error:
        return error
    finally:
        sock.close()
    return None
