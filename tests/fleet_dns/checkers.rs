//! An agent's answers by those who check name servers: Zonemaster's engine, and the tools of four makes, which read and
//! write messages each in its own way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, ensure};
use harness::{Parts, RecordType, Result, SOON, eventually};

use crate::bed::{AGENTS, Bed, CROWD, PAYMENTS};
use crate::manual;

/// Zonemaster holds what is private against a server. Nothing leads out of here, so this is nobody's.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 53);

/// Modules of Zonemaster that are about a name server, and not about what an administrator has registered.
const CLEAN: [&str; 4] = ["BASIC", "ADDRESS", "NAMESERVER", "SYNTAX"];

/// What a root and a reverse zone say of that server.
const ROOT: &str = "\
. 30 IN SOA ns.root. hostmaster.root. 1 3600 600 86400 5
. 30 IN NS ns.root.
ns.root. 30 IN A 127.0.0.1
global. 30 IN NS ns.global.
ns.global. 30 IN A 11.0.0.53
53.0.0.11.in-addr.arpa. 30 IN PTR ns.global.
";

#[tokio::test(flavor = "multi_thread")]
async fn zonemaster_has_nothing_to_say_but_what_the_manual_explains() -> Result {
    let bed = Bed::with("zonemaster", &[PUBLIC])?;
    let _agent = bed.agent_at(PUBLIC, 53, &[]).await?;
    let zone = bed.write("root.zone", ROOT)?;
    let corefile = format!(".:53 {{\n    bind 127.0.0.1\n    errors\n    file {} .\n}}\n", zone.display());
    let corefile = bed.write("Corefile", &corefile)?;
    let root = bed.process("coredns", bed.parts().bin("coredns")?, ["-conf".as_ref(), corefile.as_os_str()]);
    root.start()?;
    eventually(SOON, "the root answers", async || {
        let resolver = bed.place().resolver((Ipv4Addr::LOCALHOST, 53).into());
        ensure!(resolver.udp(".", RecordType::SOA).await?.authoritative);
        Ok(())
    })
    .await
    .with_context(|| root.logs())?;

    let program = include_str!("zonemaster.pl");
    let said = bed.run("zonemaster-perl", ["-e", program, "global", "ns.global", &PUBLIC.to_string()])?.done()?;
    let mut cases: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let entries = said.lines().filter_map(|line| Some((line.split_once(' ')?, line)));
    for ((level, rest), line) in entries {
        let case = rest.split(' ').next().unwrap_or_default();
        let lines = cases.entry(case).or_default();
        if !level.starts_with("DEBUG") && level != "INFO" {
            lines.push(line);
        }
    }
    for module in CLEAN {
        let ran = cases.iter().filter(|(case, _)| case.starts_with(module));
        let lines: Vec<_> = ran.clone().flat_map(|(_, lines)| lines).collect();
        ensure!(ran.count() > 0 && lines.is_empty(), "{module}: {lines:#?}\n{said}");
    }
    let unclean: BTreeSet<&str> = cases.iter().filter(|(_, lines)| !lines.is_empty()).map(|(case, _)| *case).collect();
    let rows = manual::rows("What Zonemaster says");
    let explained: BTreeSet<&str> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
    ensure!(unclean == explained, "Zonemaster says of {unclean:?}, and the manual of {explained:?}: {cases:#?}");
    Ok(())
}

