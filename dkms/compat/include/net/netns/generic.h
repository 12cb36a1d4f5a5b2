/* SPDX-License-Identifier: GPL-2.0-only */
/* Before 2.6.26 modules keep nothing of their own in a network namespace. */
