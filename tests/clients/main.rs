//! Real clients against a whole box: keys in SoftHSM2, two processes, DNS, challenges on loopback. What they
//! get is judged by OpenSSL.
//!
//! `cargo test` runs three clients for a name; `make clients` installs all of them and runs the whole matrix,
//! of which docs/clients.md is the outcome. `CHANCERY_CLIENT=NAME` runs one row, `CHANCERY_SKILL=TITLE,TITLE` some
//! columns.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "one binary")]

#[path = "../support/client.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod client;
#[path = "../support/lab.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod lab;

mod acme_sh;
mod acme_tiny;
mod apache;
mod caddy;
mod certbot;
mod dehydrated;
mod go;
mod instant;
mod judge;
mod lego;
mod matrix;
mod node;
mod outside;
mod page;
mod rustls_acme;
mod site;
mod step;
mod uacme;

use matrix::{Client, Skill, Works};
use site::{House, Site};

/// Every row, in the order of the page.
const CLIENTS: [&Client; 15] = [
    &certbot::CLIENT,
    &lego::NEWEST,
    &lego::DEBIAN,
    &acme_sh::CLIENT,
    &caddy::CLIENT,
    &apache::CLIENT,
    &uacme::CLIENT,
    &dehydrated::CLIENT,
    &acme_tiny::CLIENT,
    &step::CLIENT,
    &instant::CLIENT,
    &rustls_acme::CLIENT,
    &node::CLIENT,
    &go::ACMEZ,
    &go::AUTOCERT,
];

/// Not installable by every machine; a run without it is complete.
const OPTIONAL: [&str; 2] = ["acme.sh", "lego"];

#[test]
fn the_first_three_clients_enrol_a_name_and_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::start(dir.path());
    for (number, client) in [&certbot::CLIENT, &lego::DEBIAN, &instant::CLIENT].iter().enumerate() {
        assert!((client.version)().is_some(), "{} is missing: tests/clients/tools.sh", client.name);
        for skill in [Skill::Http01, Skill::Ip] {
            let (Works(run) | matrix::Refused(_, run)) = (client.cell)(skill) else { panic!() };
            run(&Site::new(&house, number as u8 + 1, skill.label()));
        }
    }
}

#[test]
#[ignore = "needs a dozen clients: make clients"]
fn the_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let wish = |name| std::env::var(name).ok().filter(|wish: &String| !wish.is_empty());
    let (only, column) = (wish("CHANCERY_CLIENT"), wish("CHANCERY_SKILL"));
    let skills: Vec<Skill> = Skill::ALL
        .into_iter()
        .filter(|skill| {
            column.as_ref().is_none_or(|column| column.split(',').any(|one| one == skill.title()))
        })
        .collect();
    let house = House::start(dir.path());
    let rows: Vec<(u8, &Client)> = (1u8..)
        .zip(CLIENTS)
        .filter(|(_, client)| only.as_ref().is_none_or(|only| client.name == only.as_str()))
        .collect();
    assert!(!rows.is_empty(), "no client is called {only:?}");
    let findings = matrix::run(&house, &rows, &skills);
    for (client, skill, text) in &findings.surprises {
        println!("\n== {client}, {}: not as expected\n{text}", skill.title());
    }
    assert!(findings.surprises.is_empty(), "{} surprises", findings.surprises.len());
    if column.is_some() {
        return;
    }

    let before = page::read();
    let mut versions = page::versions(&before);
    versions.extend(findings.versions.into_iter().map(|(name, version)| (name.into(), version)));
    page::write(&page::render(&CLIENTS, &versions));
    let missing: Vec<_> =
        findings.missing.into_iter().filter(|name| !OPTIONAL.contains(name)).collect();
    if !missing.is_empty() {
        println!("not installed, not run: {missing:?}");
        assert!(std::env::var_os("CI").is_none(), "CI runs every client");
    }
}

/// The page agrees with the matrix in everything but versions, which only a run knows.
#[test]
fn the_page_is_what_the_matrix_expects() {
    let page = page::read();
    let versions = page::versions(&page);
    assert!(page == page::render(&CLIENTS, &versions), "docs/clients.md is stale: make clients");
    for client in CLIENTS {
        let version = versions.get(client.name).map_or("", String::as_str);
        let run = version.bytes().any(|b| b.is_ascii_digit());
        assert!(run || OPTIONAL.contains(&client.name), "{} was never run", client.name);
    }
}
