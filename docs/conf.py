"""How Sphinx renders these pages; ``invoke docs`` runs it."""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

project = "TARPIT"
author = "the tarpit-builder contributors"
extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "colon_fence"]
html_theme = "furo"
html_title = "TARPIT for netfilter"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["manual.css"]
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

MANUAL_PAGE = re.compile(r"(xt-tarpit[\w-]*|tarpit)\(([1-8])\)")


class ManualPageLinks(SphinxTransform):
    """``xt-tarpit(8)``, set as code, leads to that page."""

    default_priority = 400

    def apply(self, **_: object) -> None:
        """Wrap each such literal in a reference to its document, where that is of ours."""
        for literal in list(self.document.findall(nodes.literal)):
            if not (match := MANUAL_PAGE.fullmatch(literal.astext())):
                continue
            page = f"/man/{match[1]}.{match[2]}"
            if page[1:] not in self.env.found_docs:
                continue
            link = pending_xref(
                "",
                literal.deepcopy(),
                refdomain="std",
                reftype="doc",
                reftarget=page,
                refdoc=self.env.docname,
                refexplicit=True,
                refwarn=True,
            )
            literal.replace_self(link)


def setup(app: Sphinx) -> None:
    """What the pages need beside MyST."""
    app.add_transform(ManualPageLinks)
