#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The agent alone, for kernels that no suite's user land runs on.  Result: /out/agent.
#   agent.sh DIRECTORY-OF-AGENT
set -eu
musl-gcc -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -o /out/agent "$1/agent.c"
