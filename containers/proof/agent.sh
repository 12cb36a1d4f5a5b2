#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# One of our programs, the agent if none is named, for the guest's architecture, as /out/agent or FILE.  TRIPLET is set in the image.
#   agent.sh DIRECTORY-OF-SOURCES [FILE [NAME]]
set -eu
"$TRIPLET-gcc" -specs /usr/lib/*-linux-musl/musl-gcc.specs -std=gnu11 -O2 -Wall -Wextra -Werror -static -s \
	-o "${2:-/out/agent}" "$1/${3:-agent}.c"
