// SPDX-License-Identifier: GPL-2.0-only
/* 6.0: a flow has its VRF apart from its output interface. Needs: flowi4 */
#include <linux/skbuff.h>
#include <net/flow.h>

static inline int probe_flowi4_l3mdev(const struct flowi4 *fl4)
{
	return fl4->flowi4_l3mdev;
}
