//! The addresses that names may lead to.
//!
//! Which names are asked at all is decided before: only hosts that stand in the
//! configuration, and a proxy of the environment. Such a host may well stand in a private network (a
//! bucket behind a VPC, `MinIO`, a company's proxy).
//! Invariant: no name leads to a metadata service, which gives a machine's credentials to any caller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Alibaba's metadata service; most others are link-local.
const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Azure's, which stands in a public block.
const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
/// Amazon's over IPv6, in the block of private addresses.
const AMAZON: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether no image can be there: link-local, or a cloud's metadata service.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4 == ALIBABA || v4 == AZURE,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_forbidden(IpAddr::V4(v4)),
            None => v6.is_unicast_link_local() || v6 == AMAZON,
        },
    }
}

/// Whether the address names such a place itself; what is a name is looked at when it is resolved.
pub(super) fn names_a_forbidden_place(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => is_forbidden(IpAddr::V4(v4)),
        Some(Host::Ipv6(v6)) => is_forbidden(IpAddr::V6(v6)),
        Some(Host::Domain(_)) | None => false,
    }
}

/// Those of the addresses that may be called.
fn allowed(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    let n_found = found.len();
    let kept: Vec<SocketAddr> = found.into_iter().filter(|at| !is_forbidden(at.ip())).collect();
    if kept.is_empty() && n_found > 0 {
        return Err("the name leads to a metadata service, which is not called".to_owned());
    }
    Ok(kept)
}

/// Resolves names as the system does, but for metadata services.
#[derive(Debug)]
pub(super) struct MetadataBlockingResolver;

impl Resolve for MetadataBlockingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(allowed(found)?.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn a_configured_name_may_lead_into_a_private_network() {
        let inside = at(&["10.1.2.3", "192.168.1.4", "172.16.0.9", "fd12::1", "127.0.0.1"]);
        assert_eq!(allowed(inside.clone()), Ok(inside));
    }

    #[test]
    fn no_name_leads_to_a_metadata_service() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
        ] {
            assert!(allowed(at(&[address])).is_err(), "{address}");
            assert_eq!(allowed(at(&[address, "8.8.8.8"])), Ok(at(&["8.8.8.8"])));
        }
    }
}
