//! `chancery ticket`: enrolment tickets, which are external account bindings (RFC 8555 section 7.3.4).

mod csv;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::admin::{Issuer, unexpected};
use super::{Context, Failure, confirm, print, print_json};
use crate::acme::directory::{Resource, Urls};
use crate::acme::ticket::{Constraints, first_clash};
use crate::config::Config;
use crate::env::Clock;
use crate::env::system::SystemClock;
use crate::id::Timestamp;
use crate::ipc::admin::tickets::{
    MintedTicket, NewTicket, TicketAnswer, TicketQuestion, TicketStatus,
};
use crate::ipc::admin::{AdminAnswer, AdminQuestion};

/// `chancery ticket …`.
#[derive(Debug, Subcommand)]
pub enum TicketCommand {
    /// Mint a ticket, or some of a kind. Its key is shown once and never again.
    Create(Create),
    /// Mint a ticket for each row of a CSV file, and write the rows with their keys.
    ///
    /// The first row names the columns, in any order: note, names, suffixes, networks, profile, uses, days, shared.
    /// Several names in a field are separated by blanks; what a field leaves empty comes from the options.
    Import(Import),
    /// All tickets, and what became of them.
    List,
    /// End a ticket: it registers no one any more. Who registered with it stays.
    Revoke(Revoke),
}

/// What tickets are good for, where nothing else says so.
#[derive(Debug, Args)]
pub struct Terms {
    /// The profile its accounts get, and no other.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Accounts that can register with it.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    uses: u32,
    /// Days in which they can.
    #[arg(long, default_value_t = 30, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Leave its names to accounts of other tickets, or of none, too.
    #[arg(long)]
    shared: bool,
}

/// One ticket, or some of a kind.
#[derive(Debug, Args)]
pub struct Create {
    /// An exact DNS name or address its accounts can have; may be given several times.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// A DNS name below which they can have every name; may be given several times.
    #[arg(long = "suffix", value_name = "NAME")]
    suffixes: Vec<String>,
    /// A network of which they can have every address; may be given several times.
    #[arg(long = "network", value_name = "CIDR")]
    networks: Vec<String>,
    #[command(flatten)]
    terms: Terms,
    /// What it is for, such as a device's serial number.
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,
    /// How many of them. Of those with names, only shared ones can be more than one.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
}

/// Many tickets.
#[derive(Debug, Args)]
pub struct Import {
    /// The CSV file.
    file: PathBuf,
    /// Write the rows with kid and hmac_key here, a new file that only you can read, instead of to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only say whether it could be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    terms: Terms,
}

/// Which one.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The ticket's id, its `kid`.
    ticket: String,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
}

pub fn run(command: &TicketCommand, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    match command {
        TicketCommand::Create(create) => self::create(create, &config, context),
        TicketCommand::Import(import) => self::import(import, &config, context),
        TicketCommand::List => list(&config, context),
        TicketCommand::Revoke(revoke) => self::revoke(revoke, &config, context),
    }
}

fn create(create: &Create, config: &Config, context: &Context) -> Result<(), Failure> {
    fn texts(list: &[String]) -> impl Iterator<Item = &str> {
        list.iter().map(String::as_str)
    }
    let terms = &create.terms;
    let constraints = Constraints::parse(
        texts(&create.names),
        texts(&create.suffixes),
        texts(&create.networks),
        terms.profile.as_deref(),
        terms.shared,
    )
    .map_err(|why| Failure::failed(format!("CHY-TICKET-BAD: {why}; nothing was minted")))?;
    let ticket = NewTicket {
        constraints,
        uses: terms.uses,
        expires: expiry(terms.days),
        note: create.note.clone(),
    };
    let wanted = vec![ticket; create.count as usize];
    let minted = mint(&mut Issuer::connect(config)?, &wanted, false)?;
    let directory = directory(config)?;
    if context.json {
        let tickets: Vec<_> = minted
            .iter()
            .zip(&wanted)
            .map(|(minted, wanted)| {
                json!({
                    "kid": minted.ticket,
                    "hmac_key": *minted.secret.text(),
                    "uses": wanted.uses,
                    "expires": wanted.expires.to_string(),
                    "note": wanted.note,
                    "constraints": wanted.constraints,
                })
            })
            .collect();
        return print_json(&json!({ "directory": directory, "tickets": tickets }));
    }
    for (MintedTicket { ticket, secret }, wanted) in minted.iter().zip(&wanted) {
        print(&format!("kid       {ticket}"))?;
        print(&format!("hmac key  {}", *secret.text()))?;
        print(&format!("for       {}", wanted.constraints))?;
        print(&format!("uses      {} until {}", wanted.uses, wanted.expires))?;
    }
    print("")?;
    print("The key is shown this once. With it a device registers, for example:")?;
    print(&format!("  certbot register --server {directory} --eab-kid KID --eab-hmac-key KEY"))?;
    print(&format!("  lego --server {directory} --eab --kid KID --hmac KEY …"))
}

