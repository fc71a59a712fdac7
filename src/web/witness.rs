//! Brings this log's checkpoints to its witnesses (C2SP tlog-witness): a courier of the issuer, which makes what is
//! sent and judges what comes back. Nobody waits for it: a witness that is away costs a line in the health.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::Server;
use crate::env::net::Connection;
use crate::env::{Dialer, Resolver};
use crate::ipc::witness::{Carried, Errand, ErrandKind, MAX_ANSWER, MOST, Outcome};
use crate::ipc::{Answer, AskError, Question};
use crate::tlog::note::{NoteKeyKind, VerifierKey};
use crate::tlog::witness::parse_size;

/// One entry of `[[web.witnesses]]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Its key as it tells it: `name+id+key`.
    pub vkey: String,
    /// Its prefix, http or https: `add-checkpoint` is below it.
    pub url: String,
    /// Certificates that its https certificate must lead to, PEM; without, those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<PathBuf>,
}

impl Settings {
    /// The vkey, parsed. The text of an error is for the operator.
    pub fn key(&self) -> Result<VerifierKey, String> {
        let refused =
            |why: &str| Err(format!("CHY-WITNESS-VKEY: [[web.witnesses]]: {:?}: {why}", self.vkey));
        match self.vkey.parse::<VerifierKey>() {
            Ok(key) if key.kind() == NoteKeyKind::Cosignature => Ok(key),
            Ok(_) => refused("this is the key of a log, not of a witness (type 4)"),
            Err(why) => refused(why.0),
        }
    }

    /// Where it is. The text of an error is for the operator.
    pub fn place(&self) -> Result<Place, String> {
        Place::parse(&self.url).map_err(|why| {
            format!("CHY-CONFIG-VALUE: [[web.witnesses]] url = {:?}: {why}", self.url)
        })
    }
}

/// Whether every entry makes sense. The text of an error is for the operator.
pub fn check(witnesses: &[Settings]) -> Result<(), String> {
    if witnesses.len() > MOST {
        return Err(format!("CHY-CONFIG-VALUE: [[web.witnesses]]: more than {MOST} witnesses"));
    }
    for (n, witness) in witnesses.iter().enumerate() {
        witness.key()?;
        witness.place()?;
        if witnesses[..n].iter().any(|other| other.vkey == witness.vkey) {
            return Err(format!(
                "CHY-CONFIG-VALUE: [[web.witnesses]]: {:?} is there twice",
                witness.vkey
            ));
        }
    }
    Ok(())
}

/// A witness's URL, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    tls: bool,
    host: String,
    port: u16,
    /// Host and port as the URL has them.
    authority: String,
    /// Begins with a slash unless it is empty; does not end with one.
    prefix: String,
}

impl Place {
    fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "no URL")?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("neither http nor https"),
        };
        let authority = uri.authority().ok_or("no host")?;
        if uri.query().is_some() || authority.as_str().contains('@') || url.contains('#') {
            return Err("takes neither query nor fragment nor user");
        }
        if url.ends_with('/') {
            return Err("takes a URL without a slash at its end");
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The TCP port that is dialled.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// What reaches the witnesses, in the order of the configuration.
pub struct Courier {
    witnesses: Vec<Arc<Target>>,
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
}

/// One witness as it is visited.
pub struct Target {
    place: Place,
    tls: Option<TlsConnector>,
}

impl Target {
    /// Reads the certificates that its own must lead to, if it is visited by https. The text of an error is for the
    /// operator.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let place = settings.place()?;
        let system = Path::new(SYSTEM_ROOTS);
        let tls = if place.tls {
            let file = settings.roots.as_deref().unwrap_or(system);
            let connector = connector(file).map_err(|why| {
                format!("CHY-WITNESS-ROOTS: {}: {why}; name a PEM file of the certificates that {} is to be trusted by: [[web.witnesses]] roots", file.display(), place.host)
            })?;
            Some(connector)
        } else {
            None
        };
        Ok(Self { place, tls })
    }
}

