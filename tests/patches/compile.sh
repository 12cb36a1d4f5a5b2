#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The object that a patched tree makes of TARPIT; prints "needs SYMBOL" for each that it does not define.
#   /request/patch       what puts TARPIT into the tree
#   OPTION, OBJECT       what is chosen, as a module, and what kbuild is asked to make
#   for the rest see configure.sh
# shellcheck disable=SC2154
set -eu
# shellcheck source=containers/upstream/lib.sh
. /scripts/lib.sh
# shellcheck source=containers/upstream/configure.sh
. /scripts/configure.sh

apply /request/patch "$linux"
configure
grep -q "^$OPTION=m" "$linux/.config" || { echo "error: there is no $OPTION to choose"; exit 1; }
mkdir -p "$linux/.tmp_versions"
run_make "CFLAGS_$(basename "$OBJECT")=-Werror=implicit-function-declaration" "$OBJECT"
nm -u "$linux/$OBJECT" | sed 's/^ *U /needs /'
