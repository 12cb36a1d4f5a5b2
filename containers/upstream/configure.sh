#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Sourced after lib.sh by what needs a configured kernel: makes the farm /build/linux, its .config, run_make and run_kconfig.
#   KARCH                the architecture's name in the kernel
#   JOBS                 processes at once
#   SUFFIX               what follows the version in `uname -r`, or nothing
#   /layer               the toolchain layer, see tarpit_builder/kernels/toolchain.py
#   /request/config      the user's .config, or /request/fragment, what ours has beside allnoconfig
# shellcheck disable=SC2154

linux=/build/linux
farm /kernel "$linux"

run_make() {
	while read -r argument; do set -- "$@" "$argument"; done < /layer/make
	make -s -C "$linux" -j"$JOBS" ARCH="$KARCH" "$@"
}

# What somebody's make left is of another configuration, and links to it cannot be written to.
for left in .config include/config include/asm scripts/basic/fixdep scripts/kconfig/conf; do
	if [ -e "/kernel/$left" ] || [ -h "/kernel/$left" ]; then
		# What it does not take for files, as here all are links.
		find "$linux/" -type l \( -name '*.o' -o -name '*.ko' -o -name '*.mod.c' -o -name '.*.cmd' -o -name '.*.d' \) -delete
		run_make mrproper
		break
	fi
done
toolchain "$linux"

# run_kconfig ARGUMENT...: the same, without the look for curses that kconfig repeats for each of its files.
# Not where the tree itself has a use for that variable.
run_kconfig() {
	if grep -qs HOST_EXTRACFLAGS "$linux/arch/x86/tools/Makefile"; then
		run_make "$@"
	else
		run_make HOST_EXTRACFLAGS=-DKBUILD_NO_NLS "$@"
	fi
}

configure() {
	if [ -e /request/config ]; then
		cp /request/config "$linux/.config"
		yes '' | run_kconfig oldconfig > /build/config.log 2>&1 || { tail -n 30 /build/config.log; exit 1; }
	else
		cp /request/fragment /build/fragment
		# What the headers of some trees cannot do without.
		while IFS='	' read -r file pattern setting; do
			! grep -qs -e "$pattern" "/kernel/$file" || echo "$setting" >> /build/fragment
		done < /layer/settings
		run_kconfig KCONFIG_ALLCONFIG=/build/fragment allnoconfig > /build/config.log 2>&1 ||
			{ tail -n 30 /build/config.log; exit 1; }
	fi
	if [ -n "$SUFFIX" ]; then
		# Not a localversion file: what is in those comes before the configuration's own.
		sed -i '/CONFIG_LOCALVERSION\(_AUTO\)\{0,1\}[= ]/d' "$linux/.config"
		printf 'CONFIG_LOCALVERSION="%s"\n' "$SUFFIX" >> "$linux/.config"
		echo '# CONFIG_LOCALVERSION_AUTO is not set' >> "$linux/.config"
	fi
	# Two rules of 3.2 to 3.9 make fixdep, and would do so at the same time.
	if grep -qs '^archscripts:$' "$linux/arch/x86/Makefile"; then
		run_make scripts_basic
	fi
}
