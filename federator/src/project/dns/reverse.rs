//! Virtual addresses in reverse: the zones of their ranges, and the name of each (RFC 1035, section 3.5; RFC 3596,
//! section 2.5). Pure.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::vip::{Vip, VipRanges};
use std::{fmt::Write as _, net::IpAddr};

/// Bits of an address that a label stands for.
const V4_LABEL: u8 = 8;
const V6_LABEL: u8 = 4;

/// The apexes of the zones that hold these ranges and nothing beside them, without a final dot: one a range where it ends at
/// a label, else one for each value of the label in which it ends.
pub(super) fn apexes(ranges: &VipRanges) -> Vec<String> {
    let (v4, v6): (Ipv4Net, Ipv6Net) = (ranges.v4(), ranges.v6());
    let v4 = v4.subnets(v4.prefix_len().next_multiple_of(V4_LABEL)).into_iter().flatten().map(IpNet::V4);
    let v6 = v6.subnets(v6.prefix_len().next_multiple_of(V6_LABEL)).into_iter().flatten().map(IpNet::V6);
    v4.chain(v6).map(|net| reversed(net.addr(), net.prefix_len())).collect()
}

/// The names of both addresses, without a final dot.
pub(super) fn names(vip: Vip) -> [String; 2] {
    [reversed(vip.v4.into(), 32), reversed(vip.v6.into(), 128)]
}

/// The first bits of an address as a name.
fn reversed(address: IpAddr, bits: u8) -> String {
    let mut name = String::new();
    match address {
        IpAddr::V4(v4) => {
            for octet in v4.octets()[..usize::from(bits / V4_LABEL)].iter().rev() {
                let _ = write!(name, "{octet}.");
            }
            name + "in-addr.arpa"
        }
        IpAddr::V6(v6) => {
            for nibble in (0..bits / V6_LABEL).rev() {
                let _ = write!(name, "{:x}.", v6.to_bits() >> (124 - 4 * u32::from(nibble)) & 0xf);
            }
            name + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(v4: &str, v6: &str) -> VipRanges {
        VipRanges::new(v4.parse().expect("a network"), v6.parse().expect("a network")).expect("good ranges")
    }

    #[test]
    fn zones_hold_the_ranges_and_nothing_else() {
        assert_eq!(apexes(&ranges("10.8.0.0/16", "fd00:1::/32")), ["8.10.in-addr.arpa", "1.0.0.0.0.0.d.f.ip6.arpa"]);
        let split = apexes(&ranges("172.16.0.0/12", "fd00::/63"));
        let (v4, v6) = split.split_at(16);
        assert_eq!((&*v4[0], &*v4[15]), ("16.172.in-addr.arpa", "31.172.in-addr.arpa"));
        assert_eq!(v6, ["0", "1"].map(|last| format!("{last}.{}d.f.ip6.arpa", "0.".repeat(13))));
    }

    #[test]
    fn an_address_has_its_name_in_one_of_the_zones() {
        let vip = Vip { v4: "240.64.1.9".parse().expect("v4"), v6: "fd66::a".parse().expect("v6") };
        let names = names(vip);
        assert_eq!(names[0], "9.1.64.240.in-addr.arpa");
        assert_eq!(names[1], format!("a.{}6.6.d.f.ip6.arpa", "0.".repeat(27)));
        let apexes = apexes(&ranges("240.64.0.0/10", "fd66::/64"));
        for name in names {
            assert_eq!(apexes.iter().filter(|apex| name.ends_with(&format!(".{apex}"))).count(), 1, "{name}");
        }
    }
}
