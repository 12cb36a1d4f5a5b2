// SPDX-License-Identifier: GPL-2.0-only
/* 6.12: a device that needs no lock to transmit is no longer a feature */
#include <linux/skbuff.h>
#include <linux/netdevice.h>

static inline void probe_lltx(struct net_device *dev)
{
	dev->lltx = true;
}
