//! `chancery recall`.

use super::super::service::Desk;
use super::{actor, not_now};
use crate::ipc::admin::recalls::{Recall, RecallAnswer, RecallQuestion};
use crate::ipc::admin::{AdminRefusal, Operator};
use crate::log::Release;
use crate::log::record::{RecallEndedV1, RecallV1, Record};

impl Desk {
    pub(super) fn recall(
        &self,
        operator: &Operator,
        question: RecallQuestion,
    ) -> Result<RecallAnswer, AdminRefusal> {
        let core = &self.core;
        let not_now = |why| not_now(&why);
        match question {
            RecallQuestion::Start(recall) => {
                check(&recall)?;
                let at = core.now().map_err(not_now)?;
                let Recall { profile, serial, issued_from, issued_until, start, end, explanation } =
                    *recall;
                let issued_until = issued_until.map_or(at, |until| until.min(at));
                let by = actor(operator);
                let record = RecallV1 {
                    at,
                    profile,
                    serial,
                    issued_from,
                    issued_until,
                    start,
                    end,
                    explanation,
                    by,
                };
                let record = Record::RecallV1(record);
                let leaf = core.append_wait(record, Release::Durable).map_err(not_now)?.leaf;
                tracing::warn!(%operator, leaf = leaf.0, "certificates are recalled");
                Ok(RecallAnswer::Started(leaf))
            }
            RecallQuestion::List => {
                let recalls = self.recalls.all(core).map_err(not_now)?;
                let shown = |recall: &RecallV1| Recall {
                    profile: recall.profile.clone(),
                    serial: recall.serial,
                    issued_from: recall.issued_from,
                    issued_until: Some(recall.issued_until),
                    start: recall.start,
                    end: recall.end,
                    explanation: recall.explanation.clone(),
                };
                Ok(RecallAnswer::List(
                    recalls.iter().map(|(leaf, recall)| (*leaf, shown(recall))).collect(),
                ))
            }
            RecallQuestion::End(recall) => {
                let recalls = self.recalls.all(core).map_err(not_now)?;
                if !recalls.iter().any(|(leaf, _)| *leaf == recall) {
                    return Err(refused(&format!(
                        "there is no recall {recall}; `chancery recall list` shows those that count"
                    )));
                }
                let at = core.now().map_err(not_now)?;
                let record =
                    Record::RecallEndedV1(RecallEndedV1 { at, recall, by: actor(operator) });
                core.append_wait(record, Release::Durable).map_err(not_now)?;
                tracing::warn!(%operator, recall = recall.0, "a recall ended");
                Ok(RecallAnswer::Ended)
            }
        }
    }
}

fn check(recall: &Recall) -> Result<(), AdminRefusal> {
    if recall.start >= recall.end {
        return Err(refused("the window ends before it begins; say an end after the start"));
    }
    let url = recall.explanation.as_deref().unwrap_or("https://");
    let web = url.starts_with("https://") || url.starts_with("http://");
    if !web || url.len() > 1024 || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(refused("the explanation is not an http or https URL"));
    }
    Ok(())
}

fn refused(why: &str) -> AdminRefusal {
    AdminRefusal::Refused(format!("CHY-RECALL: {why}"))
}
