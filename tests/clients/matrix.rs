//! Client × skill × verdict. A cell says what is expected; a run of the matrix shows that it is so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::lab::now;
use super::site::{House, Site};

/// What a client is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skill {
    /// A certificate for one name over http-01.
    Http01,
    Dns01,
    TlsAlpn01,
    /// A certificate for `*.name`, over dns-01.
    Wildcard,
    /// A certificate for an address (RFC 8738).
    Ip,
    /// Registration with a ticket (external account binding) where tickets are required to have a name.
    Ticket,
    /// A certificate of a profile that is not the default, asked for by name.
    Profile,
    /// Another certificate for the same name, by the client's own verb for it.
    Renew,
    /// A renewal because renewal information says so (RFC 9773).
    Ari,
    /// The certificate is in the CRL afterwards.
    Revoke,
    /// Another account key (RFC 8555 section 7.3.5), and another certificate with it.
    KeyChange,
    /// The account is ended by its owner (section 7.3.6).
    Deactivate,
}

impl Skill {
    pub const ALL: [Self; 12] = [
        Self::Http01,
        Self::Dns01,
        Self::TlsAlpn01,
        Self::Wildcard,
        Self::Ip,
        Self::Ticket,
        Self::Profile,
        Self::Renew,
        Self::Ari,
        Self::Revoke,
        Self::KeyChange,
        Self::Deactivate,
    ];

    /// The column's heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Wildcard => "wildcard",
            Self::Ip => "address",
            Self::Ticket => "ticket",
            Self::Renew => "renew",
            Self::Ari => "ARI",
            Self::Profile => "profile",
            Self::Revoke => "revoke",
            Self::KeyChange => "key change",
            Self::Deactivate => "deactivate",
        }
    }

    /// A label of a name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ari => "ari",
            Self::KeyChange => "rekey",
            other => other.title(),
        }
    }
}

/// The verdict that is expected, and what shows it.
pub enum Cell {
    /// The client does it; the run panics if it does not.
    Works(fn(&Site<'_>)),
    /// The box refuses on purpose, or the client's attempt is wrong; the run panics unless the client's user
    /// reads why.
    Refused(&'static str, fn(&Site<'_>)),
    /// The client has no such thing.
    Cannot(&'static str),
}

pub use Cell::{Cannot, Refused, Works};

/// The profile that the column asks for.
pub const PROFILE: &str = "device";
pub const NO_PROFILES: Cell = Cannot("this version knows no profiles");
pub const NO_KEY_CHANGE: Cell = Cannot("the client has no verb for a key change");
pub const NO_DEACTIVATION: Cell = Cannot("the client has no verb for ending its account");

/// One row.
pub struct Client {
    pub name: &'static str,
    /// Who packs the version that is run.
    pub from: &'static str,
    /// The version, or `None` when it is not installed.
    pub version: fn() -> Option<String>,
    pub cell: fn(Skill) -> Cell,
}

/// What a run found.
pub struct Findings {
    /// Name and version of every client that ran.
    pub versions: Vec<(&'static str, String)>,
    /// Clients that are not installed.
    pub missing: Vec<&'static str>,
    /// Client, skill and what went otherwise than expected.
    pub surprises: Vec<(&'static str, Skill, String)>,
}

/// Runs these columns of these clients, three clients at a time, the cells of one client in order.
pub fn run(house: &House, clients: &[(u8, &'static Client)], skills: &[Skill]) -> Findings {
    let queue = Mutex::new(clients.iter());
    let findings = Mutex::new(Findings { versions: vec![], missing: vec![], surprises: vec![] });
    // What went wrong is told at the end, with the logs of the site.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some((number, client)) = queue.lock().unwrap().next() else { return };
                    row(house, *number, client, skills, &findings);
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    findings.into_inner().unwrap()
}

fn row(
    house: &House,
    number: u8,
    client: &'static Client,
    skills: &[Skill],
    findings: &Mutex<Findings>,
) {
    let Some(version) = (client.version)() else {
        findings.lock().unwrap().missing.push(client.name);
        return;
    };
    findings.lock().unwrap().versions.push((client.name, version));
    for skill in skills.iter().copied() {
        let (Works(run) | Refused(_, run)) = (client.cell)(skill) else { continue };
        let began = now();
        let site = Site::new(house, number, skill.label());
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&site)));
        let verdict = if outcome.is_ok() { "as expected" } else { "OTHERWISE" };
        let seconds = began.elapsed().as_secs_f32();
        println!("{:<12} {:<12} {verdict} {seconds:.1} s", client.name, skill.title());
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let text = text.unwrap_or_else(|| "it panicked".to_owned()) + &site.logs();
            findings.lock().unwrap().surprises.push((client.name, skill, text));
        }
    }
}