fn import(import: &Import, config: &Config, context: &Context) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&import.file)
        .map_err(|error| Failure::failed(format!("CHY-CSV: {}: {error}", import.file.display())))?;
    let sheet = Sheet::parse(&text, &import.terms)
        .map_err(|why| Failure::failed(format!("CHY-CSV: {}: {why}", import.file.display())))?;
    let all = sheet.tickets.iter().map(|ticket| &ticket.constraints);
    if let Some((first, second)) = first_clash(all) {
        return Err(Failure::failed(format!(
            "CHY-TICKET-CLASH: {}: lines {} and {} share names, and one of them is not shared; nothing was minted",
            import.file.display(),
            sheet.lines[first],
            sheet.lines[second],
        )));
    }
    let mut issuer = Issuer::connect(config)?;
    mint(&mut issuer, &sheet.tickets, true)?;
    if import.dry_run {
        return print(&format!("{} tickets could be minted", sheet.tickets.len()));
    }
    // Before anything is minted: keys that cannot be kept are lost.
    let mut out = import.out.as_deref().map(private).transpose()?;
    let mut write = |text: String| -> Result<(), Failure> {
        match (&mut out, &import.out) {
            (Some(file), Some(path)) => writeln!(file, "{text}").map_err(|error| {
                Failure::failed(format!(
                    "CHY-CSV: {}: {error}; tickets were minted whose keys are lost: revoke those that `chancery ticket \
                     list` shows and the file lacks",
                    path.display()
                ))
            }),
            _ => print(&text),
        }
    };
    write(csv::row(
        sheet.columns.iter().map(String::as_str).chain(["kid", "hmac_key", "expires"]),
    ))?;
    let mut rows = sheet.rows.iter();
    for part in parts(&sheet.tickets) {
        let minted = mint(&mut issuer, part, false)?;
        for ((MintedTicket { ticket, secret }, wanted), row) in
            minted.iter().zip(part).zip(rows.by_ref())
        {
            let (key, expires) = (secret.text(), wanted.expires.to_string());
            let added = [ticket.as_str(), key.as_str(), expires.as_str()];
            write(csv::row(row.iter().map(String::as_str).chain(added)))?;
        }
    }
    if let (Some(file), Some(path)) = (&out, &import.out) {
        file.sync_all().map_err(|error| {
            Failure::failed(format!(
                "CHY-CSV: {}: {error}; the file may be gone after a crash",
                path.display()
            ))
        })?;
        let count = sheet.tickets.len();
        if context.json {
            return print_json(&json!({ "minted": count, "file": path.display().to_string() }));
        }
        print(&format!(
            "{count} tickets minted; their keys are in {} and nowhere else",
            path.display()
        ))?;
    }
    Ok(())
}

/// A file of the operator's tickets to be.
struct Sheet {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Where each row begins.
    lines: Vec<usize>,
    tickets: Vec<NewTicket>,
}

