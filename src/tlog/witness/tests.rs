use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proptest::prelude::*;

use super::*;
use crate::id::Timestamp;
use crate::tlog::proof::tests::{head, leaves, subproof};
use crate::tlog::tree::leaf_hash;

const ORIGIN: &str = "ca.lan/log";
const NOW: Timestamp = Timestamp(1_795_305_600_000);

struct Log {
    pair: Ed25519KeyPair,
    key: VerifierKey,
}

fn log(seed: u8) -> Log {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(pair.public_key().as_ref());
    Log { key: VerifierKey::from_spki(ORIGIN, &spki).unwrap(), pair }
}

impl Log {
    fn sign(&self, head: TreeHead) -> Note {
        let checkpoint = Checkpoint::new(ORIGIN, head);
        let message = self.key.message(checkpoint.text().as_bytes(), &head, NOW);
        let octets = self.key.signature_octets(self.pair.sign(&message).as_ref(), NOW);
        checkpoint.signed(&self.key, octets)
    }

    fn request(&self, old: u64, proof: Vec<Hash>, head: TreeHead) -> AddCheckpoint {
        let checkpoint = Checkpoint::new(ORIGIN, head);
        AddCheckpoint { old, proof, note: self.sign(head), checkpoint }
    }
}

fn proof(old: u64, leaves: &[Hash]) -> Vec<Hash> {
    subproof(usize::try_from(old).unwrap(), leaves, true)
}

/// The example of the specification, byte for byte.
#[test]
fn the_example_of_the_specification_is_read_and_written() {
    let body = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
    assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
    assert_eq!(request.checkpoint.head.size, 20_852_163);
    assert_eq!(request.to_string(), body);
    assert_eq!(request.signed_by(&[log(1).key]), Err(Refused::Unsigned), "keys nobody trusts");
    for (from, to) in [
        ("old 2", "old 02"),
        ("old 2", "new 2"),
        ("old 2", "old +2"),
        ("PlRN", "PlR"),
        ("20852163\n", "\n"),
        ("\n\nexample", "\nexample"),
    ] {
        assert!(
            AddCheckpoint::parse(body.replacen(from, to, 1).as_bytes()).is_err(),
            "{from} {to}"
        );
    }
    let line = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
    let many = |n: usize| body.replacen(line, &line.repeat(n), 1);
    assert!(AddCheckpoint::parse(many(60).as_bytes()).is_ok());
    assert!(AddCheckpoint::parse(many(61).as_bytes()).is_err(), "64 proof lines");
    for cut in 0..body.len() {
        let _ = AddCheckpoint::parse(&body.as_bytes()[..cut]);
    }
}

#[test]
fn every_line_of_a_trusted_key_must_verify_and_one_must_be_there() {
    let (a, b) = (log(1), log(2));
    let head = head(&leaves(3));
    let mut request = a.request(0, Vec::new(), head);
    assert_eq!(request.signed_by(std::slice::from_ref(&a.key)).unwrap().len(), 1);
    assert_eq!(request.signed_by(std::slice::from_ref(&b.key)), Err(Refused::Unsigned));
    // Both sign during a change of keys; a witness that knows one of them does not mind the other.
    request.note.signatures.extend(b.sign(head).signatures);
    assert_eq!(request.signed_by(std::slice::from_ref(&b.key)).unwrap().len(), 1);
    assert_eq!(request.signed_by(&[a.key.clone(), b.key.clone()]).unwrap().len(), 2);
    request.note.signatures[1].octets[0] ^= 1;
    assert_eq!(request.signed_by(std::slice::from_ref(&a.key)).unwrap().len(), 1);
    assert_eq!(request.signed_by(&[a.key.clone(), b.key.clone()]), Err(Refused::Unsigned));
}

