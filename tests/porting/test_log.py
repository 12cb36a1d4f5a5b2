"""What is read out of a build's log."""

from __future__ import annotations

from tarpit_builder.porting import log

BUILD = """\
[    0.00] == module.sh
[    2.50] configured
[    6.00] prepared 7.2.0
[    9.00] tarpit-probes.h: #define TARPIT_HAVE_DST_DEV 1
[    9.00] tarpit-probes.h: /* no csum_unfold */
[    9.00] tarpit-probes.h.log: /build/module/compat/probes/csum_unfold.c:8:9: error: implicit \
declaration of function 'csum_unfold'
[    9.00] In file included from ./include/net/route.h:24,
[    9.00]                  from /build/module/xt_TARPIT.c:50:
[    9.00] /build/module/xt_TARPIT.c: In function 'tarpit_route4':
[    9.00] /build/module/xt_TARPIT.c:365:18: error: 'struct flowi4' has no member named \
'flowi4_mark'; did you mean 'flowi4_tos'?
[    9.00]   365 |                 .flowi4_mark = mark,
[    9.00] ./include/net/flow.h:80:9: note: in this struct
[    9.00] In file included from ./include/linux/module.h:20,
[    9.00]                  from /build/module/xt_TARPIT.c:9:
[    9.00] ./include/linux/init.h:286:13: warning: 'init_module' specifies less
[    9.00] /build/module/xt_TARPIT.c:400:18: error: another
[    9.00] make: *** [Makefile:248: __sub-make] Error 2
"""

PROBES = """\
tarpit-probes.h.log: /build/module/compat/probes/baseline_fails.c:5:9: error: 'baseline_fails' \
undeclared
tarpit-probes.h.log: In file included from ./include/net/ip.h:27,
tarpit-probes.h.log:                  from /build/module/compat/probes/dst_dev.c:4:
tarpit-probes.h.log: ./include/net/flow.h:12:1: error: unknown type name 'flow_t'
TARPIT: the kernel headers do not compile: ./include/net/flow.h:12:1: error: unknown type
TARPIT: the whole output of the compiler is in /build/module/tarpit-probes.h.log
"""

OWN = """\
tarpit-probes.h.log: /build/module/compat/probes/baseline_fails.c:5:9: error: 'baseline_fails'
tarpit-probes.h.log: /build/module/compat/probes/dst_dev.c:8:9: error: 'struct dst_entry' has no \
member named 'dev'
TARPIT: probe dst_dev fails for a reason of its own: 'struct dst_entry' has no member named 'dev'
"""


def test_an_error_of_the_module() -> None:
    said = log.read(BUILD)
    assert said.found == ("DST_DEV",)
    assert said.missing == ("csum_unfold",)
    assert len(said.compiler) == 1
    assert said.verdict == ""
    assert said.error
    assert str(said.error).startswith("xt_TARPIT.c:365: 'struct flowi4' has no member named")
    assert said.error.headers == ("include/net/route.h", "include/net/flow.h")
    assert said.error.identifiers == ("flowi4", "flowi4_mark", "flowi4_tos")
    assert said.error.lines[0].startswith("In file included")
    assert said.error.lines[-1].endswith("note: in this struct")


def test_headers_that_do_not_compile() -> None:
    said = log.read(PROBES)
    assert not said.probed
    assert said.verdict.startswith("the kernel headers do not compile")
    assert said.error
    assert (said.error.file, said.error.line) == ("include/net/flow.h", 12)
    assert said.error.headers == ("include/net/flow.h", "include/net/ip.h")


def test_a_probe_that_cannot_answer() -> None:
    said = log.read(OWN)
    assert said.error
    assert (said.error.file, said.error.line) == ("compat/probes/dst_dev.c", 8)
    assert said.error.identifiers == ("dst_entry", "dev")


def test_symbols_that_are_not_exported() -> None:
    lines = "/* no dst_dev */", "#define TARPIT_HAVE_RTABLE 1"
    said = log.read(
        "".join(f"tarpit-probes.h: {line}\n" for line in lines)
        + 'WARNING: modpost: "nf_ct_attach" [xt_TARPIT.ko] undefined!\n'
        + "TARPIT: the kernel does not export nf_ct_attach dst_release\n"
    )
    assert said.unexported == ("nf_ct_attach", "dst_release")
    assert said.verdict == ""
    assert said.probed


def test_a_log_that_says_nothing() -> None:
    assert log.read("") == log.BuildLog()