impl Sheet {
    fn parse(text: &str, terms: &Terms) -> Result<Self, String> {
        let mut rows =
            csv::parse(text).map_err(|(line, why)| format!("line {line}: {why}"))?.into_iter();
        let (_, columns) =
            rows.next().ok_or("the file is empty; its first row names the columns")?;
        let columns: Vec<String> =
            columns.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        if let Some(name) = columns.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
            return Err(format!("no column is called {name:?}; there are {}", COLUMNS.join(", ")));
        }
        let twice = |name: &&String| columns.iter().filter(|other| other == name).count() > 1;
        if let Some(name) = columns.iter().find(twice) {
            return Err(format!("the column {name} is there twice"));
        }
        let mut sheet = Self { columns, rows: Vec::new(), lines: Vec::new(), tickets: Vec::new() };
        for (line, mut row) in rows {
            if row.len() > sheet.columns.len() {
                return Err(format!("line {line}: more fields than columns"));
            }
            row.resize(sheet.columns.len(), String::new());
            let ticket = sheet.ticket(&row, terms).map_err(|why| format!("line {line}: {why}"))?;
            sheet.tickets.push(ticket);
            sheet.rows.push(row);
            sheet.lines.push(line);
        }
        Ok(sheet)
    }

    fn ticket(&self, row: &[String], terms: &Terms) -> Result<NewTicket, String> {
        let field = |column: &str| {
            let at = self.columns.iter().position(|name| name == column);
            at.map_or("", |at| row[at].trim())
        };
        let number = |column: &str, default: u32| match field(column) {
            "" => Ok(default),
            text => text.parse().map_err(|_| format!("{column}: {text:?} is no number")),
        };
        let days = number("days", terms.days)?;
        if !(1..=3650).contains(&days) {
            return Err(format!("days: {days} does not lie between 1 and 3650"));
        }
        let shared = match field("shared") {
            "" => terms.shared,
            "yes" | "true" | "1" => true,
            "no" | "false" | "0" => false,
            text => return Err(format!("shared: {text:?} is neither yes nor no")),
        };
        let profile = match field("profile") {
            "" => terms.profile.as_deref(),
            name => Some(name),
        };
        let words = |column| field(column).split_ascii_whitespace();
        let constraints = Constraints::parse(
            words("names"),
            words("suffixes"),
            words("networks"),
            profile,
            shared,
        )
        .map_err(|why| why.to_string())?;
        Ok(NewTicket {
            constraints,
            uses: number("uses", terms.uses)?,
            expires: expiry(days),
            note: field("note").to_owned(),
        })
    }
}

const COLUMNS: [&str; 8] =
    ["note", "names", "suffixes", "networks", "profile", "uses", "days", "shared"];

/// Has them minted, as many at once as a question holds.
fn mint(
    issuer: &mut Issuer,
    wanted: &[NewTicket],
    dry: bool,
) -> Result<Vec<MintedTicket>, Failure> {
    let mut all = Vec::with_capacity(wanted.len());
    for part in parts(wanted) {
        let question = TicketQuestion::Mint { tickets: part.to_vec(), dry };
        match issuer.ask(&AdminQuestion::Ticket(question))? {
            AdminAnswer::Ticket(TicketAnswer::Minted(minted)) => all.extend(minted),
            _ => return Err(unexpected()),
        }
    }
    Ok(all)
}

/// What fits into one question each.
fn parts(all: &[NewTicket]) -> impl Iterator<Item = &[NewTicket]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let mut octets = 0;
        let fits = rest.iter().take(AT_ONCE).take_while(|ticket| {
            octets += postcard::to_stdvec(ticket).map_or(OCTETS, |bytes| bytes.len());
            octets <= OCTETS
        });
        let count = fits.count().max(1).min(rest.len());
        let (part, left) = rest.split_at(count);
        rest = left;
        (!part.is_empty()).then_some(part)
    })
}

/// Half a frame.
const OCTETS: usize = 128 * 1024;
const AT_ONCE: usize = 500;

fn list(config: &Config, context: &Context) -> Result<(), Failure> {
    let mut issuer = Issuer::connect(config)?;
    let mut all: Vec<TicketStatus> = Vec::new();
    loop {
        let after = all.last().map(|last| last.ticket.clone());
        match issuer.ask(&AdminQuestion::Ticket(TicketQuestion::List { after }))? {
            AdminAnswer::Ticket(TicketAnswer::List(page)) if page.is_empty() => break,
            AdminAnswer::Ticket(TicketAnswer::List(page)) => all.extend(page),
            _ => return Err(unexpected()),
        }
    }
    let now = SystemClock::new().now();
    if context.json {
        let tickets: Vec<_> = all
            .iter()
            .map(|ticket| {
                json!({
                    "kid": ticket.ticket,
                    "state": state(ticket, now),
                    "uses": ticket.uses,
                    "used": ticket.used,
                    "minted": ticket.minted.to_string(),
                    "expires": ticket.expires.to_string(),
                    "note": ticket.note,
                    "constraints": ticket.constraints,
                })
            })
            .collect();
        return print_json(&tickets);
    }
    print("KID                        STATE    USED         EXPIRES               FOR")?;
    for ticket in &all {
        let note = if ticket.note.is_empty() { "" } else { "  # " };
        print(&format!(
            "{:<25}  {:<7}  {:<11}  {}  {}{note}{}",
            ticket.ticket,
            state(ticket, now),
            format!("{}/{}", ticket.used, ticket.uses),
            ticket.expires,
            ticket.constraints,
            ticket.note,
        ))?;
    }
    Ok(())
}

