//! What is known of a certificate, for its renewal (RFC 9773) and for proofs, and the operator's recalls. Looked up by serial in
//! the log's index: the answer costs the same however many certificates there are.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::core::{Core, NotNow, lock};
use crate::acme::renewal::{Certified, Window};
use crate::id::{LeafIndex, Serial};
use crate::ipc::message::Logged;
use crate::log::index::Issuance;
use crate::log::record::{RecallV1, Record};
use crate::pki::name::Identifier;

/// `None` for what was not issued, and for the box's own.
pub(super) fn certified(
    core: &Core,
    recalls: &Recalls,
    serial: Serial,
) -> Result<Option<Certified>, NotNow> {
    let index = core.log.index();
    let lost = |why: String| core.lost_index(&why);
    let Some(entry) = index.certificate(serial).map_err(lost)? else {
        return Ok(None);
    };
    let Issuance::Issued { issued, .. } = index.issuance(entry.intent, serial).map_err(lost)?
    else {
        return Ok(None);
    };
    let Some(account) = entry.account else {
        return Ok(None);
    };
    let revoked = index.revocation(serial).map_err(lost)?.map(|revocation| revocation.at);
    let recall = recalls.window(core, serial, &entry.profile, issued)?;
    let identifiers = entry.names.iter().filter_map(|name| named(name)).collect();
    Ok(Some(Certified {
        account,
        identifiers,
        not_before: entry.not_before,
        not_after: entry.not_after,
        revoked,
        recall,
    }))
}

/// The entry with a certificate's signature, whoever it was issued for.
pub(super) fn logged(core: &Core, serial: Serial) -> Result<Option<Logged>, NotNow> {
    let lost = |why: String| core.lost_index(&why);
    match core.log.index().by_serial(serial).map_err(lost)? {
        Some(Issuance::Issued { issued, .. }) => {
            let entry = core.log.entry(issued).map_err(lost)?;
            Ok(Some(Logged { leaf: issued, entry }))
        }
        _ => Ok(None),
    }
}

/// The recalls that count, read from the log when they change.
#[derive(Default)]
pub(super) struct Recalls {
    /// The leaves that were read, and what stands there.
    read: Mutex<Arc<Vec<(LeafIndex, RecallV1)>>>,
}

impl Recalls {
    /// By leaf.
    pub(super) fn all(&self, core: &Core) -> Result<Arc<Vec<(LeafIndex, RecallV1)>>, NotNow> {
        let leaves = core.log.index().recalls().map_err(|why| core.lost_index(&why))?;
        let mut read = lock(&self.read);
        if !read.iter().map(|(leaf, _)| *leaf).eq(leaves.iter().copied()) {
            let recalls = leaves.into_iter().map(|leaf| match core.log.read(leaf) {
                Ok(Record::RecallV1(recall)) => Ok((leaf, recall)),
                Ok(_) => Err(core.lost_index(&format!("leaf {leaf} is no recall"))),
                Err(why) => Err(core.lost_index(&why)),
            });
            *read = Arc::new(recalls.collect::<Result<_, _>>()?);
        }
        Ok(Arc::clone(&read))
    }

    /// The window that begins first, of the recalls that mean this certificate.
    fn window(
        &self,
        core: &Core,
        serial: Serial,
        profile: &str,
        issued: LeafIndex,
    ) -> Result<Option<Window>, NotNow> {
        let recalls = self.all(core)?;
        if recalls.is_empty() {
            return Ok(None);
        }
        let at = core.issued(issued)?.at;
        // What was issued after a recall replaces what it means.
        let before = recalls.iter().filter(|(leaf, _)| issued < *leaf);
        let meant = before.map(|(_, recall)| recall).filter(|recall| {
            recall.profile.as_deref().is_none_or(|name| name == profile)
                && recall.serial.is_none_or(|only| only == serial)
                && recall.issued_from.is_none_or(|from| at >= from)
                && at <= recall.issued_until
        });
        Ok(meant.min_by_key(|recall| recall.start).map(|recall| Window {
            start: recall.start,
            end: recall.end,
            explanation: recall.explanation.clone(),
        }))
    }
}

/// A name of the index, which writes them as ACME does.
fn named(name: &str) -> Option<Identifier> {
    let kind = if name.parse::<IpAddr>().is_ok() { "ip" } else { "dns" };
    Identifier::parse(kind, name).ok()
}
