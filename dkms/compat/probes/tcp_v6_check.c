// SPDX-License-Identifier: GPL-2.0-only
/* 3.9: moved to a header, from 2.6 on private to tcp_ipv6.c */
#include <linux/skbuff.h>
#include <net/ip6_checksum.h>

static inline unsigned int probe_tcp_v6_check(const struct in6_addr *saddr,
					      const struct in6_addr *daddr)
{
	return (unsigned int)tcp_v6_check(20, saddr, daddr, 0);
}
