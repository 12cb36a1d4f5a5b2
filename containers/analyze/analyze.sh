#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What static analysers say of our C, one file for each: /out/ANALYSER.txt, with names of files from the top of
# the project.
#   analyze.sh KERNEL-ABI COMPILER ANALYSER...
#   /src/dkms, /src/containers   the sources
#   /kernel                      the kernel's header packages, unpacked
# Ends with another status than 0 where an analyser could not look; what it found is no failure here.
set -eu
abi=$1 compiler=$2
shift 2
headers=/usr/src/linux-headers-$abi
scripts=/usr/share/linux/scripts
userland="containers/proof/agent.c containers/proof/fuzz.c containers/proof/load.c containers/upstream/modprobe.c"
modules="xt_TARPIT tarpit"
cp -r /src /build/tree
cd /build/tree

# compile [ARGUMENT...]: the modules' objects, as the kernel's build system makes them
compile() {
	# shellcheck disable=SC2046,SC2086
	make -s -C "$headers" M=/build/tree/dkms "$@" $(printf '%s.o ' $modules) > /build/log 2>&1 || {
		echo "the modules do not compile:" >&2
		tail -n 20 /build/log >&2
		exit 1
	}
}

compiled=
# flags MODULE [FILTER]: what its source is compiled with, a word a line; relative paths are from the headers
flags() {
	[ -n "$compiled" ] || {
		echo "the modules were not compiled" >&2
		exit 1
	}
	sed -n 's/^savedcmd_[^:]*:= *[^ ]* //p' "dkms/.$1.o.cmd" | sed 's/ ; .*//' | tr -s ' ' '\n' |
		grep -v '^-Wp,\|^-c$\|^-o$\|\.[oc]$'
}

sparse() {
	compile C=2 CF=-D__CHECK_ENDIAN__
	compiled=yes
	cat /build/log
}

checkpatch() {
	# It ends with 1 where it finds something.  What the compilation leaves beside the sources is not in /src.
	cd /src
	perl "$scripts/checkpatch.pl" --no-tree --strict --terse --no-summary --file \
		dkms/*.[ch] dkms/compat/*.h dkms/compat/include/*/*.h dkms/compat/probes/*.c 2> /build/errors || :
	cd /build/tree
	if [ -s /build/errors ]; then
		cat /build/errors >&2
		exit 1
	fi
}

# Both analysers read a kernel's source with what its own compiler was told; clang gets what changes the meaning.
gcc() {
	for module in $modules; do
		flags "$module" > /build/flags
		(cd "$headers" && eval "$compiler -fanalyzer -fanalyzer-call-summaries $(tr '\n' ' ' < /build/flags)" \
			-c -o /dev/null "/build/tree/dkms/$module.c" 2>&1)
	done
	# shellcheck disable=SC2046
	"$compiler" -fanalyzer -O2 -Wall $(pkg-config --cflags xtables) -fPIC -c -o /dev/null dkms/libxt_TARPIT.c 2>&1
	for source in $userland; do
		"$compiler" -fanalyzer -std=gnu11 -O2 -Wall -Wextra -c -o /dev/null "$source" 2>&1
	done
}

clang() {
	for module in $modules; do
		flags "$module" | awk '
			more { print; more = 0; next }
			/^-(include|idirafter|isystem)$/ { print; more = 1; next }
			/^-(D|I|std=|nostdinc|fshort-wchar|funsigned-char|fno-strict-aliasing|m64|mcmodel=)/' > /build/flags
		(cd "$headers" && eval "command clang --analyze -w $(tr '\n' ' ' < /build/flags)" \
			-o /dev/null "/build/tree/dkms/$module.c" 2>&1)
	done
	# shellcheck disable=SC2046
	command clang --analyze $(pkg-config --cflags xtables) -o /dev/null dkms/libxt_TARPIT.c 2>&1
	for source in $userland; do
		command clang --analyze -std=gnu11 -o /dev/null "$source" 2>&1
	done
}

coccinelle() {
	find "$scripts/coccinelle" -name '*.cocci' | sort | while read -r script; do
		if ! grep -q 'virtual report' "$script"; then
			continue
		fi
		if grep -q '^@.*script:ocaml\|^@.*initialize:ocaml' "$script"; then
			echo "${script#"$scripts"/} is for OCaml, and was not run" >&2
			continue
		fi
		# shellcheck disable=SC2046
		spatch -D report --no-show-diff --very-quiet --include-headers $(sed -n 's,^// Options: *,,p' "$script") \
			--cocci-file "$script" dkms/*.[ch] dkms/compat/*.h 2> /build/errors || {
			cat /build/errors >&2
			exit 1
		}
	done
}

for analyser do
	case $analyser in
		gcc | clang) [ -n "$compiled" ] || { compile; compiled=yes; } ;;
	esac
	echo "### $analyser"
	"$analyser" > "/build/$analyser.txt"
	sed "s,/build/tree/,,g; s,$headers/,<linux>/,g; s,/usr/src/linux-headers-[^/]*-common/,<linux>/,g" \
		"/build/$analyser.txt" > "/out/$analyser.txt"
done
