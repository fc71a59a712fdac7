//! The network-facing process: listens, parses, validates, owns orders. Has no PIN, no module, no key.

pub mod flow;
pub mod listen;
pub mod metrics;
pub mod page;
pub mod route;
pub mod tls;

use serde::{Deserialize, Serialize};

/// The `[web]` table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// The https URL clients are given, without trailing slash. Fixed for life: account URLs contain it.
    pub base_url: String,
    /// Addresses of the ACME listener (HTTPS).
    pub listen: Vec<std::net::SocketAddr>,
    /// Addresses of the plain HTTP listener for CRLs, chains and /root.pem. Port 80 but in labs.
    pub listen_http: Vec<std::net::SocketAddr>,
    /// Where /metrics, /healthz and /readyz answer besides; empty: on the HTTPS listener only for loopback peers.
    pub listen_metrics: Vec<std::net::SocketAddr>,
    pub terms_of_service: Option<String>,
    pub website: Option<String>,
    pub connections: usize,
    pub handshakes: usize,
    pub handshake_timeout_seconds: u64,
    pub header_timeout_seconds: u64,
    pub body_timeout_seconds: u64,
    pub idle_timeout_seconds: u64,
    pub grace_seconds: u64,
    /// Lifetime of a pending order and authorization.
    pub order_hours: u64,
    /// Lifetime of a valid authorization.
    pub authorization_hours: u64,
    /// How long ended orders are kept.
    pub retention_days: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: "https://localhost:8443".into(),
            listen: Vec::new(),
            listen_http: Vec::new(),
            listen_metrics: Vec::new(),
            terms_of_service: None,
            website: None,
            connections: 1024,
            handshakes: 32,
            handshake_timeout_seconds: 10,
            header_timeout_seconds: 10,
            body_timeout_seconds: 10,
            idle_timeout_seconds: 60,
            grace_seconds: 10,
            order_hours: 168,
            authorization_hours: 720,
            retention_days: 30,
        }
    }
}
