//! Which request is this? A pure parse of method and target into an enum, over every byte string.

use hyper::Method;

use crate::acme::directory::{CertId, PROOFS, Resource, Urls};
use crate::id::Serial;
use crate::tlog::tile::TilePath;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `GET` or `HEAD` of the directory.
    Directory,
    /// `GET` (204) or `HEAD` (200) of newNonce.
    NewNonce {
        head: bool,
    },
    /// `GET` or `HEAD` of a certificate's renewal information (RFC 9773).
    Renewal(CertId),
    /// A signed request to an ACME resource.
    Acme(Resource),
    /// A CORS preflight of an ACME resource.
    Preflight,
    /// The page for people.
    Page,
    /// A published file.
    Public(PublicFile<'a>),
    /// `POST` of another log's checkpoint to this box as its witness (C2SP tlog-witness).
    AddCheckpoint,
    /// A tile of the log's tree, or a bundle of its entries (C2SP tlog-tiles).
    Tile(TilePath),
    /// The proof that a certificate is in the log (C2SP tlog-proof).
    Proof(Serial),
    /// For probes and operators; answered to loopback peers and on the metrics listener.
    Probe(Probe),
    /// The resource exists, the method does not; the text is the `Allow` header.
    MethodNotAllowed(&'static str),
    NotFound,
}

/// What probes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether this process answers.
    Alive,
    /// Whether a certificate could be issued now.
    Ready,
    Metrics,
}

/// A file below `public/` that the web process may serve. The name cannot leave that directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicFile<'a> {
    name: &'a str,
    kind: PublicKind,
}

/// The kinds of published files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKind {
    /// Certificates in PEM.
    Pem,
    /// One certificate in DER.
    Certificate,
    /// A CRL in DER.
    Crl,
    /// A log's checkpoint, a signed note.
    Checkpoint,
}

/// Parses method and request target. Nothing here has a query; a target with one is not found.
pub fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    if let Some(resource) = Urls::parse_path(path) {
        return acme(method, resource);
    }
    if path == "/witness/add-checkpoint" {
        return if *method == Method::POST {
            Route::AddCheckpoint
        } else {
            Route::MethodNotAllowed("POST")
        };
    }
    let found = match path {
        "/" => Route::Page,
        "/healthz" => Route::Probe(Probe::Alive),
        "/readyz" => Route::Probe(Probe::Ready),
        "/metrics" => Route::Probe(Probe::Metrics),
        _ => match published(path) {
            Some(found) => found,
            None => return Route::NotFound,
        },
    };
    if reads { found } else { Route::MethodNotAllowed("GET, HEAD") }
}

/// What the issuer publishes, by its one path.
fn published(path: &str) -> Option<Route<'_>> {
    if let Some(tile) = path.strip_prefix("/tile/") {
        return TilePath::parse(tile).map(Route::Tile);
    }
    if path.starts_with(PROOFS) {
        return Urls::parse_proof(path).map(Route::Proof);
    }
    PublicFile::parse(path).map(Route::Public)
}

/// Resources that this release does not serve, and the directory does not name, are not found.
fn acme<'a>(method: &Method, resource: Resource) -> Route<'a> {
    match (resource, method.as_str()) {
        (Resource::Directory, "GET" | "HEAD") => Route::Directory,
        (Resource::NewNonce, "GET") => Route::NewNonce { head: false },
        (Resource::NewNonce, "HEAD") => Route::NewNonce { head: true },
        // Clients append a certificate's identifier; by itself it is nothing.
        (Resource::RenewalInfo, _) => Route::NotFound,
        (_, "OPTIONS") => Route::Preflight,
        (Resource::Renewal(id), "GET" | "HEAD") => Route::Renewal(id),
        (Resource::Renewal(_), _) => Route::MethodNotAllowed("GET, HEAD, OPTIONS"),
        (_, "POST") => Route::Acme(resource),
        (Resource::Directory | Resource::NewNonce, _) => {
            Route::MethodNotAllowed("GET, HEAD, POST, OPTIONS")
        }
        _ => Route::MethodNotAllowed("POST, OPTIONS"),
    }
}

