//! `chancery cert`: the certificates of this CA, as the running issuer knows them, and their revocation.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin::{Issuer, unexpected};
use super::{Context, Failure, confirm, print, print_json};
use crate::acme::revocation::reason_name;
use crate::env::Clock;
use crate::env::system::SystemClock;
use crate::id::{AccountId, Serial, Timestamp};
use crate::ipc::admin::certificate::{CertificateQuestion, Detail, Line, Page, Selection, State};
use crate::ipc::admin::{AdminAnswer, AdminQuestion};
use crate::pki::certificate::Certificate;

/// `chancery cert …`.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// List certificates, those that end first before the others; with --name '*.SUFFIX', by name.
    List(List),
    /// Show one certificate: its names, dates, records, and whether it is revoked.
    Show(Show),
    /// Revoke certificates. They are listed in their CRLs at once; devices learn of it with their next download.
    Revoke(Revoke),
}

/// Which certificates.
#[derive(Debug, Args)]
pub struct List {
    /// Only with this name or address; `*.lan` for every name below lan.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only of this account, by its id.
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<AccountId>,
    /// Only what ends within so many days.
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Also what has ended.
    #[arg(long)]
    expired: bool,
    /// Only what is revoked.
    #[arg(long)]
    revoked: bool,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

/// Which one.
#[derive(Debug, Args)]
pub struct Show {
    /// 32 hexadecimal digits, colons allowed.
    serial: Serial,
    /// The certificate as PEM instead.
    #[arg(long)]
    pem: bool,
}

/// Which, and why.
#[derive(Debug, Args)]
pub struct Revoke {
    /// 32 hexadecimal digits each, colons allowed.
    #[arg(required = true, value_name = "SERIAL")]
    serials: Vec<Serial>,
    /// Stands in the CRL. key-compromise also bars the key from ever being certified again.
    #[arg(long, value_enum, value_name = "REASON")]
    reason: Option<Reason>,
    /// Do it. Without, the command only says what it would do.
    #[arg(long)]
    yes: bool,
}

/// Reasons for which a device's certificate is revoked (RFC 5280 section 5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Reason {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    PrivilegeWithdrawn,
}

impl Reason {
    fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::PrivilegeWithdrawn => 9,
        }
    }
}

/// Runs one of them.
pub fn run(command: &CertCommand, context: &Context) -> Result<(), Failure> {
    let mut issuer = Issuer::connect(&context.load()?)?;
    match command {
        CertCommand::List(list) => self::list(list, &mut issuer, context),
        CertCommand::Show(show) => self::show(show, &mut issuer, context),
        CertCommand::Revoke(revoke) => self::revoke(revoke, &mut issuer, context),
    }
}

fn list(list: &List, issuer: &mut Issuer, context: &Context) -> Result<(), Failure> {
    let now = SystemClock::new().now();
    let day = Duration::from_secs(86_400);
    let mut selection = Selection {
        name: list.name.clone(),
        account: list.account,
        from: if list.expired { Timestamp(0) } else { now },
        until: list.days.map(|days| now.plus(day * days)),
        revoked: list.revoked,
        after: None,
    };
    let mut left = list.limit.unwrap_or(usize::MAX);
    let mut all = Vec::new();
    if !context.json {
        print(
            "SERIAL                            ENDS                  STATE      PROFILE        NAMES",
        )?;
    }
    loop {
        let question = CertificateQuestion::List(selection.clone());
        let AdminAnswer::Page(Page { lines, next }) =
            issuer.ask(&AdminQuestion::Certificate(question))?
        else {
            return Err(unexpected());
        };
        for line in lines.into_iter().take(left) {
            left -= 1;
            if context.json {
                all.push(as_json(&line));
            } else {
                print(&row(&line))?;
            }
        }
        match next {
            Some(next) if left > 0 => selection.after = Some(next),
            _ => break,
        }
    }
    if context.json { print_json(&all) } else { Ok(()) }
}

fn row(line: &Line) -> String {
    format!(
        "{}  {}  {:<9}  {:<13}  {}",
        line.serial,
        line.not_after,
        line.state.name(),
        line.profile,
        line.names.join(" ")
    )
}

