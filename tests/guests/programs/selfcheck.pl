# SPDX-License-Identifier: Apache-2.0
# perl selfcheck.pl: integers, doubles, strings, regular expressions, hashes, sorting, digests.
use strict;
use warnings;
no warnings 'portable'; # integers have 64 bits
use Digest::SHA qw(sha256_hex);
use Digest::MD5 qw(md5_hex);
use List::Util qw(sum reduce);
use Math::BigInt;

my $seed = 12345;
sub next_number { return $seed = ($seed * 1103515245 + 12345) & 0x7fffffff }

my ($integers, $text) = (0, '');
for my $i (1 .. 60000) {
    my ($a, $b) = (next_number(), next_number() | 1);
    $integers = ($integers * 31 + int($a / $b) + $a % $b + ($a << 3 ^ $b >> 2)) & 0xffffffffffff;
}
print "integers $integers\n";
my @doubles = map { sprintf '%.14e', sqrt(next_number()) / (next_number() + 1) } 1 .. 5000;
print 'doubles ', sha256_hex(join ',', @doubles), "\n";
my %count;
$count{ next_number() % 4999 } += $_ for 1 .. 50000;
print 'hash ', md5_hex(join ';', map { "$_=$count{$_}" } sort { $a <=> $b } keys %count), "\n";
$text .= sprintf '%x ', next_number() for 1 .. 20000;
my $matches = () = $text =~ /\b([a-f]+\d+)(?=[a-f])/g;
(my $changed = $text) =~ s/(\d)([a-f])/$2$1/g;
print "regex $matches ", sha256_hex($changed), "\n";
print 'sort ', md5_hex(join ' ', sort { reverse($a) cmp reverse($b) || $a cmp $b } split / /, $text), "\n";
print 'big ', sha256_hex(Math::BigInt->new(300)->bfac->bstr), "\n";
print 'pack ', md5_hex(pack('(NnCqd<)*', map { ($_, $_ & 0xffff, $_ & 0xff, -$_, $_ / 3) } 1 .. 3000)), "\n";