impl<'a> PublicFile<'a> {
    /// A name that is published: at most four segments of letters, digits, `-`, `_` and `.`, none of which
    /// begins with a dot, with the extension of something published; or `checkpoint`, the same with cosignatures, or
    /// what this box cosigned last of another log, by the hash of its origin.
    fn parse(path: &'a str) -> Option<Self> {
        let name = path.strip_prefix('/')?;
        let cosigned = |name: &str| {
            name.strip_prefix("witness/")
                .and_then(|name| name.strip_suffix("/checkpoint"))
                .is_some_and(|hash| {
                    hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                })
        };
        if matches!(name, "checkpoint" | "checkpoint.witnessed") || cosigned(name) {
            return Some(Self { name, kind: PublicKind::Checkpoint });
        }
        let (stem, extension) = name.rsplit_once('.')?;
        let kind = match extension {
            "pem" => PublicKind::Pem,
            "cer" | "crt" | "der" => PublicKind::Certificate,
            "crl" => PublicKind::Crl,
            _ => return None,
        };
        let plain = |segment: &str| {
            !segment.is_empty()
                && !segment.starts_with('.')
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let safe = name.len() <= 128 && name.split('/').count() <= 4 && stem.split('/').all(plain);
        safe.then_some(Self { name, kind })
    }

    /// The path below `public/`, relative.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its kind.
    pub fn kind(&self) -> PublicKind {
        self.kind
    }
}

impl PublicKind {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Pem => "application/x-pem-file",
            Self::Certificate => "application/pkix-cert",
            Self::Crl => "application/pkix-crl",
            Self::Checkpoint => "text/plain; charset=utf-8",
        }
    }

    /// How long a cache may keep it, in seconds, before asking whether it changed.
    pub fn max_age(self) -> u32 {
        match self {
            Self::Pem | Self::Certificate => 86_400,
            Self::Crl => 300,
            Self::Checkpoint => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::OrderId;

    fn get(target: &str) -> Route<'_> {
        route(&Method::GET, target)
    }

    #[test]
    fn published_files_are_a_white_list() {
        for (path, name) in [
            ("/root.pem", "root.pem"),
            ("/issuing.cer", "issuing.cer"),
            ("/crl/issuing.crl", "crl/issuing.crl"),
            ("/checkpoint", "checkpoint"),
            ("/checkpoint.witnessed", "checkpoint.witnessed"),
            (WATCHED, &WATCHED[1..]),
        ] {
            match get(path) {
                Route::Public(file) => assert_eq!(file.name(), name),
                other => panic!("{path}: {other:?}"),
            }
        }
        for path in [
            "/../root.pem",
            "/a/../root.pem",
            "/.root.pem",
            "/a//root.pem",
            "//etc.pem",
            "/a/b/c/d/e.pem",
            "/a/.b/c.pem",
            "/root.PEM",
            "/root.key",
            "/%2e%2e/root.pem",
            "/root.pem/",
            "/.pem",
            "/a/.pem",
            "/checkpoint/",
            "/witness/checkpoint",
            "/witness/A0f1/checkpoint",
            "/witness/../checkpoint",
            &WATCHED.to_ascii_uppercase(),
            &WATCHED.replace("0f", "0g"),
            "/root\0.pem",
        ] {
            assert_eq!(get(path), Route::NotFound, "{path}");
        }
    }

    const WATCHED: &str =
        "/witness/0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f/checkpoint";

    #[test]
    fn a_witness_takes_checkpoints_by_post() {
        let path = "/witness/add-checkpoint";
        assert_eq!(route(&Method::POST, path), Route::AddCheckpoint);
        assert_eq!(get(path), Route::MethodNotAllowed("POST"));
        assert_eq!(route(&Method::POST, "/add-checkpoint"), Route::NotFound);
        assert_eq!(route(&Method::POST, WATCHED), Route::MethodNotAllowed("GET, HEAD"));
    }

    #[test]
    fn methods_are_told_apart() {
        let urls = Urls::new("https://ca.test").unwrap();
        let path = |resource| urls.url(resource)["https://ca.test".len()..].to_owned();
        let order = path(Resource::Order(OrderId([3; 16])));
        assert_eq!(get(&order), Route::MethodNotAllowed("POST, OPTIONS"));
        assert_eq!(route(&Method::POST, &order), Route::Acme(Resource::Order(OrderId([3; 16]))));
        assert_eq!(route(&Method::OPTIONS, &order), Route::Preflight);
        assert_eq!(get(&path(Resource::Directory)), Route::Directory);
        assert_eq!(get(&path(Resource::NewNonce)), Route::NewNonce { head: false });
        assert_eq!(route(&Method::HEAD, &path(Resource::NewNonce)), Route::NewNonce { head: true });
        let id = CertId { issuer_key_id: [5; 20], serial: Serial::from_random([7; 16]) };
        let renewal = path(Resource::Renewal(id));
        assert_eq!(get(&renewal), Route::Renewal(id));
        assert_eq!(route(&Method::OPTIONS, &renewal), Route::Preflight);
        assert!(matches!(route(&Method::POST, &renewal), Route::MethodNotAllowed(_)));
        assert_eq!(get(&path(Resource::RenewalInfo)), Route::NotFound);
        assert_eq!(route(&Method::POST, "/"), Route::MethodNotAllowed("GET, HEAD"));
        assert_eq!(route(&Method::POST, "/root.pem"), Route::MethodNotAllowed("GET, HEAD"));
        assert_eq!(get("/metrics"), Route::Probe(Probe::Metrics));
        assert_eq!(get("/nowhere"), Route::NotFound);
    }

    #[test]
    fn tiles_and_proofs_have_one_path_each() {
        assert!(matches!(get("/tile/0/x001/234.p/7"), Route::Tile(_)));
        assert!(matches!(get("/tile/entries/000"), Route::Tile(_)));
        assert_eq!(route(&Method::POST, "/tile/0/000"), Route::MethodNotAllowed("GET, HEAD"));
        let serial = Serial::from_random([9; 16]);
        let url = Urls::new("https://ca.test").unwrap().proof(serial);
        let path = &url["https://ca.test".len()..];
        assert_eq!(get(path), Route::Proof(serial));
        for path in [
            "/tile/0/000/",
            "/tile/0/../0",
            "/tile/64/000",
            "/tile/",
            "/proof/",
            &path.to_uppercase(),
            &path.replace(".tlog-proof", ""),
            &path.replace("09", "0A"),
            &format!("{path}/"),
        ] {
            assert_eq!(get(path), Route::NotFound, "{path}");
        }
    }

    #[test]
    fn nothing_has_a_query() {
        for target in ["/?", "/root.pem?x", "/healthz?verbose"] {
            assert_eq!(get(target), Route::NotFound, "{target}");
        }
        let urls = Urls::new("https://ca.test").unwrap();
        let directory = urls.url(Resource::Directory).replace("https://ca.test", "");
        assert_eq!(get(&format!("{directory}?")), Route::NotFound);
    }

    proptest! {
        #[test]
        fn no_target_leaves_the_public_directory(target in ".*") {
            if let Route::Public(file) = get(&target) {
                prop_assert!(!file.name().contains(".."));
                prop_assert!(!file.name().starts_with('/'));
                prop_assert!(file.name().bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
