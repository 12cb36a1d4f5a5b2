#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The agent, for the guest's architecture, as /out/agent or FILE.  TRIPLET is set in the image.
#   agent.sh DIRECTORY-OF-AGENT [FILE]
set -eu
"$TRIPLET-gcc" -specs /usr/lib/*-linux-musl/musl-gcc.specs -std=gnu11 -O2 -Wall -Wextra -Werror -static -s \
	-o "${2:-/out/agent}" "$1/agent.c"