#[test]
fn a_witness_answers_as_the_specification_says() {
    let log = log(1);
    let all = leaves(9);
    let at = |n: usize| head(&all[..n]);
    let request = |old: u64, new: usize| {
        let proof = if old == 0 { Vec::new() } else { proof(old, &all[..new]) };
        log.request(old, proof, at(new))
    };
    assert_eq!(request(0, 5).continues(None), Ok(()));
    assert_eq!(request(0, 0).continues(None), Ok(()), "the empty tree");
    assert_eq!(request(5, 9).continues(Some(&at(5))), Ok(()));
    assert_eq!(request(5, 5).continues(Some(&at(5))), Ok(()), "again, for a newer instant");
    assert_eq!(request(4, 9).continues(Some(&at(5))), Err(Refused::Conflict(5)));
    assert_eq!(request(0, 9).continues(Some(&at(5))), Err(Refused::Conflict(5)));
    assert_eq!(request(5, 9).continues(None), Err(Refused::Conflict(0)));
    // Older than what was cosigned: whatever it says its old size is, it gets no signature.
    assert_eq!(request(4, 4).continues(Some(&at(5))), Err(Refused::Conflict(5)));
    let backwards = AddCheckpoint { old: 5, ..request(0, 4) };
    assert_eq!(backwards.continues(Some(&at(5))), Err(Refused::Malformed));
    // A fork: from the sixth leaf on there is another tree.
    let mut other = all.clone();
    other[5] = leaf_hash(b"another");
    let forked = log.request(6, proof(6, &other), head(&other));
    assert_eq!(forked.continues(Some(&at(6))), Err(Refused::Inconsistent));
    let same_size = log.request(9, Vec::new(), head(&other));
    assert_eq!(same_size.continues(Some(&at(9))), Err(Refused::Inconsistent));
    // Proofs where none belong, and none where one belongs.
    let excess = AddCheckpoint { proof: vec![[1; 32]], ..request(0, 5) };
    assert_eq!(excess.continues(None), Err(Refused::Inconsistent));
    let excess = AddCheckpoint { proof: vec![[1; 32]], ..request(5, 5) };
    assert_eq!(excess.continues(Some(&at(5))), Err(Refused::Inconsistent));
    let missing = AddCheckpoint { proof: Vec::new(), ..request(5, 9) };
    assert_eq!(missing.continues(Some(&at(5))), Err(Refused::Inconsistent));
    let empty = TreeHead { size: 0, root: [1; 32] };
    assert_eq!(log.request(0, Vec::new(), empty).continues(None), Err(Refused::Inconsistent));
}

#[test]
fn sizes_and_lines_of_answers() {
    assert_eq!(parse_size(b"123\n"), Some(123));
    assert_eq!(parse_size(b"0"), Some(0));
    for bad in [&b"0123\n"[..], b"-1", b"", b"1 2", b"\xff"] {
        assert_eq!(parse_size(bad), None);
    }
    let line = "\u{2014} w.example/1 AAAAAAE=";
    assert_eq!(parse_lines(format!("{line}\nnonsense\n{line}\n").as_bytes()).len(), 2);
    assert_eq!(parse_lines(format!("{line}\n").repeat(40).as_bytes()).len(), MAX_LINES);
    assert_eq!(
        origin_hash("example.com/behind-the-sofa").len(),
        64,
        "what a path below the monitoring prefix holds"
    );
}

proptest! {
    /// Whatever was cosigned, a tree that does not begin with it is refused, and every one that does is not.
    #[test]
    fn nothing_but_a_continuation_is_signed(old in 1u64..40, more in 1u64..40, flipped in 0usize..80) {
        let log = log(1);
        let all = leaves(old + more);
        let before = head(&all[..usize::try_from(old).unwrap()]);
        let honest = log.request(old, proof(old, &all), head(&all));
        prop_assert_eq!(honest.continues(Some(&before)), Ok(()));
        let mut other = all.clone();
        let at = flipped % other.len();
        other[at] = leaf_hash(b"another");
        let forked = log.request(old, proof(old, &other), head(&other));
        let continues = (at as u64) >= old;
        prop_assert_eq!(forked.continues(Some(&before)).is_ok(), continues);
    }

    #[test]
    fn what_parses_prints_the_same(body in "old (0|1[0-9]{0,3})\n([A-Za-z0-9+/]{43}=\n){0,3}\n[a-z]{1,4}\n[0-9]{1,3}\n[A-Za-z0-9+/]{43}=\n\n(\u{2014} [a-z]{1,3} [A-Za-z0-9+/]{8}\n){1,3}") {
        if let Ok(request) = AddCheckpoint::parse(body.as_bytes()) {
            prop_assert_eq!(request.to_string(), body);
        }
    }
}
