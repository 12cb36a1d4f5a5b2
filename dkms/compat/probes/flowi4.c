// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.39: a flow of each family, and route look-ups return the route */
#include <linux/skbuff.h>
#include <net/flow.h>

static inline unsigned int probe_flowi4(void)
{
	return sizeof(struct flowi4);
}
