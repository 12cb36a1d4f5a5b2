#!/bin/sh
# Runs what the host sends over a virtio serial port: one line "SCRIPT INPUT SECONDS" (two sizes in
# bytes and a limit), then a shell script and its standard input.  The answer is a line
# "STATUS OUTPUT ERRORS", then what the script printed.
set -eu

until [ -e /dev/virtio-ports/tarpit.agent ]; do
	sleep 0.1
done
exec 3<>/dev/virtio-ports/tarpit.agent
cd "$(mktemp -d /run/agent.XXXXXX)"
echo hello >&3
while read -r script input seconds <&3; do
	head -c "${script}" <&3 >script
	head -c "${input}" <&3 >input
	status=0
	(
		cd /root
		exec timeout --kill-after=5 "${seconds}" sh "${OLDPWD}/script"
	) <input >output 2>errors 3>&- || status=$?
	echo "${status} $(stat -c %s output) $(stat -c %s errors)" >&3
	cat output errors >&3
done
