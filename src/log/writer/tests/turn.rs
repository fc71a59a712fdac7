//! A key that is slow to take its turn signs what is newest then.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::log::note::LateMessage;

/// Signs when it is told to.
struct Slow {
    key: Arc<TestSigner>,
    turns: Mutex<Receiver<()>>,
    asked: Mutex<Sender<()>>,
}

impl NoteSigner for Slow {
    fn verifier_key(&self) -> &VerifierKey {
        self.key.verifier_key()
    }
    fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, NoteSignError> {
        self.key.sign(message)
    }
    fn sign_at_its_turn(&self, message: LateMessage) -> Result<Vec<u8>, NoteSignError> {
        let _ = lock(&self.asked).send(());
        // Without a sender the turn has come.
        let _ = lock(&self.turns).recv();
        message().map_or(Err(NoteSignError::Retry(Duration::ZERO)), |message| self.sign(message))
    }
}

#[test]
fn one_checkpoint_covers_all_that_came_while_it_waited_for_its_turn() {
    let (disk, key) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    drop(create(&disk, &key));
    lock(&key.signed).clear();
    let ((turn, turns), (ask, asked)) = (channel(), channel());
    let slow = Slow { key: Arc::clone(&key), turns: Mutex::new(turns), asked: Mutex::new(ask) };
    let opening = Opening { signers: vec![Arc::new(slow)], ..opening(&disk, &key) };
    let log = start(opening, SIZES, None).unwrap();
    let (tell, told) = channel();
    let append = |n| {
        let tell = tell.clone();
        let then = Box::new(move |answer: Result<Appended, AppendError>| {
            tell.send(answer.unwrap().leaf).unwrap();
        });
        log.append(intent(n), Release::Covered, then);
    };
    append(0);
    asked.recv().unwrap();
    (1..6).for_each(append);
    // In order: when this is durable the others are.
    log.append_wait(intent(6), Release::Durable).unwrap();
    turn.send(()).unwrap();
    let mut covered: Vec<u64> = (0..6).map(|_| told.recv().unwrap().0).collect();
    covered.sort_unstable();
    assert_eq!(covered, [1, 2, 3, 4, 5, 6]);
    assert_eq!(lock(&key.signed).len(), 1);
    assert_eq!(published(&disk, &key).head.size, 8);
    drop(turn);
}
