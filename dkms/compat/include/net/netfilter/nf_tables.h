/* SPDX-License-Identifier: GPL-2.0-only */
/* Before 3.13 there is no nftables. */
