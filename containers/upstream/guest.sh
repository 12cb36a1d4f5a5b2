#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What a guest has beside the kernel and iptables.  Results: /out/init, /out/modprobe.
#   /layer               the compiler, see tarpit_builder/kernels/toolchain.py
#   /request/agent.c     the proof's agent
set -eu
sh /layer/cc -std=gnu11 -O2 -Wall -Wextra -static -s -o /out/init /request/agent.c
sh /layer/cc -std=gnu11 -O2 -Wall -Wextra -static -s -o /out/modprobe /scripts/modprobe.c