fn state(ticket: &TicketStatus, now: Timestamp) -> &'static str {
    if ticket.revoked {
        "revoked"
    } else if ticket.used >= ticket.uses {
        "used"
    } else if now >= ticket.expires {
        "expired"
    } else {
        "open"
    }
}

fn revoke(revoke: &Revoke, config: &Config, context: &Context) -> Result<(), Failure> {
    let ticket = revoke.ticket.clone();
    confirm(revoke.yes, &format!("ticket {ticket} would register no one any more"))?;
    let question = AdminQuestion::Ticket(TicketQuestion::Revoke { ticket: ticket.clone() });
    let AdminAnswer::Ticket(TicketAnswer::Revoked(was_open)) =
        Issuer::connect(config)?.ask(&question)?
    else {
        return Err(unexpected());
    };
    if context.json {
        return print_json(&json!({ "kid": ticket, "revoked": true, "before": !was_open }));
    }
    print(if was_open { "revoked" } else { "it was revoked before" })
}

fn directory(config: &Config) -> Result<String, Failure> {
    let urls = Urls::new(&config.web.base_url)
        .map_err(|why| Failure::operator(format!("CHY-CONFIG-VALUE: [web] base-url: {why}")))?;
    Ok(urls.url(Resource::Directory))
}

fn expiry(days: u32) -> Timestamp {
    SystemClock::new().now().plus(Duration::from_secs(u64::from(days) * 86_400))
}

/// A new file that only its owner reads.
fn private(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        Failure::failed(format!("CHY-CSV: {}: {error}; nothing was minted", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms { profile: Some("server".into()), uses: 2, days: 5, shared: false }
    }

    #[test]
    fn a_sheet_of_devices() {
        let text =
            "note,Names,uses,shared\nSN 1,cam1.lan 10.0.0.7,,\n\"SN 2, spare\",cam2.lan,3,yes\n";
        let sheet = Sheet::parse(text, &terms()).unwrap();
        assert_eq!(sheet.lines, [2, 3]);
        let [one, two] = sheet.tickets.as_slice() else { panic!() };
        assert_eq!(one.constraints.to_string(), "profile=server cam1.lan 10.0.0.7/32");
        assert!(one.constraints.exclusive && !two.constraints.exclusive);
        assert_eq!((one.uses, two.uses, two.note.as_str()), (2, 3, "SN 2, spare"));
        for (text, why) in [
            ("", "is empty"),
            ("name\nx", "no column is called \"name\"; there are note"),
            ("names,names\n", "there twice"),
            ("names\na.lan,b", "line 2: more fields than columns"),
            ("names\n*.lan", "line 2: \"*.lan\""),
            ("names,uses\na.lan,many", "line 2: uses: \"many\" is no number"),
            ("names,days\na.lan,0", "line 2: days: 0"),
            ("names,shared\na.lan,maybe", "line 2: shared"),
            ("names\n\"a", "line 2: a quoted field"),
        ] {
            let refused = Sheet::parse(text, &terms()).err().unwrap_or_default();
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
    }

    #[test]
    fn questions_stay_within_a_frame() {
        let long: Vec<String> = (0..100).map(|n| format!("{}.{n}.lan", "a".repeat(60))).collect();
        let names = long.iter().map(String::as_str);
        let none: [&str; 0] = [];
        let constraints = Constraints::parse(names, none, none, None, true).unwrap();
        let one = NewTicket { constraints, uses: 1, expires: Timestamp(0), note: String::new() };
        let all = vec![one; 60];
        let sizes: Vec<usize> =
            parts(&all).map(|part| postcard::to_stdvec(part).unwrap().len()).collect();
        assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= OCTETS + 8), "{sizes:?}");
        assert_eq!(parts(&all).map(<[NewTicket]>::len).sum::<usize>(), 60);
        assert_eq!(parts(&[]).count(), 0);
    }
}
