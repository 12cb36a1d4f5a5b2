#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What the scripts of this folder share.

# refuse MESSAGE HINT: the request cannot be met; tarpit_builder/sealed.py turns this line into its error.
refuse() {
	echo "refused: $1|$2"
	exit 3
}

# farm FROM TO: a tree of links, so that FROM stays as it is and little is copied.
farm() {
	mkdir -p "$2"
	cp -rs "$1/." "$2"
}

# changed PATCH: the files that PATCH touches.
changed() {
	sed -n 's,^[-+]\{3\} [ab]/\([^[:space:]]*\).*,\1,p' "$1" | sort -u
}

# apply PATCH TREE: make copies of what PATCH changes, and change those.
apply() {
	changed "$1" | while read -r file; do
		if [ -h "$2/$file" ]; then
			cp --remove-destination "$(readlink "$2/$file")" "$2/$file"
		fi
	done
	patch -s -p1 -N -E -F0 -d "$2" < "$1" || refuse "$(basename "$1") does not apply to this tree" \
		"is it changed already? use a pristine one: leave --kernel-tree out"
}

# has PATCH TREE: the tree is as PATCH makes it, as late point releases are.
has() {
	patch -s -p1 -R -f -F0 --dry-run -d "$2" < "$1" > /dev/null 2>&1
}

# probed FOLDER: what the module's probes found there; tarpit_builder/porting/log.py reads these lines.
probed() {
	for file in "$1/tarpit-probes.h" "$1/tarpit-probes.h.log"; do
		[ ! -e "$file" ] || sed "s/^/${file##*/}: /" "$file"
	done
}

# needs PATCH TREE: the tree has what PATCH is there for; NAME.where beside NAME.patch has a file and a pattern.
needs() {
	[ -e "${1%.patch}.where" ] || return 0
	IFS='	' read -r file pattern < "${1%.patch}.where"
	grep -qs -e "$pattern" "$2/$file"
}

# toolchain TREE: apply the layer's patches, and its edits of files that are there.
toolchain() {
	for patch in /layer/patches/*.patch; do
		if [ -e "$patch" ] && needs "$patch" "$1" && ! has "$patch" "$1"; then
			apply "$patch" "$1"
		fi
	done
	# A link to the tree gives way to a file of its own.
	while IFS='	' read -r file expression; do
		[ ! -e "$1/$file" ] || sed -i -e "$expression" "$1/$file"
	done < /layer/edits
}

# finish MODULE: the layer's last steps, each where the tree, $linux, does not have what makes it superfluous.
finish() {
	while IFS='	' read -r program file pattern; do
		if [ -z "$file" ] || ! grep -qs -e "$pattern" "${linux:?}/$file"; then
			perl "/scripts/$program" "$1"
		fi
	done < /layer/finish
}

# compile_module: make what is in /src, in /build/module, by run_make; what make says comes last, as the end of the log tells
# why a build failed.  INSTRUMENT has what a debug kernel wants to know of it.
compile_module() {
	mkdir /build/module
	cp -r /src/. /build/module
	status=0
	# shellcheck disable=SC2086
	run_make M=/build/module ${INSTRUMENT:-} modules > /build/make.log 2>&1 || status=$?
	probed /build/module
	cat /build/make.log
	[ "$status" -eq 0 ] || exit 1
}

# versions PROGRAM...: what made the module, as toolchain.txt has it.
versions() {
	for program; do
		$program --version | head -n 1
	done
}
