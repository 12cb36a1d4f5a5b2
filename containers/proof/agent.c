// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's only own program: PID 1 of the proving machine.
 *
 * It knows nothing about TARPIT.  It executes one request after the other that arrive on the port that AGENT_PORT in the
 * kernel's command line names, else on the second serial port, and sends one reply for each: run a program, read or write a file, make a system call on a socket.  Everything that
 * judges lives on the host, in tarpit_builder/proof/guest.py, which is also where the protocol's other half is.
 *
 * Must run on every Linux from 2.6.19 on, so: static (musl), no system call younger than that without a fallback
 * (setns is reached through syscall(2) and may answer ENOSYS), device nodes made by hand where there is no devtmpfs.
 *
 * Frame, host to guest: 32-bit little-endian length, then that many bytes in blocks of BLOCK; the guest acknowledges
 * every block but the last with one byte, because a serial line without flow control loses what a busy guest does not
 * fetch.  Frame, guest to host: the same without acknowledgements.
 * Request: operation (byte), name of the network namespace (value), arguments (values).
 * Reply: errno (32 bit little-endian), results (values).
 * Value: 'i' and 64 bits little-endian, or 's', 32-bit length, bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PROTOCOL	2
#define SERIAL_PORT	"/dev/ttyS1"
#define BLOCK		1024
#define ACKNOWLEDGE	0x06
#define MAX_FRAME	(8 << 20)
#define MAX_ARGS	64
#define MAX_SLOTS	32768
#define MAX_JOBS	16
#define NSEC		1000000000LL

#ifndef SYS_setns
# if defined(__x86_64__)
#  define SYS_setns	308
# elif defined(__i386__)
#  define SYS_setns	346
# endif
#endif

struct buffer {
	char *data;
	size_t len, size;
};

struct value {
	int64_t number;
	char *text;		/* NUL-terminated copy-free view, NULL for a number */
	uint32_t len;
};

struct request {
	int op;
	struct value netns;
	int argc;
	struct value argv[MAX_ARGS];
};

struct job {
	pid_t pid;
	int status;		/* -1 until it has ended */
};

static const char *port_name;
static int port = -1;
static int initial_netns = -1;
static char current_netns[64];
static int slots[MAX_SLOTS];
static struct job jobs[MAX_JOBS];

static void die(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	sync();
	usleep(200000);	/* not every console is written to at once */
	reboot(RB_AUTOBOOT);	/* the host runs QEMU with -no-reboot: this ends the machine */
	_exit(1);
}

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

static uint64_t cycles(void)
{
#if defined(__x86_64__) || defined(__i386__)
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
#else
	return now();
#endif
}

/* --- values --- */