fn connector(file: &Path) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|why| why.to_string())?;
    let certificates: Vec<_> = certificates.filter_map(Result::ok).collect();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err("no certificate in it".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Courier {
    pub fn new(
        witnesses: Vec<Target>,
        resolver: Arc<dyn Resolver>,
        dialer: Arc<dyn Dialer>,
    ) -> Self {
        let witnesses = witnesses.into_iter().map(Arc::new).collect();
        Self { witnesses, resolver, dialer }
    }

    /// Carries what the issuer gives, for as long as the server runs.
    pub(crate) async fn keep(self, server: &Server) {
        let mut carried = Vec::new();
        loop {
            let asked = server.issuer.ask(Question::Errands(std::mem::take(&mut carried))).await;
            let wait = match asked {
                Ok(Answer::Errands { errands, again }) if errands.is_empty() => {
                    Duration::from_millis(again.into())
                }
                Ok(Answer::Errands { errands, .. }) => {
                    carried = self.carry(errands).await;
                    continue;
                }
                Ok(_) => AWAY,
                Err(AskError::Retry(wait)) => wait.max(AWAY),
                Err(_) => 10 * AWAY,
            };
            tokio::time::sleep(wait.clamp(SOONEST, Duration::from_secs(60))).await;
        }
    }

    /// All of them at once; each ends within its time.
    pub async fn carry(&self, errands: Vec<Errand>) -> Vec<Carried> {
        let mut tasks = JoinSet::new();
        for Errand { witness, what } in errands {
            let Some(target) = self.witnesses.get(usize::from(witness)) else { continue };
            let (target, resolver, dialer) =
                (target.clone(), self.resolver.clone(), self.dialer.clone());
            tasks.spawn(async move {
                let visit = visit(&target, &*resolver, &*dialer, what);
                let outcome = match tokio::time::timeout(PATIENCE, visit).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(why)) => {
                        Outcome::Unreachable(format!("{}: {why}", target.place.authority))
                    }
                    Err(_) => Outcome::Unreachable(format!(
                        "{}: no answer within {} s",
                        target.place.authority,
                        PATIENCE.as_secs()
                    )),
                };
                Carried { witness, outcome }
            });
        }
        tasks.join_all().await
    }
}

async fn visit(
    target: &Target,
    resolver: &dyn Resolver,
    dialer: &dyn Dialer,
    what: ErrandKind,
) -> Result<Outcome, String> {
    let place = &target.place;
    let request = Request::builder()
        .header(header::HOST, &place.authority)
        .header(
            header::USER_AGENT,
            concat!("chancery/", env!("CARGO_PKG_VERSION"), " (tlog-witness)"),
        )
        .header(header::CONNECTION, "close");
    let adds = matches!(what, ErrandKind::AddCheckpoint(_));
    let request = match what {
        ErrandKind::AddCheckpoint(body) => {
            request.method("POST").uri(format!("{}/add-checkpoint", place.prefix)).body(body)
        }
        ErrandKind::Latest(path) => {
            request.method("GET").uri(format!("{}/{path}", place.prefix)).body(Vec::new())
        }
    };
    let request =
        request.map_err(|error| error.to_string())?.map(|body| Full::new(Bytes::from(body)));
    let stream = connect(place, resolver, dialer).await?;
    let stream: Box<dyn Connection> = match &target.tls {
        None => stream,
        Some(tls) => {
            let name =
                ServerName::try_from(place.host.clone()).map_err(|error| error.to_string())?;
            Box::new(tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?)
        }
    };
    let (mut sender, driver) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut connection = JoinSet::new();
    connection.spawn(async move {
        // Its error also reaches whoever waits for the response.
        let _ = driver.await;
    });
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    if status != StatusCode::OK && !(adds && status == StatusCode::CONFLICT) {
        return Ok(Outcome::Status(status.as_u16()));
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(match status {
        StatusCode::OK => Outcome::Body(body.into()),
        // Whatever its type says: the size alone is what a log goes on from.
        _ => parse_size(&body).map_or(Outcome::Status(status.as_u16()), Outcome::Conflict),
    })
}

/// The operator chose the host: no address of it is off limits.
async fn connect(
    place: &Place,
    resolver: &dyn Resolver,
    dialer: &dyn Dialer,
) -> Result<Box<dyn Connection>, String> {
    let addresses = match place.host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolver
            .addresses(&place.host)
            .await
            .map_err(|why| format!("its name has no address: {why:?}"))?,
    };
    let mut why = io::Error::other("its name has no address");
    for address in addresses.into_iter().take(MOST_ADDRESSES) {
        match dialer.connect(SocketAddr::new(address, place.port), CONNECT).await {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error,
        }
    }
    Err(why.to_string())
}

/// Debian's bundle, which most systems have.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// One visit, from the name to the last octet of the answer.
const PATIENCE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
const MOST_ADDRESSES: usize = 4;
/// Octets of a response's head, in one buffer.
const MOST_HEAD: usize = 16 * 1024;
/// Until the issuer is asked again when it was away.
const AWAY: Duration = Duration::from_secs(1);
const SOONEST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