fn as_json(line: &Line) -> Value {
    let (revoked_at, reason) = match line.state {
        State::Revoked { at, reason } => (Some(at.to_string()), reason),
        _ => (None, None),
    };
    json!({
        "serial": line.serial.to_string(),
        "names": line.names,
        "account": line.account.map(|account| account.to_string()),
        "profile": line.profile,
        "not_before": line.not_before.to_string(),
        "not_after": line.not_after.to_string(),
        "state": line.state.name(),
        "revoked_at": revoked_at,
        "reason": reason,
    })
}

fn detail(issuer: &mut Issuer, question: CertificateQuestion) -> Result<Detail, Failure> {
    match issuer.ask(&AdminQuestion::Certificate(question))? {
        AdminAnswer::Certificate(detail) => Ok(*detail),
        _ => Err(unexpected()),
    }
}

fn show(show: &Show, issuer: &mut Issuer, context: &Context) -> Result<(), Failure> {
    let detail = detail(issuer, CertificateQuestion::Show(show.serial))?;
    let certificate = detail.der.as_deref().and_then(|der| Certificate::parse(der).ok());
    let pem = certificate.as_ref().map(Certificate::pem);
    if show.pem {
        let none = || Failure::failed(format!("CHY-CERT-UNKNOWN: {} is not issued", show.serial));
        return print(pem.ok_or_else(none)?.trim_end());
    }
    if context.json {
        let mut value = long_json(&detail);
        value["pem"] = pem.into();
        return print_json(&value);
    }
    print(&long(&detail))
}

fn long_json(detail: &Detail) -> Value {
    let mut value = as_json(&detail.line);
    value["intent"] = detail.intent.0.into();
    value["revocation"] = detail.revoked.map(|leaf| leaf.0).into();
    value["crl"] = detail.crl.as_deref().into();
    value
}

fn long(detail: &Detail) -> String {
    let line = &detail.line;
    let state = match line.state {
        State::Revoked { at, reason } => {
            let reason = reason.map_or("no reason given", reason_name);
            let leaf = detail.revoked.map_or_else(String::new, |leaf| format!(", leaf {leaf}"));
            format!("revoked {at}, {reason}{leaf}")
        }
        state => state.name().to_owned(),
    };
    let account = line.account.map_or_else(|| "this box".into(), |account| account.to_string());
    [
        ("serial", line.serial.to_string()),
        ("state", state),
        ("names", line.names.join(" ")),
        ("account", account),
        ("profile", line.profile.clone()),
        ("valid", format!("{} to {}", line.not_before, line.not_after)),
        ("intent", format!("leaf {}", detail.intent)),
        ("crl", detail.crl.clone().unwrap_or_else(|| "none: it is not checked".into())),
    ]
    .map(|(key, value)| format!("{key:<8} {value}"))
    .join("\n")
}

fn revoke(revoke: &Revoke, issuer: &mut Issuer, context: &Context) -> Result<(), Failure> {
    let reason = revoke.reason.map(Reason::code);
    // All are looked at before one is touched: a wrong serial revokes nothing.
    let mut effects = Vec::new();
    for serial in &revoke.serials {
        let detail = detail(issuer, CertificateQuestion::Show(*serial))?;
        effects.push(format!("{serial} ({})", detail.line.names.join(" ")));
    }
    let bars = match revoke.reason {
        Some(Reason::KeyCompromise) => ", and bars its key for ever",
        _ => "",
    };
    confirm(
        revoke.yes,
        &format!(
            "this revokes {}{bars}: devices that check CRLs refuse it from their next download on, and it cannot be undone",
            effects.join(", ")
        ),
    )?;
    let mut done = Vec::new();
    for serial in &revoke.serials {
        let question = CertificateQuestion::Revoke { serial: *serial, reason };
        let detail = detail(issuer, question)?;
        if context.json {
            done.push(long_json(&detail));
        } else {
            let crl = detail.crl.as_deref().unwrap_or("no CRL: nobody checks it");
            print(&format!("revoked {serial}; listed in {crl}"))?;
        }
    }
    if context.json { print_json(&done) } else { Ok(()) }
}
