#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A static iptables from 1.4.1 on, with all its extensions and TARPIT in it.  Results: /out/sbin/*, /out/man/*.
#   /iptables            the release's tree, or its tarball's
#   /src                 the extension's source
#   /layer               compiler and edits, see tarpit_builder/kernels/toolchain.py
#   KARCH, JOBS, IPTABLES (the release)
# shellcheck disable=SC2154
set -eu
# shellcheck source=containers/upstream/lib.sh
. /scripts/lib.sh

tree=/build/iptables
cp -r /iptables "$tree"
toolchain "$tree"
# All that lies there is built, so it becomes an extension like any other, with its part of the manual.
cp /src/* "$tree/extensions/"
# From 1.4.4 to 1.4.15 a family's manual has the extensions that name the family so in their source.
echo '/* NFPROTO_IPV4, NFPROTO_IPV6 */' >> "$tree/extensions/libxt_TARPIT.c"
cd "$tree"
if [ -e configure ]; then
	# A tarball's own.  By their times of today, make would take it and what it is made from for changed.
	find . -exec touch -d @0 {} +
else
	mkdir -p m4
	autoreconf -fi > /build/autoreconf.log 2>&1 || { tail -n 30 /build/autoreconf.log; exit 1; }
	echo "made configure"
fi
# The kernel's own headers that those of iptables include are today's, which only adds to them.
./configure --host="$KARCH-linux-musl" --prefix= --disable-shared --enable-static --disable-devel --disable-nftables \
	CC="sh /layer/cc -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu" CFLAGS=-O2 \
	> /build/configure.log 2>&1 || { tail -n 30 /build/configure.log; exit 1; }
echo "configured"
make -s -j"$JOBS" LDFLAGS=-all-static > /build/make.log 2>&1 || { tail -n 60 /build/make.log; exit 1; }

# One program that goes by the name that it is called by; up to 1.4.10 one for each family.
program() {
	for name in xtables-legacy-multi xtables-multi "$1-multi" "$1-static"; do
		find . -type f -name "$name" -perm /100
	done | head -n 1
}
mkdir /out/sbin /out/man
for family in iptables ip6tables; do
	made=$(program "$family")
	# Without CAP_NET_RAW, which a sealed run has not, it does not answer, so its symbols are asked.
	if ! nm "$made" | grep -q ' libxt_TARPIT_init$'; then
		echo "$family was built, but does not know TARPIT"
		exit 1
	fi
	if readelf -l "$made" | grep INTERP; then
		echo "$family was built, but is not static"
		exit 1
	fi
	for name in "$family" "$family-save" "$family-restore"; do
		cp "$made" "/out/sbin/$name"
	done
done
cp /out/sbin/iptables /out/sbin/iptables-xml
strip /out/sbin/*
find . -name 'ip*tables*.[18]' ! -name '*-apply.8' -type f | while read -r page; do
	cp "$page" "/out/man/"
done
echo "built iptables $IPTABLES"
