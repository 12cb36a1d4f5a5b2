"""Where the trees of a build come from."""

from __future__ import annotations

from dataclasses import dataclass, field

from tarpit_builder import sources
from tarpit_builder.console import Console
from tarpit_builder.errors import UserError
from tarpit_builder.plan import Choice
from tarpit_builder.sources import (
    FetchedTree,
    GitRepository,
    IptablesSource,
    Options,
    Tarball,
    outlook,
)
from tarpit_builder.sources.context import Context
from tarpit_builder.sources.store import Store
from tarpit_builder.upstream.plan import UpstreamPlan
from tarpit_builder.versions import IptablesVersion, KernelVersion


@dataclass(frozen=True, slots=True)
class Trees:
    """Where source trees come from: release tarballs, unless a repository or folder is named."""

    store: Store
    kernel_git: str = ""
    ref: str = ""
    kernel_tree: str = ""
    iptables_git: str = ""
    options: Options = field(default_factory=Options)

    def kernel(self, version: KernelVersion, console: Console) -> FetchedTree:
        """The verified tree of the kernel that is built for.

        :raises UserError: if ``--kernel-tree`` or ``--ref`` is another release.
        """
        source = sources.kernel_source(
            version, git=self.kernel_git, ref=self.ref, tree=self.kernel_tree
        )
        tree = sources.fetch_kernel(source, self.store, console, options=self.options)
        if isinstance(tree.version, KernelVersion) and tree.version != version:
            raise UserError(
                f"{tree.origin} is Linux {tree.version}, not {version}",
                hint=f"add --kernel {tree.version}, or name another tree",
            )
        return tree

    def words(self) -> tuple[str, ...]:
        """The options of a command that say the same, as separate words."""
        named = {
            "--kernel-git": self.kernel_git,
            "--ref": self.ref,
            "--kernel-tree": self.kernel_tree,
            "--iptables-git": self.iptables_git,
        }
        words = [word for option, value in named.items() if value for word in (option, value)]
        return (*words, *(("--trust-on-first-use",) if self.options.trust_on_first_use else ()))

    def outlook(self, plan: UpstreamPlan) -> tuple[Choice, ...]:
        """Where each tree of *plan* comes from and how it is checked; nothing is fetched.

        :raises UserError: if options contradict each other, or name what is not there.
        """
        context = Context.of(self.store, Console(quiet=True), self.options)
        source = sources.kernel_source(
            plan.kernel, git=self.kernel_git, ref=self.ref, tree=self.kernel_tree
        )
        found = [(plan.kernel.stem, outlook.of_kernel(source, plan.kernel, context))]
        if plan.iptables:
            version, headers = plan.iptables.version, plan.iptables.rule.headers
            found.append(
                (version.stem, outlook.of_iptables(self._tools(version), version, context))
            )
            if headers != plan.kernel:
                source = sources.kernel_source(headers, git=self.kernel_git)
                found.append((headers.stem, outlook.of_kernel(source, headers, context)))
        return tuple(
            Choice("source", f"{name}: {seen.place}", f"verified by: {seen.verified}")
            for name, seen in found
        )

    def headers(self, version: KernelVersion, console: Console) -> FetchedTree:
        """The verified tree of another release, whose headers iptables needs."""
        source = sources.kernel_source(version, git=self.kernel_git)
        return sources.fetch_kernel(source, self.store, console, options=self.options)

    def iptables(self, version: IptablesVersion, console: Console) -> FetchedTree:
        """The verified tree of an iptables release."""
        return sources.fetch_iptables(
            self._tools(version), self.store, console, options=self.options
        )

    def _tools(self, version: IptablesVersion) -> IptablesSource:
        return GitRepository(self.iptables_git, version) if self.iptables_git else Tarball(version)

    def for_iptables(
        self, plan: UpstreamPlan, console: Console, kernel: FetchedTree
    ) -> tuple[FetchedTree, ...]:
        """The tree of the iptables of *plan*, and the one whose headers it is built against.

        *kernel* is that of the kernel that is built for; empty if no iptables is built.
        """
        if plan.iptables is None:
            return ()
        headers = kernel
        if plan.iptables.rule.headers != plan.kernel:
            headers = self.headers(plan.iptables.rule.headers, console)
        return self.iptables(plan.iptables.version, console), headers
