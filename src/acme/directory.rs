//! The URL space: every URL this server hands out, made from the configured base and parsed back.
//!
//! No URL here has a query: what a client signs as `url` is compared as text.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Serialize;

use super::json;
use crate::id::{AccountId, AuthzId, ChallengeId, NotAnId, OrderId, Serial};

/// `https://host[:port]` without a trailing slash, as configured; never taken from a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    base: String,
}

/// The paths ACME requests can name. `web::route` and the issuer both parse with this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    Directory,
    NewNonce,
    NewAccount,
    NewOrder,
    NewAuthz,
    RevokeCert,
    KeyChange,
    /// The directory's `renewalInfo`; clients append the certificate's identifier.
    RenewalInfo,
    /// RFC 9773 section 4.1.
    Renewal(CertId),
    Account(AccountId),
    AccountOrders(AccountId),
    /// The page of an account's orders that follows this one (RFC 8555 section 7.1.2.1).
    AccountOrdersAfter(AccountId, OrderId),
    Order(OrderId),
    Finalize(OrderId),
    Certificate(OrderId),
    Authz(AuthzId),
    Challenge(AuthzId, ChallengeId),
    /// The certificate with another chain behind it, counted from 1 (RFC 8555 section 7.4.2).
    AlternateCertificate(OrderId, u8),
}

/// A certificate of this server as renewal information names it (RFC 9773 section 4.1): the issuer's
/// key identifier and the serial's content octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CertId {
    pub issuer_key_id: [u8; 20],
    pub serial: Serial,
}

/// The directory's `meta` as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub terms_of_service: Option<String>,
    pub website: Option<String>,
    pub caa_identities: Vec<String>,
    /// The names by which records of dns-persist-01 mean this server; none: it is not offered.
    pub issuer_domain_names: Vec<String>,
    pub external_account_required: bool,
    /// Whether proof of a name counts for those below it (RFC 9444).
    pub subdomain_auth_allowed: bool,
    /// Profile name → description.
    pub profiles: Vec<(String, String)>,
}

