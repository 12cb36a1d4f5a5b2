/* SPDX-License-Identifier: GPL-2.0-only */
/* Before 2.6.26 files below /proc/net know their namespace in other ways. */
