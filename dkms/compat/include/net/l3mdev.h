/* SPDX-License-Identifier: GPL-2.0-only */
/* Before 4.3 there are no L3 master devices. */
#ifndef _TARPIT_NET_L3MDEV_H
#define _TARPIT_NET_L3MDEV_H

static inline int l3mdev_master_ifindex_rcu(struct net_device *dev)
{
	return 0;
}

#endif /* _TARPIT_NET_L3MDEV_H */