static void put(struct buffer *b, const void *data, size_t len)
{
	if (b->len + len > b->size) {
		b->size = (b->len + len) * 2;
		b->data = realloc(b->data, b->size);
		if (!b->data)
			die("out of memory");
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void put_le(struct buffer *b, uint64_t number, int bytes)
{
	unsigned char raw[8];
	int i;

	for (i = 0; i < bytes; i++)
		raw[i] = number >> (8 * i);
	put(b, raw, bytes);
}

static uint64_t get_le(const char *raw, int bytes)
{
	uint64_t number = 0;

	while (bytes--)
		number = number << 8 | (unsigned char)raw[bytes];
	return number;
}

static void put_number(struct buffer *b, int64_t number)
{
	put(b, "i", 1);
	put_le(b, number, 8);
}

static void put_bytes(struct buffer *b, const void *data, size_t len)
{
	put(b, "s", 1);
	put_le(b, len, 4);
	put(b, data, len);
}

static int get_value(struct value *v, char **cursor, char *end)
{
	char type;

	if (*cursor >= end)
		return 0;
	type = *(*cursor)++;
	v->text = NULL;
	v->len = 0;
	if (type == 'i' && end - *cursor >= 8) {
		v->number = get_le(*cursor, 8);
		*cursor += 8;
		return 1;
	}
	if (type == 's' && end - *cursor >= 4) {
		v->len = get_le(*cursor, 4);
		*cursor += 4;
		if (v->len > (size_t)(end - *cursor))
			return 0;
		v->text = *cursor;
		*cursor += v->len;
		return 1;
	}
	return 0;
}

/* A NUL-terminated copy; requests are short-lived and the machine too, so these are only freed with the process. */
static char *string(const struct value *v)
{
	char *copy = malloc(v->len + 1);

	if (!copy)
		die("out of memory");
	memcpy(copy, v->text ? v->text : "", v->len);
	copy[v->len] = 0;
	return copy;
}

/* --- the port --- */

static void read_port(char *data, size_t len)
{
	while (len) {
		ssize_t n = read(port, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die(port_name);
		if (!n)
			usleep(1000);	/* a port of virtio whose other end is not known to be there yet */
		data += n;
		len -= n;
	}
}

static void write_port(const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(port, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die(port_name);
		data += n;
		len -= n;
	}
}

static void receive(struct buffer *b)
{
	static const char acknowledge = ACKNOWLEDGE;
	char raw[4];
	size_t len;

	read_port(raw, sizeof(raw));
	len = get_le(raw, 4);
	if (len > MAX_FRAME) {
		errno = EMSGSIZE;
		die("frame");
	}
	b->len = 0;
	while (b->len < len) {
		size_t block = len - b->len < BLOCK ? len - b->len : BLOCK;
		char data[BLOCK];

		read_port(data, block);
		put(b, data, block);
		if (b->len < len)
			write_port(&acknowledge, 1);
	}
}

static void transmit(const struct buffer *b)
{
	struct buffer length = { 0 };

	put_le(&length, b->len, 4);
	write_port(length.data, length.len);
	write_port(b->data, b->len);
	free(length.data);
}

/* Those of a port of virtio, which some kernels have as modules. */
static void load_drivers(void)
{
	char *argv[] = { "modprobe", "-q", "-a", "virtio_pci", "virtio_console", NULL };
	pid_t pid = fork();

	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void open_port(void)
{
	struct termios t;
	glob_t found;
	int i;

	port_name = getenv("AGENT_PORT") ? getenv("AGENT_PORT") : SERIAL_PORT;
	for (i = 0; i < 1000 && glob(port_name, 0, NULL, &found); i++) {
		if (!i)
			load_drivers();
		usleep(10000);
	}
	if (i < 1000)
		port_name = found.gl_pathv[0];
	port = open(port_name, O_RDWR | O_NOCTTY);
	if (port < 0 || fcntl(port, F_SETFD, FD_CLOEXEC) < 0)
		die(port_name);
	if (!isatty(port))
		return;
	if (tcgetattr(port, &t) < 0)
		die(port_name);
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL;
	cfsetspeed(&t, B115200);
	if (tcsetattr(port, TCSANOW, &t) < 0)
		die(port_name);
}

/* --- programs --- */

static int use_netns(const char *name)
{
	char path[128];
	int fd, err;

	if (!strcmp(name, current_netns))
		return 0;
	if (!*name) {
		fd = dup(initial_netns);
	} else {
		snprintf(path, sizeof(path), "/run/netns/%s", name);
		fd = open(path, O_RDONLY);
	}
	if (fd < 0)
		return errno;
	err = syscall(SYS_setns, fd, 0) < 0 ? errno : 0;
	close(fd);
	if (!err)
		snprintf(current_netns, sizeof(current_netns), "%s", name);
	return err;
}

static void reap(void)
{
	int status, i;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (i = 0; i < MAX_JOBS; i++)
			if (jobs[i].pid == pid)
				jobs[i].status = status;
}

/* Starts argv with the three descriptors as its standard ones; answers its job number. */
static int start(char **argv, int in, int out, int err)
{
	int i;

	reap();
	for (i = 0; i < MAX_JOBS && jobs[i].pid; i++)
		;
	if (i == MAX_JOBS) {
		errno = EAGAIN;
		return -1;
	}
	jobs[i].status = -1;
	jobs[i].pid = fork();
	if (jobs[i].pid < 0) {
		jobs[i].pid = 0;
		return -1;
	}
	if (jobs[i].pid)
		return i;
	setsid();
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	for (i = 3; i < 64; i++)
		if (i != port)
			close(i);
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static char **strings(struct request *r, int first)
{
	char **argv = calloc(MAX_ARGS + 1, sizeof(*argv));
	int i;

	if (!argv)
		die("out of memory");
	for (i = first; i < r->argc; i++)
		argv[i - first] = string(&r->argv[i]);
	return argv;
}

static void free_strings(char **argv)
{
	char **p;

	for (p = argv; *p; p++)
		free(*p);
	free(argv);
}

/* run(milliseconds, stdin, argv...) -> wait status, stdout, stderr; ETIME and what there was when time is up. */
static int op_run(struct request *r, struct buffer *reply)
{
	struct buffer output[2] = { { 0 }, { 0 } };
	int64_t deadline = now() + r->argv[0].number * 1000000;
	int pipes[2][2], in, job, i, err = 0, nr_open = 2;
	char **argv;

	in = open("/tmp/.stdin", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (in < 0 || write(in, r->argv[1].text, r->argv[1].len) != (ssize_t)r->argv[1].len ||
	    lseek(in, 0, SEEK_SET) < 0 || pipe(pipes[0]) < 0 || pipe(pipes[1]) < 0)
		return errno;
	argv = strings(r, 2);
	job = start(argv, in, pipes[0][1], pipes[1][1]);
	if (job < 0)
		err = errno;
	free_strings(argv);
	close(in);
	close(pipes[0][1]);
	close(pipes[1][1]);
	while (!err && (nr_open || jobs[job].status == -1)) {
		struct pollfd fds[2] = { { pipes[0][0], POLLIN, 0 }, { pipes[1][0], POLLIN, 0 } };
		int64_t left = deadline - now();

		if (left <= 0) {
			err = ETIME;
			kill(-jobs[job].pid, SIGKILL);
			waitpid(jobs[job].pid, &jobs[job].status, 0);
			break;
		}
		/* A daemon that keeps the pipes open must not keep us: look after the child now and then. */
		poll(fds, 2, left < 50000000 ? left / 1000000 + 1 : 50);
		for (i = 0; i < 2; i++) {
			char data[4096];
			ssize_t n;

			if (pipes[i][0] < 0 || !fds[i].revents)
				continue;
			n = read(pipes[i][0], data, sizeof(data));
			if (n > 0) {
				put(&output[i], data, n);
			} else {
				close(pipes[i][0]);
				pipes[i][0] = -1;
				nr_open--;
			}
		}
		reap();
		if (!nr_open && jobs[job].status == -1)
			waitpid(jobs[job].pid, &jobs[job].status, 0);
		else if (nr_open && jobs[job].status != -1 && poll(fds, 2, 0) == 0)
			break;
	}
	for (i = 0; i < 2; i++)
		if (pipes[i][0] >= 0)
			close(pipes[i][0]);
	put_number(reply, job < 0 ? -1 : jobs[job].status);
	for (i = 0; i < 2; i++) {
		put_bytes(reply, output[i].data ? output[i].data : "", output[i].len);
		free(output[i].data);
	}
	if (job >= 0)
		jobs[job].pid = 0;
	return err;
}

/* wait(job, milliseconds, signal or 0) -> wait status */
static int op_wait(struct request *r, struct buffer *reply)
{
	struct job *job = &jobs[r->argv[0].number];
	int64_t deadline = now() + r->argv[1].number * 1000000;

	if (!job->pid)
		return ECHILD;
	if (r->argv[2].number)
		kill(-job->pid, r->argv[2].number);
	for (;;) {
		reap();
		if (job->status != -1)
			break;
		if (now() >= deadline)
			return ETIME;
		usleep(1000);
	}
	put_number(reply, job->status);
	job->pid = 0;
	return 0;
}

/* --- files, modules, log --- */

/* read(path, most bytes) -> bytes */
static int op_read(struct request *r, struct buffer *reply)
{
	struct buffer content = { 0 };
	char *path = string(&r->argv[0]), data[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = 0;
	ssize_t n = 0;

	free(path);
	if (fd < 0)
		return errno;
	while (content.len < (size_t)r->argv[1].number && (n = read(fd, data, sizeof(data))) > 0)
		put(&content, data, n);
	if (n < 0 && errno != EAGAIN)
		err = errno;
	close(fd);
	put_bytes(reply, content.data ? content.data : "", content.len);
	free(content.data);
	return err;
}

/* write(path, bytes) */
static int op_write(struct request *r, struct buffer *reply)
{
	char *path = string(&r->argv[0]);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_TRUNC, 0644), err = 0;
	ssize_t n;

	(void)reply;
	free(path);
	if (fd < 0)
		return errno;
	n = write(fd, r->argv[1].text, r->argv[1].len);
	if (n < 0)
		err = errno;
	else if (n != (ssize_t)r->argv[1].len)
		err = ENOSPC;
	close(fd);
	return err;
}

/* rmmod(name) */
static int op_rmmod(struct request *r, struct buffer *reply)
{
	char *name = string(&r->argv[0]);
	int err = syscall(SYS_delete_module, name, O_NONBLOCK) < 0 ? errno : 0;

	(void)reply;
	free(name);
	return err;
}

/* klog() -> the kernel's message buffer */
static int op_klog(struct request *r, struct buffer *reply)
{
	int size = klogctl(10, NULL, 0);
	char *text = malloc(size > 0 ? size : 1);
	int n = klogctl(3, text, size);
	int err = n < 0 ? errno : 0;

	(void)r;
	if (!err)
		put_bytes(reply, text, n);
	free(text);
	return err;
}

/* --- sockets: each lives in a slot whose number the host chooses, so that a batch can refer to it --- */

static int *slot(const struct value *v)
{
	static int none;

	none = -1;
	return v->number >= 0 && v->number < MAX_SLOTS ? &slots[v->number] : &none;
}

/* socket(slot, family, type, protocol) */
static int op_socket(struct request *r, struct buffer *reply)
{
	int *fd = slot(&r->argv[0]);

	(void)reply;
	if (*fd >= 0)
		close(*fd);
	*fd = socket(r->argv[1].number, r->argv[2].number, r->argv[3].number);
	if (*fd < 0)
		return errno;
	fcntl(*fd, F_SETFD, FD_CLOEXEC);
	fcntl(*fd, F_SETFL, O_NONBLOCK);
	return 0;
}

static int op_bind(struct request *r, struct buffer *reply)
{
	(void)reply;
	return bind(*slot(&r->argv[0]), (void *)r->argv[1].text, r->argv[1].len) < 0 ? errno : 0;
}

static int op_listen(struct request *r, struct buffer *reply)
{
	(void)reply;
	return listen(*slot(&r->argv[0]), r->argv[1].number) < 0 ? errno : 0;
}

static int wait_for(int fd, int events, int64_t milliseconds)
{
	struct pollfd p = { fd, events, 0 };
	int n = poll(&p, 1, milliseconds);

	return n < 0 ? errno : n ? 0 : ETIME;
}

/* accept(slot, slot of the new socket, milliseconds) */
static int op_accept(struct request *r, struct buffer *reply)
{
	int *fd = slot(&r->argv[0]), *new = slot(&r->argv[1]);
	int err = wait_for(*fd, POLLIN, r->argv[2].number);

	(void)reply;
	if (err)
		return err;
	if (*new >= 0)
		close(*new);
	*new = accept(*fd, NULL, NULL);
	if (*new < 0)
		return errno;
	fcntl(*new, F_SETFD, FD_CLOEXEC);
	fcntl(*new, F_SETFL, O_NONBLOCK);
	return 0;
}

/* connect(slot, address, milliseconds): 0 when established, ETIME when time is up before; 0 ms only starts it */
static int op_connect(struct request *r, struct buffer *reply)
{
	int fd = *slot(&r->argv[0]), err = 0;
	socklen_t len = sizeof(err);

	(void)reply;
	if (connect(fd, (void *)r->argv[1].text, r->argv[1].len) == 0)
		return 0;
	if (errno != EINPROGRESS || !r->argv[2].number)
		return errno;
	err = wait_for(fd, POLLOUT, r->argv[2].number);
	if (err)
		return err;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 ? errno : err;
}

/* send(slot, bytes, flags, address or nothing) -> bytes taken */
static int op_send(struct request *r, struct buffer *reply)
{
	struct value *to = &r->argv[3];
	ssize_t n = sendto(*slot(&r->argv[0]), r->argv[1].text, r->argv[1].len, (int)r->argv[2].number | MSG_NOSIGNAL,
			   to->len ? (void *)to->text : NULL, to->len);

	if (n < 0)
		return errno;
	put_number(reply, n);
	return 0;
}

/* receive(slot, most bytes, milliseconds) -> bytes; none at the end of the stream */
static int op_receive(struct request *r, struct buffer *reply)
{
	int fd = *slot(&r->argv[0]), err = wait_for(fd, POLLIN, r->argv[2].number);
	char *data;
	ssize_t n;

	if (err)
		return err;
	data = malloc(r->argv[1].number);
	n = recv(fd, data, r->argv[1].number, 0);
	err = n < 0 ? errno : 0;
	if (n >= 0)
		put_bytes(reply, data, n);
	free(data);
	return err;
}

/* drain(slot, most bytes of each) -> for each waiting datagram: time in ns, true length, bytes, sender's address */
static int op_drain(struct request *r, struct buffer *reply)
{
	int fd = *slot(&r->argv[0]), count = 0;
	size_t most = r->argv[1].number;
	char *data = malloc(most);

	/* Bounded, so that a storm cannot keep the agent here for ever. */
	while (count++ < 20000) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		long stamp[2] = { 0, 0 };	/* the kernel's own timeval, which is not musl's on 32 bits */
		ssize_t n = recvfrom(fd, data, most, MSG_DONTWAIT | MSG_TRUNC, (void *)&from, &len);

		if (n < 0)
			break;
		ioctl(fd, 0x8906 /* SIOCGSTAMP */, stamp);
		put_number(reply, stamp[0] * NSEC + stamp[1] * 1000);
		put_number(reply, n);
		put_bytes(reply, data, (size_t)n < most ? (size_t)n : most);
		put_bytes(reply, &from, len);
	}
	free(data);
	return 0;
}

static int op_shutdown(struct request *r, struct buffer *reply)
{
	(void)reply;
	return shutdown(*slot(&r->argv[0]), r->argv[1].number) < 0 ? errno : 0;
}

static int op_close(struct request *r, struct buffer *reply)
{
	int *fd = slot(&r->argv[0]);
	int err = close(*fd) < 0 ? errno : 0;

	(void)reply;
	*fd = -1;
	return err;
}

/* setsockopt(slot, level, name, bytes) */
static int op_setsockopt(struct request *r, struct buffer *reply)
{
	(void)reply;
	return setsockopt(*slot(&r->argv[0]), r->argv[1].number, r->argv[2].number, r->argv[3].text,
			  r->argv[3].len) < 0 ? errno : 0;
}

/* getsockopt(slot, level, name, bytes, most bytes) -> bytes; some options read what they are given first */
static int op_getsockopt(struct request *r, struct buffer *reply)
{
	static char data[65536];
	socklen_t len = r->argv[4].number;

	if (len > sizeof(data) || r->argv[3].len > sizeof(data))
		return EMSGSIZE;
	memcpy(data, r->argv[3].text, r->argv[3].len);
	if (getsockopt(*slot(&r->argv[0]), r->argv[1].number, r->argv[2].number, data, &len) < 0)
		return errno;
	put_bytes(reply, data, len);
	return 0;
}

/* ioctl(slot, request, bytes) -> the bytes afterwards */
static int op_ioctl(struct request *r, struct buffer *reply)
{
	char data[1024] = "";
	size_t len = r->argv[2].len;

	if (len > sizeof(data))
		return EMSGSIZE;
	memcpy(data, r->argv[2].text, len);
	if (ioctl(*slot(&r->argv[0]), r->argv[1].number, data) < 0)
		return errno;
	put_bytes(reply, data, len);
	return 0;
}

/* getsockname(slot) -> address */
static int op_getsockname(struct request *r, struct buffer *reply)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	if (getsockname(*slot(&r->argv[0]), (void *)&address, &len) < 0)
		return errno;
	put_bytes(reply, &address, len);
	return 0;
}

static int64_t send_many(int fd, int64_t count, struct request *r, int first)
{
	int64_t sent = 0, i;

	for (i = 0; i < count; i++) {
		struct value *frame = &r->argv[first + i % (r->argc - first)];

		sent += send(fd, frame->text, frame->len, MSG_NOSIGNAL) >= 0;
	}
	return sent;
}

/* flood(slot, count, frame...) -> how many were sent, nanoseconds, time stamp counter's difference */
static int op_flood(struct request *r, struct buffer *reply)
{
	int fd = *slot(&r->argv[0]);
	uint64_t before_cycles;
	int64_t before, sent;

	if (r->argc < 3)
		return EINVAL;
	fcntl(fd, F_SETFL, 0);
	before = now();
	before_cycles = cycles();
	sent = send_many(fd, r->argv[1].number, r, 2);
	put_number(reply, sent);
	put_number(reply, now() - before);
	put_number(reply, cycles() - before_cycles);
	return 0;
}

/* spawn_flood(slot, frame...) -> job that sends until it is killed, and leaves some of the processor to others */
static int op_spawn_flood(struct request *r, struct buffer *reply)
{
	int fd = *slot(&r->argv[0]), i;

	if (r->argc < 2)
		return EINVAL;
	for (i = 0; i < MAX_JOBS && jobs[i].pid; i++)
		;
	if (i == MAX_JOBS)
		return EAGAIN;
	jobs[i].status = -1;
	jobs[i].pid = fork();
	if (jobs[i].pid < 0) {
		jobs[i].pid = 0;
		return errno;
	}
	if (!jobs[i].pid) {
		setsid();
		fcntl(fd, F_SETFL, 0);
		for (;;) {
			send_many(fd, r->argc - 1, r, 1);
			usleep(500);
		}
	}
	put_number(reply, i);
	return 0;
}

/* --- time and the machine --- */

/* sleep(milliseconds) */
static int op_sleep(struct request *r, struct buffer *reply)
{
	(void)reply;
	poll(NULL, 0, r->argv[0].number);
	return 0;
}

/* clock() -> nanoseconds since boot */
static int op_clock(struct request *r, struct buffer *reply)
{
	(void)r;
	put_number(reply, now());
	return 0;
}

/* hello() -> protocol, release, version, machine */
static int op_hello(struct request *r, struct buffer *reply)
{
	struct utsname u;

	(void)r;
	uname(&u);
	put_number(reply, PROTOCOL);
	put_bytes(reply, u.release, strlen(u.release));
	put_bytes(reply, u.version, strlen(u.version));
	put_bytes(reply, u.machine, strlen(u.machine));
	return 0;
}

static int op_batch(struct request *r, struct buffer *reply);

/* The order is the protocol: guest.py numbers the operations alike. "arguments" is the least number of them. */
static const struct {
	int (*run)(struct request *r, struct buffer *reply);
	int arguments;
} operations[] = {
	{ op_hello, 0 },	{ op_run, 3 },		{ op_wait, 3 },		{ op_read, 2 },
	{ op_write, 2 },	{ op_rmmod, 1 },	{ op_klog, 0 },		{ op_socket, 4 },
	{ op_bind, 2 },		{ op_listen, 2 },	{ op_accept, 3 },	{ op_connect, 3 },
	{ op_send, 4 },		{ op_receive, 3 },	{ op_drain, 2 },	{ op_shutdown, 2 },
	{ op_close, 1 },	{ op_setsockopt, 4 },	{ op_getsockopt, 5 },	{ op_ioctl, 3 },
	{ op_getsockname, 1 },	{ op_flood, 3 },	{ op_spawn_flood, 2 },	{ op_sleep, 1 },
	{ op_clock, 0 },	{ op_batch, 0 },
};

static void execute(char *data, size_t len, struct buffer *reply)
{
	struct buffer results = { 0 };
	struct request *r = calloc(1, sizeof(*r));
	char *cursor = data + 1, *end = data + len, *netns;
	int err = EBADMSG;

	if (!r)
		die("out of memory");
	if (len) {
		r->op = (unsigned char)*data;
		if (get_value(&r->netns, &cursor, end))
			while (r->argc < MAX_ARGS && get_value(&r->argv[r->argc], &cursor, end))
				r->argc++;
		if (cursor == end) {
			netns = string(&r->netns);
			err = use_netns(netns);
			free(netns);
			if (!err && (size_t)r->op >= sizeof(operations) / sizeof(*operations))
				err = ENOSYS;
			else if (!err && r->argc < operations[r->op].arguments)
				err = EINVAL;
			else if (!err)
				err = operations[r->op].run(r, &results);
		}
	}
	put_le(reply, err, 4);
	put(reply, results.data ? results.data : "", results.len);
	free(results.data);
	free(r);
}

/* batch(request...) -> reply...: back to back, without the host in between (its time is not the guest's) */
static int op_batch(struct request *r, struct buffer *reply)
{
	int i;

	for (i = 0; i < r->argc; i++) {
		struct buffer one = { 0 };

		execute(r->argv[i].text, r->argv[i].len, &one);
		put_bytes(reply, one.data, one.len);
		free(one.data);
	}
	return 0;
}

static void device(const char *path, int major, int minor)
{
	if (mknod(path, S_IFCHR | 0600, makedev(major, minor)) < 0 && errno != EEXIST)
		die(path);
}

static void mount_or_die(const char *type, const char *target)
{
	mkdir(target, 0755);
	if (mount(type, target, type, 0, NULL) < 0)
		die(target);
}

int main(void)
{
	struct buffer request = { 0 }, reply = { 0 };
	int i;

	mount_or_die("proc", "/proc");
	mount_or_die("sysfs", "/sys");
	mkdir("/dev", 0755);
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) < 0) {	/* before 2.6.32 */
		device("/dev/null", 1, 3);
		device("/dev/zero", 1, 5);
		device("/dev/urandom", 1, 9);
		device("/dev/kmsg", 1, 11);
		device(SERIAL_PORT, 4, 65);
	}
	/* What an init does; nft of before 1.0 reads its standard input by that name. */
	if (symlink("/proc/self/fd/0", "/dev/stdin") < 0 && errno != EEXIST)
		die("/dev/stdin");
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);	/* a debugging kernel has it */
	mount_or_die("tmpfs", "/run");
	mount_or_die("tmpfs", "/tmp");
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/", 1);
	setenv("LC_ALL", "C", 1);
	for (i = 0; i < MAX_SLOTS; i++)
		slots[i] = -1;
	signal(SIGPIPE, SIG_IGN);
	initial_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	open_port();

	/* Speaking first tells the host that the guest is up. */
	execute("\0s\0\0\0\0", 6, &reply);
	transmit(&reply);
	for (;;) {
		receive(&request);
		reply.len = 0;
		execute(request.data, request.len, &reply);
		transmit(&reply);
	}
}
