#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The TARPIT extension for the iptables of a machine without dpkg.  Result: /out/libxt_TARPIT.so.
#   /src                 the extension's source
#   COMPILER             the compiler of the machine's architecture
#   HOST_ARCH            Debian's name of that
# Nothing of a C library is linked in: what is called is found in that of the iptables that loads it, be it glibc or musl.
set -eu
PKG_CONFIG_LIBDIR=/usr/lib/$(CC=true dpkg-architecture --host-arch "$HOST_ARCH" --query DEB_HOST_MULTIARCH)/pkgconfig
export PKG_CONFIG_LIBDIR
# shellcheck disable=SC2046
"$COMPILER" -O2 -Wall -Werror $(pkg-config --cflags xtables) -fPIC -shared -nostdlib -Wl,--hash-style=both -Wl,-z,relro \
	-s -o /out/libxt_TARPIT.so /src/libxt_TARPIT.c
if readelf -d /out/libxt_TARPIT.so | grep NEEDED; then
	echo "the extension depends on a C library of Debian's" >&2
	exit 1
fi
echo "built libxt_TARPIT.so for $(sed -n 's/^#define XTABLES_VERSION "\(.*\)"/\1/p' /usr/include/xtables-version.h)"
