#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The indexes of an apt repository, for the packages in /archive/pool, into /out/dists.
#
# /archive/suites has a line for each suite: its name, then its architectures.  ORIGIN is what the
# repository calls itself.  Runs in a sealed container; nothing is signed here.
set -eu
umask 022

cd /archive
while read -r suite architectures; do
	echo "### $suite: $architectures"
	top=/out/dists/$suite
	for architecture in $architectures; do
		folder=$top/main/binary-$architecture
		mkdir -p "$folder"
		# apt asks for the packages of its own architecture and for those of all in one index.
		apt-ftparchive --arch "$architecture" packages "pool/$suite" > "$folder/Packages"
	done
	mkdir -p "$top/main/source"
	apt-ftparchive sources "pool/$suite" > "$top/main/source/Sources"
	find "$top" -type f | while read -r index; do
		# -n: no name and time in the header, so that the same packages give the same bytes.
		gzip -9n < "$index" > "$index.gz"
		xz --threads=1 < "$index" > "$index.xz"
	done
	# One digest: apt asks for an index by the strongest that is listed, and each that is listed
	# must be there by its hash.  Every apt since bullseye's knows SHA256.
	apt-ftparchive \
		-o "APT::FTPArchive::Release::MD5=false" \
		-o "APT::FTPArchive::Release::SHA1=false" \
		-o "APT::FTPArchive::Release::SHA512=false" \
		-o "APT::FTPArchive::Release::Origin=$ORIGIN" \
		-o "APT::FTPArchive::Release::Label=$ORIGIN" \
		-o "APT::FTPArchive::Release::Suite=$suite" \
		-o "APT::FTPArchive::Release::Codename=$suite" \
		-o "APT::FTPArchive::Release::Components=main" \
		-o "APT::FTPArchive::Release::Architectures=$architectures" \
		-o "APT::FTPArchive::Release::Acquire-By-Hash=yes" \
		release "$top" > /build/Release
	mv /build/Release "$top/Release"
done < suites
