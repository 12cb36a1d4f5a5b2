/* SPDX-License-Identifier: GPL-2.0-only */
/* Before 2.6.24 there are no network namespaces. */
