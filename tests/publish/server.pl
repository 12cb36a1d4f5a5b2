#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0-only
# An HTTP server on loopback for one client, which changes what it serves before its Nth request.
#
#     server.pl PORT LOG N BEFORE [AFTER]
#
# The folder BEFORE is served, from the request number N on the folder AFTER.  LOG gets a line for
# each request: status and path.  In Perl, as every Debian has it: the apt under test is alone with
# it, without a network.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my ($port, $log, $turn, $before, $after) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 5, ReuseAddr => 1)
	or die "cannot listen on $port: $!";
open my $out, '>>', $log or die "$log: $!";
$out->autoflush(1);
my $select = IO::Select->new($listener);
my $count = 0;
my %pending;

while (my @ready = $select->can_read) {
	for my $socket (@ready) {
		if ($socket == $listener) {
			$select->add(scalar $listener->accept);
			next;
		}
		my $got = sysread $socket, $pending{$socket}, 65536, length($pending{$socket} // '');
		if (!$got) {
			delete $pending{$socket};
			$select->remove($socket);
			close $socket;
			next;
		}
		# apt sends several requests before it reads the first answer.
		while ($pending{$socket} =~ s/\A(.*?)\r\n\r\n//s) {
			my ($path) = $1 =~ m{\AGET /(\S*) HTTP/1\.1};
			$path =~ s/%([0-9a-fA-F]{2})/chr hex $1/ge;
			$count++;
			my $top = defined $after && $count >= $turn ? $after : $before;
			my $content = '';
			my $status = '404 Not Found';
			if (open my $file, '<:raw', "$top/$path") {
				local $/;
				$content = <$file>;
				$status = '200 OK';
			}
			print $out "$status $path\n";
			print $socket "HTTP/1.1 $status\r\nContent-Length: " . length($content) . "\r\n\r\n$content";
			$socket->flush;
		}
	}
}
