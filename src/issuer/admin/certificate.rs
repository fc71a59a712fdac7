//! Certificates as the operator asks for them: from the index, page by page, and their end.

use super::{actor, gone, later};
use crate::id::Serial;
use crate::ipc::admin::certificate::{
    CertificateQuestion, Detail, Line, Page, Place, Selection, State,
};
use crate::ipc::admin::{AdminAnswer, AdminRefusal, Operator};
use crate::issuer::core::NotNow;
use crate::issuer::service::Desk;
use crate::log::index::{self, CertificateEntry, Issuance, Listing, NamePattern, Part};

impl Desk {
    pub(super) fn certificates(
        &self,
        operator: &Operator,
        question: CertificateQuestion,
    ) -> Result<AdminAnswer, AdminRefusal> {
        match question {
            CertificateQuestion::List(selection) => self.page(selection).map(AdminAnswer::Page),
            CertificateQuestion::Show(serial) => {
                self.detail(serial).map(|detail| AdminAnswer::Certificate(Box::new(detail)))
            }
            CertificateQuestion::Revoke { serial, reason } => {
                self.revoke_for(operator, serial, reason)
            }
        }
    }

    fn page(&self, selection: Selection) -> Result<Page, AdminRefusal> {
        let pattern = selection.name.as_deref().map(NamePattern::new);
        // By what leads to the fewest; what else is asked for is looked at one by one.
        let listing = match (&pattern, selection.account) {
            (Some(NamePattern::Exactly(_)), _) | (Some(_), None) => {
                pattern.clone().map(Listing::Named)
            }
            (_, Some(account)) => Some(Listing::Account(account)),
            (None, None) => None,
        }
        .unwrap_or(Listing::All);
        let by_end = !matches!(listing, Listing::Named(NamePattern::Below(_)));
        let after = selection.after.clone().map(|Place { name, end, intent }| index::Place {
            name,
            end,
            intent,
        });
        let index = self.core.log.index();
        let found = index.certificates(&listing, selection.from, after.as_ref(), ROWS);
        let Part { found, next } = found.map_err(|why| later(self.core.lost_index(&why)))?;
        let mut page = Page { lines: Vec::new(), next: next.map(wire) };
        let mut octets = 0;
        for (place, serial, entry) in found {
            if selection.until.is_some_and(|until| entry.not_after >= until) {
                if by_end {
                    page.next = None;
                    return Ok(page);
                }
                continue;
            }
            let named =
                |pattern: &NamePattern| entry.names.iter().any(|name| pattern.matches(name));
            let is_meant = pattern.as_ref().is_none_or(named)
                && selection.account.is_none_or(|account| entry.account == Some(account));
            if !is_meant {
                continue;
            }
            let line = self.line(serial, entry).map_err(later)?;
            if selection.revoked && !matches!(line.state, State::Revoked { .. }) {
                continue;
            }
            octets += 200 + line.names.iter().map(String::len).sum::<usize>();
            page.lines.push(line);
            if page.lines.len() >= LINES || octets >= OCTETS {
                page.next = Some(wire(place));
                return Ok(page);
            }
        }
        Ok(page)
    }

    fn line(&self, serial: Serial, entry: CertificateEntry) -> Result<Line, NotNow> {
        let index = self.core.log.index();
        let revoked = index.revocation(serial).map_err(|e| self.core.lost_index(&e))?;
        let issuance =
            index.issuance(entry.intent, serial).map_err(|e| self.core.lost_index(&e))?;
        let state = match (revoked, issuance) {
            (Some(revocation), _) => {
                State::Revoked { at: revocation.at, reason: revocation.reason }
            }
            (None, Issuance::Issued { .. }) => State::Issued,
            (None, Issuance::Abandoned { .. }) => State::Abandoned,
            (None, Issuance::Intended { .. }) => State::Open,
        };
        let CertificateEntry { account, profile, names, not_before, not_after, .. } = entry;
        Ok(Line { serial, names, account, profile, not_before, not_after, state })
    }

    fn detail(&self, serial: Serial) -> Result<Detail, AdminRefusal> {
        let index = self.core.log.index();
        let lost = |why: String| later(self.core.lost_index(&why));
        let entry = index.certificate(serial).map_err(lost)?.ok_or_else(|| gone(serial))?;
        let revoked = index.revocation(serial).map_err(lost)?.map(|revocation| revocation.leaf);
        let known = self.revoker.known(serial).map_err(later)?;
        Ok(Detail {
            intent: entry.intent,
            crl: entry.crl.clone(),
            revoked,
            der: known.map(|known| known.certificate.der().to_vec()),
            line: self.line(serial, entry).map_err(later)?,
        })
    }

    fn revoke_for(
        &self,
        operator: &Operator,
        serial: Serial,
        reason: Option<u8>,
    ) -> Result<AdminAnswer, AdminRefusal> {
        let known = self.revoker.known(serial).map_err(later)?.ok_or_else(|| gone(serial))?;
        let by = actor(operator);
        if !self.revoker.revoke_for(&known, reason, by).map_err(later)? {
            return Err(AdminRefusal::Refused(format!(
                "CHY-CERT-REVOKED: the certificate {serial} is revoked already; chancery cert show {serial}"
            )));
        }
        self.keeper.nudge();
        self.detail(serial).map(|detail| AdminAnswer::Certificate(Box::new(detail)))
    }
}

fn wire(place: index::Place) -> Place {
    let index::Place { name, end, intent } = place;
    Place { name, end, intent }
}

/// Rows of the index looked at for one page, each with a record of the log.
const ROWS: usize = 1000;
const LINES: usize = 200;
/// A page stays well within a frame.
const OCTETS: usize = 128 * 1024;
