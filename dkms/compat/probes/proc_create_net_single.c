// SPDX-License-Identifier: GPL-2.0-only
/* 4.18: a file of a namespace that one function shows */
#include <linux/skbuff.h>
#include <linux/proc_fs.h>

static inline struct proc_dir_entry *
probe_proc_create_net_single(struct proc_dir_entry *parent,
			     int (*show)(struct seq_file *seq, void *unused))
{
	return proc_create_net_single("probe", 0, parent, show, NULL);
}
