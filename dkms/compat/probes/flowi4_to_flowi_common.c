/* 5.11: security_skb_classify_flow() takes struct flowi_common, not flowi */
#include <net/flow.h>

static inline struct flowi_common *
probe_flowi4_to_flowi_common(struct flowi4 *fl4)
{
	return flowi4_to_flowi_common(fl4);
}