/// What is asked with, how, and what the answer does and does not say.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str]);

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_all_makes_read_the_answers() -> Result {
    let bed = Bed::new("tools")?;
    let _agent = bed.agent(AGENTS[0], &[]).await?;
    let cases: &[Case<'_>] = &[
        ("dig", "PAYMENTS", &["status: NOERROR", "flags: qr aa rd; QUERY: 1, ANSWER: 2", "udp: 1232"], &["MALFORMED"]),
        ("dig", "+noedns PAYMENTS", &["ANSWER: 2"], &["OPT PSEUDOSECTION"]),
        ("dig", "PayMents.Shop.GLOBAL", &[";PayMents.Shop.GLOBAL.", "\nPayMents.Shop.GLOBAL."], &[]),
        ("dig", "+edns=1 +noednsneg PAYMENTS", &["status: BADVERS", "EDNS: version: 0"], &["10.1.0.1"]),
        ("dig", "+dnssec PAYMENTS", &["flags: do; udp"], &["RRSIG"]),
        ("dig", "+cookie=0102030405060708 PAYMENTS", &["ANSWER: 2"], &["COOKIE"]),
        ("dig", "+subnet=198.51.100.0/24 PAYMENTS", &["ANSWER: 2"], &["CLIENT-SUBNET"]),
        ("dig", "+nsid PAYMENTS", &["ANSWER: 2"], &["NSID"]),
        ("dig", "+ednsopt=65001:abcd +zflag PAYMENTS", &["ANSWER: 2"], &["OPT=65001", "MBZ"]),
        ("dig", "+bufsize=512 +ignore CROWD", &["flags: qr aa tc rd", "OPT PSEUDOSECTION"], &["10.1.1."]),
        ("dig", "+bufsize=4096 +ignore CROWD", &["flags: qr aa tc rd", "OPT PSEUDOSECTION"], &["10.1.1."]),
        ("dig", "+bufsize=512 CROWD", &["retrying in TCP mode", "ANSWER: 120"], &[]),
        ("dig", "+tcp +keepopen PAYMENTS CROWD", &["ANSWER: 2,", "ANSWER: 120,"], &["failed", "reset"]),
        ("dig", "+tcp +keepalive PAYMENTS", &["ANSWER: 2", "TCP KEEPALIVE: 30.0 secs"], &[]),
        ("dig", "+tcp PAYMENTS", &["ANSWER: 2"], &["KEEPALIVE"]),
        ("dig", "+notcp +keepalive PAYMENTS", &["ANSWER: 2"], &["KEEPALIVE"]),
        ("dig", "+notcp PAYMENTS ANY", &["ANSWER: 2"], &[]),
        ("dig", "+notcp global ANY", &["ANSWER: 1"], &[]),
        ("dig", "PAYMENTS AAAA", &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "SOA"], &[]),
        ("dig", "shop.global", &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "SOA"], &[]),
        ("dig", "nobody.shop.global", &["status: NXDOMAIN", "ANSWER: 0, AUTHORITY: 1", "SOA"], &[]),
        ("dig", "global DNSKEY", &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1"], &[]),
        ("dig", ". NS", &["status: REFUSED"], &["SOA"]),
        ("dig", "-x 10.1.0.1", &["status: REFUSED"], &["SOA"]),
        ("dig", "-c HS PAYMENTS", &["status: REFUSED"], &[]),
        ("dig", "+header-only", &["status: FORMERR"], &[]),
        ("dig", "global AXFR", &["Transfer failed"], &["SOA"]),
        ("dig", "global IXFR=1", &["Transfer failed"], &["SOA"]),
        ("dig", "+opcode=notify global SOA", &["opcode: NOTIFY, status: REFUSED"], &[]),
        ("dig", "+opcode=update global SOA", &["opcode: UPDATE, status: REFUSED"], &[]),
        ("dig", "+opcode=status global SOA", &["status: NOTIMP"], &[]),
        ("dig", "version.bind CH TXT", &["CH\tTXT\t\"federator "], &[]),
        ("dig", "version.server CH TXT", &["CH\tTXT\t\"federator "], &[]),
        ("dig", "hostname.bind CH TXT", &["status: REFUSED"], &[]),
        ("kdig", "PAYMENTS", &["status: NOERROR", "Flags: qr aa rd; QUERY: 1; ANSWER: 2"], &["WARNING"]),
        ("kdig", "+edns=1 PAYMENTS", &["status: BADVERS"], &[]),
        ("kdig", "+tcp +keepopen PAYMENTS CROWD", &["ANSWER: 2;", "ANSWER: 120;"], &["WARNING"]),
        ("kdig", "+cookie +nsid +subnet=198.51.100.0/24 +padding=64 PAYMENTS", &["ANSWER: 2"], &["COOKIE", "NSID"]),
        ("kdig", "+bufsize=512 CROWD", &["ANSWER: 120", "(TCP)"], &[]),
        ("kdig", "AXFR global", &["REFUSED"], &[]),
        ("kdig", "NOTIFY global", &["status: REFUSED"], &[]),
        ("drill", "PAYMENTS", &["rcode: NOERROR", "flags: qr aa rd ; QUERY: 1, ANSWER: 2"], &[]),
        ("drill", "-D PAYMENTS", &["flags: do", "ANSWER: 2"], &[]),
        ("drill", "-t CROWD", &["ANSWER: 120"], &[]),
        ("drill", "-a -b 512 CROWD", &["ANSWER: 120"], &[]),
        ("delv", "+noroot PAYMENTS", &["10.1.0.1", "10.1.0.2"], &["failed"]),
        ("delv", "+noroot nobody.shop.global", &["ncache nxdomain"], &[]),
    ];
    let agent = format!("@{}", AGENTS[0]);
    for (tool, asked, says, never) in cases {
        let names = asked.replace("PAYMENTS", PAYMENTS).replace("CROWD", CROWD);
        let arguments = ["-p", "5353", &agent].into_iter().chain(names.split(' '));
        let said = bed.run(tool, arguments)?;
        let text = said.out + &said.err;
        let (missing, found) =
            (says.iter().find(|part| !text.contains(**part)), never.iter().find(|part| text.contains(**part)));
        ensure!(missing.is_none() && found.is_none(), "{tool} {asked}: lacks {missing:?}, has {found:?}\n{text}");
    }
    let update =
        bed.write("update", "server 192.0.2.11 5353\nzone global\nupdate add x.global 5 A 10.0.0.1\nsend\n")?;
    let said = bed.run("nsupdate", [update])?;
    ensure!(said.code != 0 && said.err.contains("REFUSED"), "{said:?}");
    Ok(())
}

#[test]
fn the_manual_says_which_versions_are_run() -> Result {
    let parts = Parts::from_environment()?;
    let rows = manual::rows("What is run");
    for (resolver, part, option) in [
        ("CoreDNS", "coredns", "--version"),
        ("unbound", "unbound", "-V"),
        ("dnsmasq", "dnsmasq", "--version"),
        ("systemd-resolved", "systemd-resolved", "--version"),
    ] {
        let said = Command::new(parts.bin(part)?).arg(option).output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let row = rows.iter().find(|row| row[0] == resolver).context(resolver)?;
        let version = row[1].split(',').next().unwrap_or_default();
        let is_said = said.split([' ', '-', '\n']).any(|word| word == version);
        ensure!(is_said, "{resolver} is not {version}: {said}");
    }
    Ok(())
}
