//! The URL space: every URL this server hands out, made from the configured base and parsed back.

use crate::id::{AccountId, AuthzId, ChallengeId, OrderId};

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
    RenewalInfo,
    Account(AccountId),
    AccountOrders(AccountId),
    Order(OrderId),
    Finalize(OrderId),
    Certificate(OrderId),
    Authz(AuthzId),
    Challenge(AuthzId, ChallengeId),
}

/// The directory's `meta` as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub terms_of_service: Option<String>,
    pub website: Option<String>,
    pub caa_identities: Vec<String>,
    pub external_account_required: bool,
    /// Profile name → description.
    pub profiles: Vec<(String, String)>,
}

impl Urls {
    /// `base` must be an absolute https URL without path, query or fragment.
    pub fn new(base: &str) -> Result<Self, String> {
        todo!()
    }
    pub fn base(&self) -> &str {
        &self.base
    }
    /// The absolute URL of a resource.
    pub fn url(&self, resource: Resource) -> String {
        todo!()
    }
    /// Parses an absolute URL made by `url`; `None` for any other text.
    pub fn parse(&self, url: &str) -> Option<Resource> {
        todo!()
    }
    /// Parses the path of a request.
    pub fn parse_path(path: &str) -> Option<Resource> {
        todo!()
    }
    /// The directory object (RFC 8555 section 7.1.1) as JSON; members only for what is implemented.
    pub fn directory(&self, meta: &Meta) -> String {
        todo!()
    }
}
