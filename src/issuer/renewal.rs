//! What is known of a certificate for its renewal (RFC 9773). Looked up by serial in the log's index: the
//! answer costs the same however many there are.

use std::net::IpAddr;

use super::core::{Core, NotNow};
use crate::acme::renewal::Certified;
use crate::id::Serial;
use crate::log::index::Issuance;
use crate::pki::name::Identifier;

/// `None` for what was not issued, and for the box's own.
pub(super) fn certified(core: &Core, serial: Serial) -> Result<Option<Certified>, NotNow> {
    let index = core.log.index();
    let lost = |why: String| core.lost_index(&why);
    if !matches!(index.by_serial(serial).map_err(lost)?, Some(Issuance::Issued { .. })) {
        return Ok(None);
    }
    let Some(entry) = index.certificate(serial).map_err(lost)? else {
        return Ok(None);
    };
    let Some(account) = entry.account else {
        return Ok(None);
    };
    let revoked = index.revocation(serial).map_err(lost)?.map(|revocation| revocation.at);
    let identifiers = entry.names.iter().filter_map(|name| named(name)).collect();
    Ok(Some(Certified {
        account,
        identifiers,
        not_before: entry.not_before,
        not_after: entry.not_after,
        revoked,
        recall: None,
    }))
}

/// A name of the index, which writes them as ACME does.
fn named(name: &str) -> Option<Identifier> {
    let kind = if name.parse::<IpAddr>().is_ok() { "ip" } else { "dns" };
    Identifier::parse(kind, name).ok()
}
