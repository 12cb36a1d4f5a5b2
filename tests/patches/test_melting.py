"""The compatibility layer melted into a source, on small examples."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarpit_builder.patching import conditions, ctokens
from tarpit_builder.patching.conditions import Symbols
from tarpit_builder.patching.layout import WIDTH, relaid
from tarpit_builder.patching.macros import Macro, expand
from tarpit_builder.patching.prune import prune
from tarpit_builder.patching.resolve import CompatLayer, melt, with_include
from tarpit_builder.patching.rewrite import Rewrite


def code(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n").replace("    ", "\t")


def symbols(**values: str) -> Symbols:
    return Symbols(values, lambda name: name.startswith(("HAVE_", "_GUARD")) or name == "FEATURE")


def melted(source: str, header: str, **values: str) -> str:
    layer = CompatLayer(symbols(**values), code(header), frozenset({"compat.h"}))
    return melt(code(source), layer)


# -- tokens ----------------------------------------------------------------------------------


@given(st.text(alphabet="ab1 \t\n\"'/*\\#(){}[];,.=-+<>&|!", max_size=200))
def test_tokens_join_to_the_same_text(text: str) -> None:
    assert ctokens.join(ctokens.tokenize(text)) == text


def test_items_are_told_apart() -> None:
    text = code("""
        #include <a.h>
        struct s { int a; };
        static const struct s table[] = { { 1 }, };
        /* says something */
        static int f(struct s *s)
        {
            return s->a; /* } */
        }
        MODULE_LICENSE("GPL; really");
    """)
    found = ctokens.top_level(text)
    assert "".join(item.text for item in found) == text
    assert [(item.kind, item.name) for item in found[:4]] == [
        ("directive", ""),
        ("declaration", "s"),
        ("declaration", "table"),
        ("function", "f"),
    ]
    assert [item.is_static for item in found[:4]] == [False, False, True, True]


# -- conditions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ("defined(HAVE_A)", True),
        ("!defined HAVE_B", True),
        ("defined(HAVE_B) && defined(CONFIG_X)", False),
        ("defined(HAVE_A) && defined(CONFIG_X)", "defined(CONFIG_X)"),
        ("defined(HAVE_B) || !defined(CONFIG_X)", "!defined(CONFIG_X)"),
        ("!(defined(CONFIG_X) || defined(HAVE_B))", "!defined(CONFIG_X)"),
        ("HAVE_A", True),
        ("HAVE_B", False),
        ("0 || defined(HAVE_A)", True),
        ("(defined(CONFIG_X) || CONFIG_Y) && HAVE_A", "defined(CONFIG_X) || CONFIG_Y"),
        (
            "(defined(CONFIG_X) || CONFIG_Y) && CONFIG_Z",
            "(defined(CONFIG_X) || CONFIG_Y) && CONFIG_Z",
        ),
    ],
)
def test_a_condition_is_decided_as_far_as_it_goes(condition: str, outcome: object) -> None:
    assert conditions.evaluate(condition, symbols(HAVE_A="1")) == outcome


@pytest.mark.parametrize("condition", ["LINUX_VERSION_CODE >= 3", "IS_ENABLED(CONFIG_X)", "1 &&"])
def test_a_condition_of_another_kind_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        conditions.evaluate(condition, symbols())


def test_every_branch_of_a_chain_can_be_the_one() -> None:
    text = "#ifdef HAVE_A\na\n#elif defined(HAVE_B)\nb\n#else\nc\n#endif\n"
    for values, left in (({"HAVE_A": "1"}, "a"), ({"HAVE_B": "1"}, "b"), ({}, "c")):
        assert conditions.resolve(text, symbols(**values))[0] == f"{left}\n"


def test_a_chain_keeps_what_it_does_not_know() -> None:
    text = "#if defined(HAVE_A)\na\n#elif defined(CONFIG_X)\nx\n#else\nc\n#endif\n"
    assert conditions.resolve(text, symbols())[0] == "#ifdef CONFIG_X\nx\n#else\nc\n#endif\n"


def test_a_feature_becomes_the_condition_that_it_stands_for() -> None:
    source = "#ifdef FEATURE\nint a;\n#else\nint b;\n#endif\n"
    header = "#if defined(HAVE_A) && defined(CONFIG_X)\n#define FEATURE 1\n#endif\n"
    assert "#ifdef CONFIG_X\nint a;\n#else\nint b;\n#endif" in melted(source, header, HAVE_A="1")
    assert melted(source, header) == "int b;\n"


@pytest.mark.parametrize("text", ["#if 1\n", "#endif\n", "#else\n"])
def test_unbalanced_conditionals_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="without"):
        conditions.resolve(text, symbols())


# -- macros ----------------------------------------------------------------------------------


def expanded(text: str, *defines: str) -> str:
    made = [Macro.from_define(define) for define in defines]
    return expand(text, {macro.name: macro for macro in made if macro})


@pytest.mark.parametrize(
    ("define", "before", "after"),
    [
        ("#define hook(par) ((par)->hooknum)", "x = hook(p);", "x = p->hooknum;"),
        ("#define dst(s) ((struct d *)(s)->dst)", "r = dst(skb);", "r = (struct d *)skb->dst;"),
        ("#define set(s, e) ((s)->dst = (e))", "set(skb, a + b);", "skb->dst = (a + b);"),
        ("#define dst(s) ((s)->dst)", "r = dst(&skb);", "r = (&skb)->dst;"),
        ("#define put(s) f((s), 1)", "put(&skb);", "f(&skb, 1);"),
        ("#define neg(a) (-(a))", "x = neg(y + 1) * 2;", "x = -(y + 1) * 2;"),
        ("#define inc(a) ((a) + 1)", "x = !inc(y);", "x = !(y + 1);"),
        ("#define inc(a) ((a) + 1)", "x = *inc(p);", "x = *(p + 1);"),
        ("#define inc(a) ((a) + 1)", "x = (u8)inc(p);", "x = (u8)(p + 1);"),
        ("#define inc(a) ((a) + 1)", "x = inc(p)->q;", "x = (p + 1)->q;"),
        ("#define sum(a, b) ((a) + (b))", "x = 2 * sum(y, z);", "x = 2 * (y + z);"),
        ("#define sum(a, b) ((a) + (b))", "x = 2 - sum(y, z);", "x = 2 - (y + z);"),
        ("#define same(a) ((a) == B)", "if (same(x) && y)", "if (x == B && y)"),
        ("#define same(a) ((a) == B)", "if (!same(x))", "if (x != B)"),
        ("#define f(x, y) f(x)", "f(a, b);", "f(a);"),
        ("#define f(x) f((t *)(x))", "g(f(f(a)));", "g(f((t *)f((t *)a)));"),
        (
            "#define log(f, ...) printk(P f, ##__VA_ARGS__)",
            'log("a", 1, 2);',
            'printk(P "a", 1, 2);',
        ),
        ("#define log(f, ...) printk(P f, ##__VA_ARGS__)", 'log("a");', 'printk(P "a");'),
        ('#define say(o) " " o', 'p(say("x"));', 'p(" x");'),
        ("#define nothing(x) do { } while (0)", "\tnothing(a);\n\tb;\n", "\tb;\n"),
        ("#define opt(x) (defined(x) || defined(x ## _M))", "opt(A)", "defined(A) || defined(A_M)"),
        ("#define two(p) (*(p) = 0, f(p))", "t = two(&x);", "t = (x = 0, f(&x));"),
    ],
)
def test_a_macro_is_written_out(define: str, before: str, after: str) -> None:
    assert expanded(before, define) == after


def test_numbers_keep_their_names_and_statements_their_macros() -> None:
    assert Macro.from_define("#define LIMIT 0x10") is None
    assert Macro.from_define("#define both(x) do { a(x); b(x); } while (0)") is None


def test_a_wrapper_that_would_do_its_argument_twice_stays() -> None:
    header = "static inline int twice(int x)\n{\n\treturn x + x;\n}\n"
    assert "return y + y;" in melted("int f(int y)\n{\n\treturn twice(y);\n}\n", header)
    kept = melted("int f(int y)\n{\n\treturn twice(g(y));\n}\n", header)
    assert "static int twice(int x)" in kept
    assert "return twice(g(y));" in kept


# -- melting ---------------------------------------------------------------------------------


def test_only_what_is_used_of_the_layer_is_carried_over() -> None:
    header = """
        #ifndef _GUARD_H
        #define _GUARD_H
        /* stands apart */

        /* 2.6.30: for the old ones */
        #ifndef HAVE_A
        static inline int a(int x)
        {
            int y = x;

            return b(y);
        }
        #endif
        static int b(int x)
        {
            x++;
            return x + LIMIT;
        }
        #define LIMIT 3
        static int unused(int x)
        {
            x++;
            return x;
        }
        #endif
    """
    source = (
        '#include <z.h>\n#include "compat.h"\n\nint limit;\n\nint f(void)\n{\n\treturn a(1);\n}\n'
    )
    old = melted(source, header)
    assert "unused" not in old
    assert "compat.h" not in old
    assert "2.6.30" not in old
    assert "apart" not in old
    assert old.index("#define LIMIT") < old.index("int limit") < old.index("static int a(int x)")
    assert old.index("static int a(int x)") < old.index("static int b") < old.index("int f(void)")
    assert melted(source, header, HAVE_A="1") == code("""
        #include <z.h>

        int limit;

        int f(void)
        {
            return a(1);
        }
    """)


def test_a_header_is_put_among_its_neighbours() -> None:
    text = (
        "#include <linux/a.h>\n#include <linux/k.h>\n#include <linux/k/z.h>\n#include <net/b.h>\n"
    )
    names = with_include(with_include(text, "linux/k/b.h"), "asm/x.h").splitlines()
    assert names == [
        "#include <linux/a.h>",
        "#include <linux/k.h>",
        "#include <linux/k/b.h>",
        "#include <linux/k/z.h>",
        "#include <net/b.h>",
        "#include <asm/x.h>",
    ]
    assert with_include(text, "net/b.h") == text


# -- pruning ---------------------------------------------------------------------------------


def test_what_is_superfluous_goes() -> None:
    text = code("""
        struct net;

        #define UNUSED 1

        static int never(void)
        {
            return 1;
        }

        /**
         * add - add one
         * @net: nobody asks
         * @x: what to add to
         */
        static int add(struct net *net, int x, struct net *other)
        {
            return x + 1;
        }

        int f(struct s *par)
        {
            struct net *net = par->net;
            int mark;

            mark = 0;
            if (false) {
                g();
            } else {
                h();
                k();
            }
            return add(net, 1, net);
        }
    """)
    left = prune(text)
    for gone in ("struct net", "UNUSED", "never", "mark", "g();", "@net"):
        assert gone not in left
    assert "static int add(int x)" in left
    assert "\th();\n\tk();\n" in left
    assert "return add(1);" in left


@pytest.mark.parametrize(
    "kept",
    [
        "static int x;\nint f(void)\n{\n\treturn x;\n}\n",
        "#ifdef CONFIG_A\nstatic int f(int x)\n{\n\treturn x;\n}\n#else\n"
        "static int f(int x)\n{\n\treturn 0;\n}\n#endif\nint y = f(1);\n",
        "static int cb(int unused)\n{\n\treturn 1;\n}\nstruct ops o = { .f = cb };\n",
        "int f(void)\n{\n\tint x = g();\n\n\treturn 1;\n}\n",
    ],
)
def test_what_has_a_purpose_stays(kept: str) -> None:
    assert prune(kept) == kept


# -- idioms ----------------------------------------------------------------------------------


def test_an_idiom_is_rewritten_whatever_its_white_space() -> None:
    rule = Rewrite("f($a, old($b))", "g($b, $a)", "")
    assert rule.apply("x = f(1 + h(2, 3),\n\told(y));") == "x = g(y, 1 + h(2, 3));"


def test_a_statement_takes_its_line_with_it() -> None:
    assert Rewrite("gone($x);", "", "").apply("\ta();\n\tgone(1);\n\tb();\n") == "\ta();\n\tb();\n"


def test_a_rule_can_be_for_one_function() -> None:
    text = "int f(void)\n{\n\treturn 0;\n}\nint g(void)\n{\n\treturn 0;\n}\n"
    changed = Rewrite("return 0;", "return 1;", "", within=("g",)).apply(text)
    assert changed == text[: text.index("int g")] + text[text.index("int g") :].replace("0", "1")


def test_a_rule_that_finds_nothing_is_an_error() -> None:
    with pytest.raises(LookupError, match="nothing looks like 'f\\(x\\)'"):
        Rewrite("f(x)", "", "").apply("g(x);")


def test_the_same_name_means_the_same_text() -> None:
    rule = Rewrite("max($a, $a)", "$a", "")
    assert rule.apply("max(1, 2) + max(3, 3)") == "max(1, 2) + 3"


# -- layout ----------------------------------------------------------------------------------


def test_new_statements_are_wrapped_and_old_ones_left_alone() -> None:
    old = "\tx = f(a,\n\t  b);\n"
    new = "\tanswer = some_function(the_first_argument, the_second_argument, the_third_one, d);\n"
    laid = relaid(old + new, [old])
    assert laid.startswith(old)
    assert laid.removeprefix(old) == (
        "\tanswer = some_function(the_first_argument, the_second_argument,\n"
        "\t\t\t       the_third_one, d);\n"
    )


def test_a_statement_that_shrank_is_joined_again() -> None:
    assert relaid("\tx = f(a,\n\t      b);\n", []) == "\tx = f(a, b);\n"


def test_a_message_goes_on_in_the_next_line_but_what_it_quotes_does_not() -> None:
    says = 'only valid in one of the many tables and chains, not in the \\"other one\\"'
    text = f'\terror(A_PROBLEM,\n\t      "{says}");\n'
    assert relaid(text, [text]) == (
        "\terror(A_PROBLEM,\n"
        '\t      "only valid in one of the many tables and chains, not in the "\n'
        '\t      "\\"other one\\"");\n'
    )
    assert relaid(text, [text], split=False) == text


def test_a_function_that_is_used_often_is_kept() -> None:
    header = "static inline int rol(int x)\n{\n\treturn x << 1;\n}\n"
    used = "int f(int x)\n{\n\treturn " + " + ".join(["rol(x)"] * 4) + ";\n}\n"
    assert "static int rol(int x)" in melted(used, header)
    assert "rol" not in melted(used.replace(" + rol(x)", "", 1), header)


@given(
    st.lists(
        st.sampled_from(["alpha", "beta_gamma", "f(x, y)", "delta->e"]), min_size=1, max_size=14
    )
)
def test_no_line_of_calls_is_too_long(arguments: list[str]) -> None:
    text = f"\tcall({', '.join(arguments)});\n"
    laid = relaid(text, [])
    assert all(len(line.expandtabs(8)) <= WIDTH for line in laid.splitlines())
    assert "".join(laid.split()) == "".join(text.split())
