//! The checkpoint thread, the index thread, and the one that writes missing tiles.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Appended, Mailbox, Shared, lock};
use crate::id::Timestamp;
use crate::log::checkpoint::Checkpoint;
use crate::log::note::{LateMessage, Note, NoteSignError, VerifierKey};
use crate::log::tree::TreeHead;

/// File name of the newest checkpoint, in the public directory and beside the log.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// Waits between attempts to sign or publish.
const LEAST_WAIT: Duration = Duration::from_millis(50);
const MOST_WAIT: Duration = Duration::from_secs(5);
/// How long a head that nobody waits for stays without a checkpoint: eight times what the last one took, within these.
/// To a slow key a checkpoint that nobody waits for costs a certificate.
const LINGER: Duration = Duration::from_millis(100);
const LONGEST_LINGER: Duration = Duration::from_secs(5);
/// How often the checkpoint is copied beside the log.
const EVERY: Duration = Duration::from_secs(2);
/// How often the index is moved into its file when it is not due for its size. Each time costs pages of many tables
/// for few records; what a crash leaves out is read again in milliseconds.
const INDEX_EVERY: Duration = Duration::from_secs(10);
/// The wait before the tiles are tried anew.
const TILES_AGAIN: Duration = Duration::from_secs(30);

enum Unsigned {
    Retry(Duration),
    Halt,
}

/// Signs and publishes the newest head, again and again, until the writer has ended.
pub(super) fn checkpoints(shared: &Arc<Shared>) {
    let mut wait = LEAST_WAIT;
    let mut linger = LINGER;
    let mut copied: Option<Duration> = None;
    let mut newest: Option<String> = None;
    while let Some(head) = next_head(shared, linger) {
        let asked = shared.clock.monotonic();
        match checkpoint(shared, head) {
            Ok((head, note)) => {
                wait = LEAST_WAIT;
                *lock(&shared.checkpoint) = note.as_str().into();
                *lock(&shared.checkpointed) = Some(shared.clock.now());
                let now = shared.clock.monotonic();
                linger = (now.saturating_sub(asked) * 8).clamp(LINGER, LONGEST_LINGER);
                if copied.is_none_or(|copied| now.saturating_sub(copied) >= EVERY) {
                    copy(shared, &note);
                    copied = Some(now);
                    newest = None;
                } else {
                    newest = Some(note);
                }
                // Collected first: no answer is given under the lock.
                let covered: Vec<_> = {
                    let mut mailbox = lock(&shared.mailbox);
                    mailbox.head.take_if(|waiting| waiting.size <= head.size);
                    mailbox.waiters.extract_if(.., |(leaf, _)| leaf.0 < head.size).collect()
                };
                for (leaf, waiter) in covered {
                    waiter.answer(Ok(Appended { leaf }));
                }
            }
            Err(Unsigned::Halt) => return,
            Err(Unsigned::Retry(asked)) => {
                let mailbox = lock(&shared.mailbox);
                let wait_now = asked.clamp(wait, MOST_WAIT);
                wait = (wait * 2).min(MOST_WAIT);
                if !pause(shared, mailbox, wait_now) {
                    break;
                }
            }
        }
    }
    if let Some(note) = newest {
        copy(shared, &note);
    }
    // Whoever still waits learns that this process will not cover the record.
    let left = std::mem::take(&mut lock(&shared.mailbox).waiters);
    drop(left);
    *lock(&shared.index_closed) = true;
    shared.index_due.notify_all();
}

/// Moves the index into its file every few seconds, and once at the end.
pub(super) fn index(shared: &Shared) {
    loop {
        let closed = {
            let mut closed = lock(&shared.index_closed);
            if !*closed && shared.halted.get().is_none() {
                let due = shared.index_due.wait_timeout(closed, INDEX_EVERY);
                closed = due.unwrap_or_else(PoisonError::into_inner).0;
            }
            *closed
        };
        if shared.halted.get().is_some() {
            return;
        }
        if let Err(error) = shared.index.flush_after(&|| shared.tiles.settle()) {
            if let Some(why) = shared.tiles.failed() {
                return shared.halt(why.to_owned());
            }
            tracing::warn!(%error, "the log's index cannot be written; it stays in memory");
        }
        if closed {
            return;
        }
    }
}

/// Writes the published tree anew where it is missing; tried again, from time to time, when it cannot be.
pub(super) fn tiles(shared: &Shared) {
    let goes_on = || shared.halted.get().is_none() && !*lock(&shared.index_closed);
    while shared.tiles.is_behind() && goes_on() {
        tracing::info!("the log's tiles are written anew");
        match shared.tiles.rewrite(&shared.dir, &goes_on) {
            Ok(true) => tracing::info!("the log's tiles are complete"),
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, "CHY-LOG-TILES: the log's tiles cannot be written");
                let closed = lock(&shared.index_closed);
                let until = |closed: &mut bool| !*closed && shared.halted.get().is_none();
                drop(shared.index_due.wait_timeout_while(closed, TILES_AGAIN, until));
            }
        }
    }
}