impl Urls {
    /// `base` must be an absolute https URL without path, query or fragment, spelt as clients spell it:
    /// lower case, and no `:443`. Account URLs contain it and live as long as this server.
    pub fn new(base: &str) -> Result<Self, String> {
        let Some(authority) = base.strip_prefix("https://") else {
            return Err(format!("{base:?} does not begin with https://"));
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) =
                    rest.split_once(']').ok_or_else(|| format!("{base:?} lacks a closing ]"))?;
                let canonical = address.parse::<Ipv6Addr>().map(|parsed| parsed.to_string());
                if canonical.as_deref() != Ok(address) {
                    return Err(format!("[{address}] is not an IPv6 address in canonical form"));
                }
                (None, port)
            }
            None => {
                let end = authority.find(':').unwrap_or(authority.len());
                (Some(&authority[..end]), &authority[end..])
            }
        };
        if let Some(host) = host {
            check_host(host)?;
        }
        match port.strip_prefix(':') {
            None if port.is_empty() => {}
            Some("443") => {
                return Err("leave out :443; clients do, and URLs are compared as text".into());
            }
            Some(digits)
                if digits
                    .parse::<u16>()
                    .is_ok_and(|port| port != 0 && port.to_string() == digits) => {}
            _ => {
                return Err(format!(
                    "{base:?}: after the host only a port may follow, no path, query or fragment"
                ));
            }
        }
        Ok(Self { base: base.to_owned() })
    }

    /// The base, without a trailing slash.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The absolute URL of a resource.
    pub fn url(&self, resource: Resource) -> String {
        format!("{}{resource}", self.base)
    }

    /// Where the proof is that a certificate is in the log.
    pub fn proof(&self, serial: Serial) -> String {
        format!("{}{PROOFS}{serial}{PROOF_SUFFIX}", self.base)
    }

    /// The inverse, of the path alone; `None` for any other spelling.
    pub fn parse_proof(path: &str) -> Option<Serial> {
        let text = path.strip_prefix(PROOFS)?.strip_suffix(PROOF_SUFFIX)?;
        text.parse().ok().filter(|serial: &Serial| serial.to_string() == text)
    }

    /// What hashed account URIs of dns-persist-01 begin with. Nothing is served below it.
    pub fn account_hash_prefix(&self) -> String {
        format!("{}{PREFIX}account-hash/", self.base)
    }

    /// Parses an absolute URL made by `url`; `None` for any other text.
    pub fn parse(&self, url: &str) -> Option<Resource> {
        Self::parse_path(url.strip_prefix(&self.base)?)
    }

    /// Parses the path of a request.
    pub fn parse_path(path: &str) -> Option<Resource> {
        let mut segments = path.strip_prefix(PREFIX)?.split('/');
        let mut next = || segments.next();
        let resource = match (next()?, next(), next(), next()) {
            ("directory", None, ..) => Resource::Directory,
            ("new-nonce", None, ..) => Resource::NewNonce,
            ("new-account", None, ..) => Resource::NewAccount,
            ("new-order", None, ..) => Resource::NewOrder,
            ("new-authz", None, ..) => Resource::NewAuthz,
            ("revoke-cert", None, ..) => Resource::RevokeCert,
            ("key-change", None, ..) => Resource::KeyChange,
            ("renewal-info", None, ..) => Resource::RenewalInfo,
            ("renewal-info", Some(id), None, _) => Resource::Renewal(id.parse().ok()?),
            ("acct", Some(id), None, _) => Resource::Account(id.parse().ok()?),
            ("acct", Some(id), Some("orders"), None) => Resource::AccountOrders(id.parse().ok()?),
            ("acct", Some(id), Some("orders"), Some(after)) => {
                Resource::AccountOrdersAfter(id.parse().ok()?, after.parse().ok()?)
            }
            ("order", Some(id), None, _) => Resource::Order(id.parse().ok()?),
            ("order", Some(id), Some("finalize"), None) => Resource::Finalize(id.parse().ok()?),
            ("order", Some(id), Some("certificate"), None) => {
                Resource::Certificate(id.parse().ok()?)
            }
            ("order", Some(id), Some("certificate"), Some(chain)) => {
                Resource::AlternateCertificate(id.parse().ok()?, alternate(chain)?)
            }
            ("authz", Some(id), None, _) => Resource::Authz(id.parse().ok()?),
            ("authz", Some(id), Some(challenge), None) => {
                Resource::Challenge(id.parse().ok()?, challenge.parse().ok()?)
            }
            _ => return None,
        };
        segments.next().is_none().then_some(resource)
    }

    /// The directory object (RFC 8555 section 7.1.1) as JSON. The five required members are always
    /// there, for clients refuse a directory without them; `optional` adds what of `NewAuthz` and
    /// `RenewalInfo` this server implements.
    pub fn directory(&self, meta: &Meta, optional: &[Resource]) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Directory<'a> {
            new_nonce: String,
            new_account: String,
            new_order: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            new_authz: Option<String>,
            revoke_cert: String,
            key_change: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            renewal_info: Option<String>,
            meta: MetaObject<'a>,
        }

        let optional =
            |resource: Resource| optional.contains(&resource).then(|| self.url(resource));
        json::text(&Directory {
            new_nonce: self.url(Resource::NewNonce),
            new_account: self.url(Resource::NewAccount),
            new_order: self.url(Resource::NewOrder),
            new_authz: optional(Resource::NewAuthz),
            revoke_cert: self.url(Resource::RevokeCert),
            key_change: self.url(Resource::KeyChange),
            renewal_info: optional(Resource::RenewalInfo),
            meta: MetaObject {
                terms_of_service: meta.terms_of_service.as_deref(),
                website: meta.website.as_deref(),
                caa_identities: &meta.caa_identities,
                issuer_domain_names: &meta.issuer_domain_names,
                account_hash_prefix: (!meta.issuer_domain_names.is_empty())
                    .then(|| self.account_hash_prefix()),
                external_account_required: meta.external_account_required,
                subdomain_auth_allowed: meta.subdomain_auth_allowed,
                profiles: meta
                    .profiles
                    .iter()
                    .map(|(name, text)| (name.as_str(), text.as_str()))
                    .collect(),
            },
        })
    }
}

impl fmt::Display for Resource {
    /// The path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        match self {
            Self::Directory => f.write_str("directory"),
            Self::NewNonce => f.write_str("new-nonce"),
            Self::NewAccount => f.write_str("new-account"),
            Self::NewOrder => f.write_str("new-order"),
            Self::NewAuthz => f.write_str("new-authz"),
            Self::RevokeCert => f.write_str("revoke-cert"),
            Self::KeyChange => f.write_str("key-change"),
            Self::RenewalInfo => f.write_str("renewal-info"),
            Self::Renewal(id) => write!(f, "renewal-info/{id}"),
            Self::Account(id) => write!(f, "acct/{id}"),
            Self::AccountOrders(id) => write!(f, "acct/{id}/orders"),
            Self::AccountOrdersAfter(id, after) => write!(f, "acct/{id}/orders/{after}"),
            Self::Order(id) => write!(f, "order/{id}"),
            Self::Finalize(id) => write!(f, "order/{id}/finalize"),
            Self::Certificate(id) => write!(f, "order/{id}/certificate"),
            Self::AlternateCertificate(id, chain) => write!(f, "order/{id}/certificate/{chain}"),
            Self::Authz(id) => write!(f, "authz/{id}"),
            Self::Challenge(authz, id) => write!(f, "authz/{authz}/{id}"),
        }
    }
}

impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_id = Base64UrlUnpadded::encode_string(&self.issuer_key_id);
        let serial = Base64UrlUnpadded::encode_string(self.serial.octets());
        write!(f, "{key_id}.{serial}")
    }
}

impl FromStr for CertId {
    type Err = NotAnId;

    /// Accepts the one spelling of a certificate this server can have issued.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (key_id, serial) = text.split_once('.').ok_or(NotAnId)?;
        if (key_id.len(), serial.len()) != (27, 22) {
            return Err(NotAnId);
        }
        let octets = |text| Base64UrlUnpadded::decode_vec(text).map_err(|_| NotAnId);
        Ok(Self {
            issuer_key_id: octets(key_id)?.try_into().map_err(|_| NotAnId)?,
            serial: Serial::from_octets(&octets(serial)?).ok_or(NotAnId)?,
        })
    }
}

/// RFC 8555 section 9.7.6 and draft-ietf-acme-profiles; empty members are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetaObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    terms_of_service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    website: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    caa_identities: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    issuer_domain_names: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    account_hash_prefix: Option<String>,
    external_account_required: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    subdomain_auth_allowed: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    profiles: BTreeMap<&'a str, &'a str>,
}

/// Every ACME path begins so.
/// Below it are the proofs that certificates are in the log (C2SP tlog-proof).
pub const PROOFS: &str = "/proof/";
const PROOF_SUFFIX: &str = ".tlog-proof";
/// How answers call such a proof: as the relation of a link, and as a member of the order object.
pub const PROOF: &str = "https://c2sp.org/tlog-proof@v1";

const PREFIX: &str = "/acme/";

/// The number of an alternate chain in its one spelling.
fn alternate(text: &str) -> Option<u8> {
    text.parse().ok().filter(|chain: &u8| *chain > 0 && chain.to_string() == text)
}

