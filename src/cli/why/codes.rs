//! The table of codes, a file for each room, each sorted. A code is never given another meaning; new ones are added.

mod backup;
mod ceremony;
mod config;
mod issuer;
mod log;
mod token;
mod web;

use super::Entry;

/// Every code an operator can meet, sorted.
pub fn codes() -> Vec<&'static Entry> {
    let mut all: Vec<&Entry> = ROOMS.into_iter().flatten().collect();
    all.sort_by_key(|entry| entry.code);
    all
}

/// Sorted by code within each room.
pub(super) const ROOMS: [&[Entry]; 7] = [
    backup::CODES,
    ceremony::CODES,
    config::CODES,
    issuer::CODES,
    log::CODES,
    token::CODES,
    web::CODES,
];
