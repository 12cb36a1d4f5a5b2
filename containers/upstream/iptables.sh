#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A static iptables with the TARPIT extension.  Results: /out/sbin/*, /out/man/*.
#   /iptables            the release's tree
#   /kernel              the tree of the kernel whose headers it is built against
#   /layer               compiler and patches, see tarpit_builder/kernels/toolchain.py
#   /request/patch       what adds the extension to the tree
#   KARCH, JOBS
# shellcheck disable=SC2154
set -eu
# shellcheck source=containers/upstream/lib.sh
. /scripts/lib.sh

# Headers as kbuild leaves them, without the need to run it.
linux=/build/linux
farm /kernel "$linux"
for directory in "asm-$KARCH" asm-x86; do
	if [ -d "$linux/include/$directory" ] && [ ! -e "$linux/include/asm" ]; then
		ln -s "$directory" "$linux/include/asm"
	fi
done
version=$(sed -n 's/^VERSION = //p' "$linux/Makefile")
patchlevel=$(sed -n 's/^PATCHLEVEL = //p' "$linux/Makefile")
sublevel=$(sed -n 's/^SUBLEVEL = //p' "$linux/Makefile")
cat > $linux/include/linux/version.h <<EOF
#define LINUX_VERSION_CODE $((version * 65536 + patchlevel * 256 + sublevel))
#define KERNEL_VERSION(a,b,c) (((a) << 16) + ((b) << 8) + (c))
EOF
: > "$linux/include/linux/autoconf.h"

tree=/build/iptables
cp -r /iptables "$tree"
toolchain "$tree"
apply /request/patch "$tree"
# patch(1) before 2.7 does not set modes.
chmod +x "$tree"/extensions/.TARPIT-test*
cd "$tree"
set --
while read -r argument; do set -- "$@" "$argument"; done < /layer/make
# In one run, because reading that Makefile starts a thousand shells.
make -s -j"$JOBS" KERNEL_DIR=$linux PREFIX= DESTDIR=/build/root "$@" all install

# An extension whose .X-test is not executable is left out in silence, so the result is asked.
# 1.3.8 does not answer without CAP_NET_RAW, which a sealed run has not: then its symbols are.
said=$(./iptables -j TARPIT --help 2>&1) || :
case $said in
*"TARPIT target "*) ;;
*"open socket to kernel"*) nm iptables | grep -q 't_TARPIT_init$' || said= ;;
*) said= ;;
esac
if [ -z "$said" ]; then
	echo "iptables was built, but does not know TARPIT"
	exit 1
fi
strip /build/root/sbin/*
cp -r /build/root/sbin /build/root/man /out/
echo "built $(/build/root/sbin/iptables --version)"
