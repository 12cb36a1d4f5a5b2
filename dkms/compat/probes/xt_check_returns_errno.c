// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.35: checkentry returns an error number, before that it returned true or false */
#include <linux/skbuff.h>
#include <linux/netfilter/x_tables.h>

struct xt_tgchk_param;

extern char xt_check_returns_errno[__builtin_types_compatible_p(
	typeof(((struct xt_target *)0)->checkentry),
	bool (*)(const struct xt_tgchk_param *)) ? -1 : 1];
