//! docs/clients.md: what the matrix expects, which a run shows, and the versions that it was shown with.

use std::collections::BTreeMap;

use super::matrix::{Cell, Client, Skill};
use super::site::REPOSITORY;

const PATH: &str = "docs/clients.md";

/// Stands where no version does.
const NOT_RUN: &str = "not run";

/// Names of clients and the versions they had.
pub type Versions = BTreeMap<String, String>;

/// Clients that people use and that no run here can install, and why.
const ABSENT: [(&str, &str); 5] = [
    (
        "lego 5",
        "its Go module is not to be had from every module proxy; the newest of version 4 is run, with the DNS provider \
        that runs a program and none of the others, and Debian's",
    ),
    ("getssl", "no registry of packages carries it"),
    (
        "simp_le",
        "its newest release on PyPI (0.17.0) does not start: it lacks a module that it does not ask for",
    ),
    (
        "acme.sh",
        "no registry of packages carries it; it is run where it is on the PATH, and not by CI",
    ),
    ("cert-manager, Traefik, win-acme", "they need a cluster, or another system"),
];

/// The page for these clients and versions.
pub fn render(clients: &[&Client], versions: &Versions) -> String {
    let mut text = String::from(
        "# Real clients\n\n\
        Written by `make clients`, which runs every cell below against a whole box (keys in SoftHSM2, everything on \
        loopback) and has OpenSSL judge what the client got: chain, names, CRLs. A cell that does not end as stated \
        here fails CI. *works*: the client did it. *refused*: the box said no, on purpose or for the client's mistake, \
        and the client's user could read why. A dash: the client has no such thing.\n\n",
    );
    text.push_str("| client | version | from |");
    for skill in Skill::ALL {
        text.push_str(&format!(" {} |", skill.title()));
    }
    text.push_str(&format!("\n|{}\n", "---|".repeat(3 + Skill::ALL.len())));
    let mut notes: Vec<&str> = Vec::new();
    for client in clients {
        let version = versions.get(client.name).map_or(NOT_RUN, String::as_str);
        text.push_str(&format!("| {} | {version} | {} |", client.name, client.from));
        for skill in Skill::ALL {
            let (word, note) = match (client.cell)(skill) {
                _ if version == NOT_RUN => (NOT_RUN, None),
                Cell::Works(_) => ("works", None),
                Cell::Refused(why, _) => ("refused", Some(why)),
                Cell::Cannot(why) => ("–", Some(why)),
            };
            text.push_str(&format!(" {word}"));
            if let Some(note) = note {
                let number = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
                    notes.push(note);
                    notes.len() - 1
                });
                text.push_str(&format!(" [{}]", number + 1));
            }
            text.push_str(" |");
        }
        text.push('\n');
    }
    text.push('\n');
    for (number, note) in notes.iter().enumerate() {
        text.push_str(&format!("{}. {note}.\n", number + 1));
    }
    text.push_str(
        "\n*Address*: an `ip` identifier (RFC 8738). *Ticket*: external account binding. *Profile*: a \
        profile other than the default, by its name. *Renew*: by the client's own \
        verb. *ARI*: the operator recalled the certificate (RFC 9773) and the client renewed for that reason alone. \
        *Revoke*: the CRL that the certificate names lists it afterwards. *Key change*: the same account gets another \
        certificate with its new key (RFC 8555 section 7.3.5). *Deactivate*: the issuer knows the account as ended by \
        its owner (section 7.3.6).\n\n## Not run\n\n",
    );
    for (name, why) in ABSENT {
        text.push_str(&format!("- {name}: {why}.\n"));
    }
    text
}

pub fn read() -> String {
    std::fs::read_to_string(format!("{REPOSITORY}/{PATH}")).unwrap_or_default()
}

pub fn write(text: &str) {
    std::fs::write(format!("{REPOSITORY}/{PATH}"), text).unwrap();
}

/// The versions that a page names.
pub fn versions(page: &str) -> Versions {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter_map(|row| {
        let mut columns = row.split(" | ");
        Some((columns.next()?.to_owned(), columns.next()?.to_owned()))
    });
    rows.collect()
}
