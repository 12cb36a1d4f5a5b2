// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.21: lost an argument that it did not use */
#include <linux/skbuff.h>
#include <net/tcp.h>

static inline unsigned int probe_tcp_v4_check(void)
{
	return (unsigned int)tcp_v4_check(20, 0, 0, 0);
}
