// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel and iptables call to load a module, for a guest that has no user land of its own: the last argument
 * names the module, and /lib/modules has it as NAME.ko or has not.  A target may be asked for by any family's name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const prefixes[] = { "", "xt_", "ipt_", "ip6t_" };

static int load(const char *path)
{
	struct stat info;
	unsigned long size;	/* what the kernel takes; off_t is wider on i386 */
	void *image;
	int fd;

	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	if (fstat(fd, &info)) {
		perror(path);
		return 1;
	}
	size = info.st_size;
	image = malloc(size);
	if (!image || read(fd, image, size) != (ssize_t)size) {
		perror(path);
		return 1;
	}
	close(fd);
	if (syscall(SYS_init_module, image, size, "") && errno != EEXIST) {
		fprintf(stderr, "modprobe: could not insert %s: %s\n", path, strerror(errno));
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *name = argv[argc - 1], *stem = name;
	char path[256];
	size_t i;
	int status;

	for (i = 1; i < sizeof(prefixes) / sizeof(*prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			stem = name + strlen(prefixes[i]);
	for (i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++) {
		snprintf(path, sizeof(path), "/lib/modules/%s%s.ko", prefixes[i], i ? stem : name);
		status = load(path);
		if (status >= 0)
			return status;
	}
	fprintf(stderr, "modprobe: module %s not found\n", name);
	return 1;
}
