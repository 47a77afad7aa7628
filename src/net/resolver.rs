//! Name resolution for the HTTP client.
//!
//! `ureq` resolves the host of every request, also of one that uses a pooled connection, and starts a thread for it
//! because of the timeout. Cells are called by IP addresses, which need neither.

use std::net::{IpAddr, SocketAddr};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The port of an `http` URL that has none.
const HTTP_PORT: u16 = 80;

/// Returns IP addresses as they are, and has `ureq` resolve names.
#[derive(Debug, Default)]
pub(super) struct AddressResolver {
    names: DefaultResolver,
}

impl Resolver for AddressResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let Some(address) = socket_address(uri) else { return self.names.resolve(uri, config, timeout) };
        let mut addresses = self.empty();
        addresses.push(address);
        Ok(addresses)
    }
}

/// The address in an `http` URL, or none if its host is a name.
fn socket_address(uri: &Uri) -> Option<SocketAddr> {
    if uri.scheme_str() != Some("http") {
        return None;
    }
    let host = uri.host()?;
    // An IPv6 address is in brackets.
    let ip: IpAddr = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()?;
    Some(SocketAddr::new(ip, uri.port_u16().unwrap_or(HTTP_PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_a_url_is_read() {
        for (url, address) in [
            ("http://127.0.0.1:8000/chunk/ab", Some("127.0.0.1:8000")),
            ("http://192.0.2.7/", Some("192.0.2.7:80")),
            ("http://[2001:db8::1]:8000/x", Some("[2001:db8::1]:8000")),
            ("http://cell.local:8000/x", None),
            ("https://127.0.0.1:8000/x", None),
            ("/x", None),
        ] {
            let found = socket_address(&url.parse().unwrap());
            assert_eq!(found, address.map(|address| address.parse().unwrap()), "{url}");
        }
    }
}
