#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The modules, in a build tree that lies ready below /kernel.  Results: /out/MODULE.ko, /out/tarpit.ko on kernels for it,
# /out/toolchain.txt.
#   TREE                 the tree's place below /kernel
#   KARCH                the architecture's name in the kernel
#   CROSS                what the programs of the compiler's package begin with, or nothing
#   MODULE               name of the module; /src has MODULE.c and a Kbuild for it
#   REBUILD              not empty: the tree's own programs do not run here, and are compiled anew
#   RELEASE              what uname -r says of that kernel
#   JOBS                 processes at once
#   /layer               the toolchain layer, see tarpit_builder/kernels/toolchain.py
# shellcheck disable=SC2154
set -eu
# shellcheck source=containers/upstream/lib.sh
. /scripts/lib.sh

linux=/kernel/$TREE
# What changes the tree works on links to it.
if [ -n "$REBUILD" ] || [ -d /layer/patches ] || [ -s /layer/edits ] || ! command -v pahole > /dev/null; then
	farm /kernel /build/kernel
	linux=/build/kernel/$TREE
	if grep -qs ' */kernel/\|=/kernel/' "$linux/Makefile" && [ "$(wc -c < "$linux/Makefile")" -lt 8192 ]; then
		sed 's,\([ =]\)/kernel/,\1/build/kernel/,g' "/kernel/$TREE/Makefile" > /build/stub
		cp --remove-destination /build/stub "$linux/Makefile"
	fi
	# Without pahole there is no type information for the module, which then loads all the same.
	command -v pahole > /dev/null || rm -f "$linux/vmlinux"
	toolchain "$linux"
fi

run_make() {
	while read -r argument; do set -- "$@" "$argument"; done < /layer/make
	make -s -C "$linux" -j"$JOBS" ARCH="$KARCH" CROSS_COMPILE="$CROSS" "$@"
}

# unbuilt PROGRAM LOG: it cannot be compiled, as the log says.
unbuilt() {
	cat "$2"
	refuse "the programs of this build tree do not run here, and of $1 there is no source that compiles: $(
		(grep -m 1 'rror: \|\*\*\* ' "$2" || tail -n 1 "$2") | tr '|' ' '
	)" "on the machine itself, make -C dkms of this project builds the module"
}

# compile PROGRAM SOURCE...: one of the tree's own programs.
compile() {
	program=$1
	shift
	sources=
	for source; do [ ! -e "$linux/$source" ] || sources="$sources $linux/$source"; done
	rm -f "$linux/$program"
	# shellcheck disable=SC2086
	sh /layer/hostcc -O2 -w -I "$linux/scripts/include" -I "$linux/scripts/mod" -o "$linux/$program" $sources \
		> /build/said 2>&1 || unbuilt "$program" /build/said
	echo "compiled $program"
}

if [ -n "$REBUILD" ]; then
	compile scripts/basic/fixdep scripts/basic/fixdep.c
	compile scripts/mod/modpost scripts/mod/modpost.c scripts/mod/file2alias.c scripts/mod/sumversion.c \
		scripts/mod/symsearch.c
	if [ -e "$linux/tools/objtool/objtool" ]; then
		# Where it is built must not be links, nor what the first build left.
		for folder in tools/objtool tools/build tools/lib; do
			[ -d "$linux/$folder" ] || continue
			rm -rf "${linux:?}/$folder"
			cp -rL "/kernel/$TREE/$folder" "$linux/$folder"
			find "$linux/$folder" \( -name '*.o' -o -name '*.a' -o -name '.*.d' -o -name '.*.cmd' \) -delete
		done
		rm -f "$linux/tools/objtool/objtool"
		# Not by way of the tree's Makefile, which wants to configure the kernel first.  CONFIG_SHELL would only
		# compare copies of files, with some that packages leave out.
		make -s -C "$linux/tools/objtool" -j"$JOBS" ARCH="$KARCH" CC="sh /layer/hostcc" HOSTCC="sh /layer/hostcc" \
			LD=ld AR=ar CONFIG_SHELL=true > /build/said 2>&1 || unbuilt objtool /build/said
		if [ ! -x "$linux/tools/objtool/objtool" ]; then
			unbuilt objtool /build/said
		fi
		echo "compiled tools/objtool/objtool"
	fi
	# It would be needed for the type information only.
	rm -f "$linux/vmlinux"
fi

# A program that cannot even be loaded would end the build with a riddle.
for program in scripts/basic/fixdep scripts/mod/modpost tools/objtool/objtool; do
	[ -x "$linux/$program" ] || continue
	status=0
	"$linux/$program" > /build/said 2>&1 < /dev/null || status=$?
	case $status in
	126 | 127) refuse "$program of this build tree does not run here: $(head -n 1 /build/said | tr '|' ' ')" \
		"on the machine itself, make -C dkms of this project builds the module" ;;
	esac
done

compile_module
built=/build/module/$MODULE.ko
sh /build/module/compat/exported.sh "$linux/Module.symvers" /build/module/*.ko
for each in /build/module/*.ko; do
	finish "$each"
	"${CROSS}strip" --strip-debug "$each"
done
vermagic=$("${CROSS}objcopy" -O binary --only-section=.modinfo "$built" /dev/stdout | tr '\0' '\n' |
	sed -n 's/^vermagic=\([^ ]*\) .*/\1/p')
[ "$vermagic" = "$RELEASE" ] || refuse "this tree makes modules for $vermagic, although it says that it is of $RELEASE" \
	"unpack the headers of that kernel anew, all of its packages from one version"
cp /build/module/*.ko /out/
versions "sh /layer/cc" "${CROSS}ld" make > /out/toolchain.txt
echo "built $MODULE.ko for $RELEASE"
