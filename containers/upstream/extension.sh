#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The TARPIT extension for an iptables that loads extensions.  Result: /out/libxt_TARPIT.so.
#   /iptables            the release's tree, or its tarball's
#   /src                 the extension's source
#   /layer               the compiler, see tarpit_builder/kernels/toolchain.py
#   IPTABLES             the release
set -eu

include=/build/include
cp -r /iptables/include "$include"
# What configure makes of it.  iptables refuses an extension that was not built for its own interface, which it counts by
# libtool's rule: current less age.
number() { sed -n "s/^libxtables_$1=\([0-9]*\)\$/\1/p" /iptables/configure.ac | grep . || echo 0; }
current=$(number vcurrent)
major=$((current - $(number vage)))
for made in xtables.h iptables/internal.h xtables-version.h; do
	if [ -e "$include/$made.in" ] && [ ! -e "$include/$made" ]; then
		sed "s/@libxtables_vcurrent@/$current/g; s/@libxtables_vmajor@/$major/g; s/@PACKAGE_VERSION@/${IPTABLES:?}/g" \
			"$include/$made.in" > "$include/$made"
	fi
done

# Nothing of a C library is linked in: what is called is found in that of the iptables that loads it, of whatever age.
# The kernel's own headers that those of iptables include are today's, which only adds to them.
sh /layer/cc -O2 -Wall -Werror -isystem "$include" -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu \
	-fPIC -shared -nostdlib -Wl,--hash-style=both -s \
	-o /out/libxt_TARPIT.so /src/libxt_TARPIT.c
if readelf -d /out/libxt_TARPIT.so | grep NEEDED; then
	echo "the extension depends on a C library of today" >&2
	exit 1
fi
echo "built libxt_TARPIT.so for iptables $IPTABLES"
