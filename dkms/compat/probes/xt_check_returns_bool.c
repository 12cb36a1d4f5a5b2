// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.23: checkentry returns bool, before that it returned int */
#include <linux/skbuff.h>
#include <linux/netfilter/x_tables.h>

extern char xt_check_returns_bool[__builtin_types_compatible_p(
	typeof(((struct xt_target *)0)->checkentry),
	int (*)(const char *, const void *, const struct xt_target *, void *,
		unsigned int)) ? -1 : 1];