/// Waits for a head that is not signed yet, and, a while, for somebody who wants it covered: an
/// intent's own head is seldom worth a signature, because the issued record follows at once.
/// `None`: the writer has ended, or the log halted.
fn next_head(shared: &Shared, linger: Duration) -> Option<TreeHead> {
    let mut mailbox = lock(&shared.mailbox);
    loop {
        if shared.halted.get().is_some() {
            return None;
        }
        if mailbox.head.is_some() {
            let unasked = |mailbox: &mut Mailbox| {
                mailbox.waiters.is_empty() && !mailbox.closed && shared.halted.get().is_none()
            };
            let waited = shared.posted.wait_timeout_while(mailbox, linger, unasked);
            mailbox = waited.unwrap_or_else(PoisonError::into_inner).0;
            if shared.halted.get().is_none() {
                return mailbox.head;
            }
            continue;
        }
        if mailbox.closed {
            return None;
        }
        mailbox = shared.posted.wait(mailbox).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Waits, but no longer than the log lives. `false`: it is closing or halted.
fn pause(shared: &Shared, mailbox: std::sync::MutexGuard<'_, Mailbox>, wait: Duration) -> bool {
    let ends = |mailbox: &mut Mailbox| !mailbox.closed && shared.halted.get().is_none();
    let waited = shared.posted.wait_timeout_while(mailbox, wait, ends);
    let (mut mailbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
    ends(&mut mailbox)
}

/// Signs `due`, or what is newer by the time the key gets to it, with every key that signs trees of its size; verifies
/// the signatures and publishes the note.
fn checkpoint(shared: &Arc<Shared>, due: TreeHead) -> Result<(TreeHead, String), Unsigned> {
    // Nobody is told of a tree whose tiles are not there.
    let write_tiles = || {
        shared.tiles.write().map_err(|error| {
            tracing::error!(%error, dir = %shared.public.display(), "CHY-LOG-TILES: the log's tiles cannot be written");
            Unsigned::Retry(LEAST_WAIT)
        })
    };
    write_tiles()?;
    let halt = |why: String| {
        shared.halt(format!("CHY-LOG-UNSIGNED: {why}"));
        Unsigned::Halt
    };
    let unsigned = |error| match error {
        NoteSignError::Retry(wait) => Unsigned::Retry(wait),
        NoteSignError::Halt(why) => halt(format!("the log key signs no more: {why}")),
    };
    let at_hand = |key: &VerifierKey| {
        let signer = shared.signers.iter().find(|signer| signer.verifier_key() == key);
        signer.ok_or_else(|| halt(format!("the log key {key} is not at hand")))
    };
    let lead = lock(&shared.keys).of(due.size).next().cloned();
    let lead = lead.ok_or_else(|| halt(format!("no key signs a tree of {} leaves", due.size)))?;
    let said = Arc::new(Mutex::new(None));
    let late = at_its_turn(shared, &lead, due, &said);
    let lead_signature = at_hand(&lead)?.sign_at_its_turn(late).map_err(unsigned)?;
    let Some((head, at)) = lock(&said).take() else {
        return Err(Unsigned::Retry(LEAST_WAIT));
    };
    let keys = lock(&shared.keys).clone();
    let checkpoint = Checkpoint::new(keys.origin(), head);
    let mut note = Note { text: checkpoint.text(), signatures: Vec::new() };
    for key in keys.of(head.size) {
        let text = note.text.as_bytes();
        let octets = if *key == lead {
            key.signature_octets(&lead_signature, at)
        } else {
            let now = shared.clock.now();
            at_hand(key)?.sign_checkpoint(text, &head, now).map_err(unsigned)?
        };
        if !key.verify(text, &head, &octets) {
            return Err(halt(
                "the log key made a signature that does not verify; check the token".into(),
            ));
        }
        note.signatures.extend(checkpoint.signed(key, octets).signatures);
    }
    if head != due {
        write_tiles()?;
    }
    let note = note.to_string();
    match shared.disk.replace(&shared.public.join(CHECKPOINT), note.as_bytes(), false) {
        Ok(()) => Ok((head, note)),
        Err(error) => {
            tracing::error!(%error, dir = %shared.public.display(), "the checkpoint cannot be published");
            Err(Unsigned::Retry(LEAST_WAIT))
        }
    }
}

/// The text of the newest head that `lead` signs, made when its turn has come; `due` if what came since is another
/// key's. What it was is in `said`. Holds on to nothing of a log that has ended meanwhile.
fn at_its_turn(
    shared: &Arc<Shared>,
    lead: &VerifierKey,
    due: TreeHead,
    said: &Arc<Mutex<Option<(TreeHead, Timestamp)>>>,
) -> LateMessage {
    let (shared, lead, said) = (Arc::downgrade(shared), lead.clone(), Arc::clone(said));
    Box::new(move || {
        let shared = shared.upgrade()?;
        let newest = lock(&shared.mailbox).head.unwrap_or(due);
        let keys = lock(&shared.keys).clone();
        let is_lead = keys.of(newest.size).any(|key| *key == lead);
        let head = if is_lead { newest } else { due };
        let at = shared.clock.now();
        *lock(&said) = Some((head, at));
        let text = Checkpoint::new(keys.origin(), head).text();
        Some(lead.message(text.as_bytes(), &head, at))
    })
}

/// Beside the log a checkpoint only helps to notice at start that records are missing.
fn copy(shared: &Shared, note: &str) {
    if let Err(error) = shared.disk.replace(&shared.dir.join(CHECKPOINT), note.as_bytes(), false) {
        tracing::warn!(%error, "the checkpoint cannot be copied beside the log");
    }
}
