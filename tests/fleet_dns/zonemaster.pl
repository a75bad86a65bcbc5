# Tests a zone that is delegated to one server, below a root at 127.0.0.1; prints level, test case, tag and arguments.
my ($zone, $server, $address) = @ARGV;
Zonemaster::Engine::Profile->effective->set('net.ipv6', 0);
Zonemaster::Engine::Recursor->remove_fake_addresses('.');
Zonemaster::Engine::Recursor->add_fake_addresses('.', { 'ns.root' => ['127.0.0.1'] });
Zonemaster::Engine->add_fake_delegation($zone => { $server => [$address] });
Zonemaster::Engine->test_zone($zone);
for my $entry (@{ Zonemaster::Engine->logger->entries }) {
    my ($tag, $args) = ($entry->tag, $entry->args // {});
    my $said = join ' ', $entry->level, $entry->testcase, $tag, map { "$_=$args->{$_}" } sort keys %$args;
    print $said =~ s/\s+/ /gr, "\n";
}
