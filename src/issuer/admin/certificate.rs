//! Certificates as the operator asks for them: from the index, page by page, and their end.

use super::{actor, gone, later};
use crate::id::Serial;
use crate::ipc::admin::certificate::{CertificateQuestion, Detail, Line, Page, Selection, State};
use crate::ipc::admin::{AdminAnswer, AdminRefusal, Operator};
use crate::issuer::core::NotNow;
use crate::issuer::service::Desk;
use crate::log::index::{CertificateEntry, Issuance};

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
        let index = self.core.log.index();
        let lost = |why: String| later(self.core.lost_index(&why));
        let found = index.certificates(selection.from, selection.after, SCAN).map_err(lost)?;
        let mut page = Page { lines: Vec::new(), next: None };
        let mut octets = 0;
        let full = found.len() == SCAN;
        for (serial, entry) in found {
            if selection.until.is_some_and(|until| entry.not_after >= until) {
                return Ok(Page { next: None, ..page });
            }
            page.next = Some((entry.not_after, serial));
            if !is_selected(&selection, &entry) {
                continue;
            }
            let line = self.line(serial, entry).map_err(later)?;
            if selection.revoked && !matches!(line.state, State::Revoked { .. }) {
                continue;
            }
            octets += 200 + line.names.iter().map(String::len).sum::<usize>();
            page.lines.push(line);
            if page.lines.len() >= LINES || octets >= OCTETS {
                return Ok(page);
            }
        }
        Ok(Page { next: page.next.filter(|_| full), ..page })
    }

    fn line(&self, serial: Serial, entry: CertificateEntry) -> Result<Line, NotNow> {
        let index = self.core.log.index();
        let revoked = index.revocation(serial).map_err(|e| self.core.lost_index(&e))?;
        let issuance = index.by_serial(serial).map_err(|e| self.core.lost_index(&e))?;
        let state = match (revoked, issuance) {
            (Some(revocation), _) => {
                State::Revoked { at: revocation.at, reason: revocation.reason }
            }
            (None, Some(Issuance::Issued { .. })) => State::Issued,
            (None, Some(Issuance::Abandoned { .. })) => State::Abandoned,
            (None, Some(Issuance::Intended { .. }) | None) => State::Open,
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

fn is_selected(selection: &Selection, entry: &CertificateEntry) -> bool {
    let named = selection.name.as_ref().is_none_or(|wanted| {
        let below = wanted.strip_prefix('*').filter(|suffix| suffix.starts_with('.'));
        entry.names.iter().any(|name| {
            name.eq_ignore_ascii_case(wanted)
                || below.is_some_and(|suffix| {
                    name.len() > suffix.len()
                        && name.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase())
                })
        })
    });
    named && selection.account.is_none_or(|account| entry.account == Some(account))
}

/// Certificates looked at for one page.
const SCAN: usize = 1000;
const LINES: usize = 200;
/// A page stays well within a frame.
const OCTETS: usize = 128 * 1024;