/// A DNS name or IPv4 address in the one spelling that clients keep.
fn check_host(host: &str) -> Result<(), String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(format!(
            "{host:?} is not a host name: lower-case letters, digits and hyphens, between dots"
        ));
    }
    let numeric =
        host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!("{host:?} is neither a host name nor an IPv4 address"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn urls() -> Urls {
        Urls::new("https://ca.home.arpa:8443").unwrap()
    }

    #[test]
    fn bases() {
        for good in [
            "https://ca",
            "https://localhost:8443",
            "https://10.0.0.1",
            "https://[fd00::1]:14000",
            "https://[fd00::1]",
            "https://xn--bcher-kva.lan",
        ] {
            assert_eq!(Urls::new(good).map(|urls| urls.base().to_owned()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "http://ca.lan",
            "https://",
            "https://ca.lan/",
            "https://ca.lan/acme",
            "https://CA.lan",
            "https://ca.lan:443",
            "https://ca.lan:0",
            "https://ca.lan:",
            "https://ca.lan:08443",
            "https://ca.lan:+8443",
            "https://ca.lan:99999",
            "https://ca..lan",
            "https://ca.lan.",
            "https://user@ca.lan",
            "https://ca.lan?x",
            "https://ca.lan#x",
            "https://10.0.0.256",
            "https://[fd00::1",
            "https://[FD00::1]",
            "https://[fd00:0::1]",
            "https://[fd00::1]x",
        ] {
            assert!(Urls::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_has_what_is_required_and_what_is_implemented() {
        let meta = Meta {
            terms_of_service: Some("https://ca.home.arpa/terms".into()),
            external_account_required: false,
            profiles: vec![("device".into(), "90 days".into())],
            ..Meta::default()
        };
        let directory: Value = serde_json::from_str(&urls().directory(&meta, &[])).unwrap();
        assert_eq!(
            directory,
            json!({
                "newNonce": "https://ca.home.arpa:8443/acme/new-nonce",
                "newAccount": "https://ca.home.arpa:8443/acme/new-account",
                "newOrder": "https://ca.home.arpa:8443/acme/new-order",
                "revokeCert": "https://ca.home.arpa:8443/acme/revoke-cert",
                "keyChange": "https://ca.home.arpa:8443/acme/key-change",
                "meta": {
                    "termsOfService": "https://ca.home.arpa/terms",
                    "externalAccountRequired": false,
                    "profiles": {"device": "90 days"},
                },
            })
        );
        let optional = [Resource::NewAuthz, Resource::RenewalInfo];
        let more: Value = serde_json::from_str(&urls().directory(&meta, &optional)).unwrap();
        assert_eq!(more["newAuthz"], "https://ca.home.arpa:8443/acme/new-authz");
        assert_eq!(more["renewalInfo"], "https://ca.home.arpa:8443/acme/renewal-info");
        assert_eq!(more["meta"].get("subdomainAuthAllowed"), None);
        let meta = Meta { subdomain_auth_allowed: true, ..meta };
        let more: Value = serde_json::from_str(&urls().directory(&meta, &optional)).unwrap();
        assert_eq!(more["meta"]["subdomainAuthAllowed"], true);
    }

    #[test]
    fn what_is_no_resource() {
        let id = OrderId([3; 16]);
        for path in [
            String::new(),
            "/".into(),
            "/acme".into(),
            "/acme/".into(),
            "/acme/directory/".into(),
            "/acme/directory?x".into(),
            "/acme//directory".into(),
            "/ACME/directory".into(),
            format!("/acme/order/{id}/"),
            format!("/acme/order/{id}/finalize/"),
            format!("/acme/order/{id}/finalize/x"),
            format!("/acme/order/{id}/certificate/0"),
            format!("/acme/order/{id}/certificate/01"),
            format!("/acme/order/{id}/certificate/+1"),
            format!("/acme/order/{id}/certificate/256"),
            format!("/acme/order/{id}/certificate/1/"),
            format!("/acme/order/{id}="),
            format!("/acme/acct/{id}/orders/{id}/x"),
            format!("/acme/authz/{id}/{id}/{id}"),
            "/acme/renewal-info/aYhba4dGQEHhs3uEe6CuLN4ByNQ".into(),
            // RFC 9773's example: well formed, but not a serial of this server's.
            "/acme/renewal-info/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".into(),
        ] {
            assert_eq!(Urls::parse_path(&path), None, "{path}");
        }
        assert_eq!(urls().parse("https://ca.home.arpa:84430/acme/directory"), None);
        assert_eq!(urls().parse("https://ca.home.arpa/acme/directory"), None);
    }

    fn resource() -> impl Strategy<Value = Resource> {
        let plain = prop_oneof![
            Just(Resource::Directory),
            Just(Resource::NewNonce),
            Just(Resource::NewAccount),
            Just(Resource::NewOrder),
            Just(Resource::NewAuthz),
            Just(Resource::RevokeCert),
            Just(Resource::KeyChange),
            Just(Resource::RenewalInfo),
        ];
        let id = any::<[u8; 16]>;
        let one =
            (0..7usize, id(), id(), any::<[u8; 20]>()).prop_map(|(which, a, b, key)| match which {
                0 => Resource::Account(AccountId(a)),
                1 => Resource::AccountOrders(AccountId(a)),
                2 => Resource::AccountOrdersAfter(AccountId(a), OrderId(b)),
                3 => Resource::Order(OrderId(a)),
                4 => Resource::Finalize(OrderId(a)),
                5 => Resource::Certificate(OrderId(a)),
                _ => {
                    Resource::Renewal(CertId { issuer_key_id: key, serial: Serial::from_random(b) })
                }
            });
        let authz = (id(), id(), any::<bool>()).prop_map(|(a, b, whole)| {
            if whole {
                Resource::Authz(AuthzId(a))
            } else {
                Resource::Challenge(AuthzId(a), ChallengeId(b))
            }
        });
        prop_oneof![plain, one, authz]
    }

    proptest! {
        #[test]
        fn urls_are_read_back(resource in resource()) {
            prop_assert_eq!(urls().parse(&urls().url(resource)), Some(resource));
        }

        #[test]
        fn a_resource_has_one_url(path in "/acme/(order|acct|authz|renewal-info)(/[A-Za-z0-9_.-]{20,50}){0,3}(/orders|/finalize)?") {
            if let Some(resource) = Urls::parse_path(&path) {
                prop_assert_eq!(resource.to_string(), path);
            }
        }
    }
}
