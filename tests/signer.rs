//! One contract for `Signer`, held against a real module. Contents:
//!
//! - every kind of key signs, and what it signs verifies
//! - many threads and classes at once; each question is answered once
//! - a logout, lost sessions, a finalize behind the pool's back: recovered without help
//! - a wrong PIN is tried once, a refused one never; a missing module, token or key is told
//! - promise_1: an extractable key, a key not made on the token, a doubled id, a swapped key are refused

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/token.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod token;

use std::process::Command;
use std::sync::{Arc, mpsc};

use chancery::env::system::SystemClock;
use chancery::hsm::health::TokenHealth;
use chancery::hsm::pool::{Access, KeyPin, Pin, Pool, Settings};
use chancery::hsm::token::{Generate, Module};
use chancery::hsm::{Class, SignError};
use chancery::pki::key::{KeyKind, PublicKey};
use token::{LABEL, SOON, alone, generate, sign, sign_eventually, stopped_code, uri};

#[test]
fn every_kind_of_key_signs() {
    alone("every_kind_of_key_signs", |token| {
        let kinds = [
            ("p256", KeyKind::EcP256),
            ("p384", KeyKind::EcP384),
            ("p521", KeyKind::EcP521),
            ("ed25519", KeyKind::Ed25519),
            ("rsa", KeyKind::Rsa(2048)),
        ];
        let pins = kinds.iter().map(|(name, kind)| token.key(name, *kind)).collect();
        let pool = token.start(pins);
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
        for (name, kind) in kinds {
            assert_eq!(pool.key(name).unwrap().public_key().kind(), kind);
            sign(&pool, name).unwrap();
        }
        assert!(pool.key("other").is_none());
        assert_eq!(pool.identity().unwrap().1.label, LABEL);
    });
}

#[test]
fn ed25519_by_name_is_ed25519() {
    alone("ed25519_by_name_is_ed25519", |token| {
        let (_, session) = token.session();
        let what = Generate {
            kind: KeyKind::Ed25519,
            label: "old",
            id: b"old",
            omit: &[],
            ed25519_as_name: true,
        };
        let (_, public) = session.generate(&what).unwrap();
        let pin = KeyPin {
            name: "old".into(),
            uri: uri(b"old"),
            spki: public.spki().to_vec(),
            algorithm: None,
        };
        let pool = token.start(vec![pin]);
        sign(&pool, "old").unwrap();
    });
}

#[test]
fn many_threads_and_classes_are_all_answered_once() {
    alone("many_threads_and_classes_are_all_answered_once", |token| {
        let pool = token
            .start(vec![token.key("issuing", KeyKind::EcP256), token.key("log", KeyKind::Ed25519)]);
        let (told, answers) = mpsc::channel();
        std::thread::scope(|scope| {
            for thread in 0u8..4 {
                let (told, pool) = (told.clone(), &pool);
                scope.spawn(move || {
                    let classes = [Class::Certificate, Class::Checkpoint, Class::Tls, Class::Crl];
                    for n in 0u8..25 {
                        let key = pool.key(["issuing", "log"][usize::from(n) % 2]).unwrap();
                        let message = vec![thread, n];
                        let (told, public) = (told.clone(), key.public_key().clone());
                        let then = Box::new(move |outcome: Result<Vec<u8>, SignError>| {
                            let good = outcome.as_ref().is_ok_and(|signature| {
                                public.verify(public.preferred_algorithm(), &[thread, n], signature)
                            });
                            told.send((thread, n, good, outcome)).unwrap();
                        });
                        key.submit(classes[usize::from(n) % 4], message, then);
                    }
                });
            }
        });
        drop(told);
        let mut seen: Vec<(u8, u8)> = answers
            .iter()
            .map(|(thread, n, good, outcome)| {
                assert!(good, "{outcome:?}");
                (thread, n)
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
        assert_eq!(pool.figures().signed(), 100);
    });
}

#[test]
fn a_full_queue_says_so_and_a_dropped_pool_answers_what_waits() {
    alone("a_full_queue_says_so_and_a_dropped_pool_answers_what_waits", |token| {
        let key = token.key("issuing", KeyKind::EcP384);
        let settings = Settings { threads: 1, queue: 8, ..token.settings.clone() };
        let clock = Arc::new(SystemClock::new());
        let pin = Pin(token.pin.clone().into());
        let pool = Pool::start(settings, vec![key], pin, clock, Box::new(|_| {})).unwrap();
        let (told, answers) = mpsc::channel();
        for _ in 0..200 {
            let told = told.clone();
            let then = Box::new(move |outcome: Result<Vec<u8>, SignError>| {
                told.send(outcome).unwrap();
            });
            pool.key("issuing").unwrap().submit(Class::Certificate, vec![1], then);
        }
        drop(pool);
        drop(told);
        let answers: Vec<_> = answers.iter().collect();
        assert_eq!(answers.len(), 200);
        assert!(answers.iter().any(|a| matches!(a, Err(SignError::Retry(_)))));
        assert!(
            !answers.iter().any(|a| matches!(a, Err(SignError::Refuse(_) | SignError::Halt(_))))
        );
    });
}

#[test]
fn a_logout_behind_our_back_is_mended() {
    alone("a_logout_behind_our_back_is_mended", |token| {
        let pool = token.start(vec![token.key("issuing", KeyKind::EcP256)]);
        sign(&pool, "issuing").unwrap();
        for _ in 0..3 {
            token.session().1.logout().unwrap();
            sign_eventually(&pool, "issuing");
        }
        assert!(pool.figures().recoveries >= 3);
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
    });
}

#[test]
fn sessions_lost_behind_our_back_are_mended() {
    alone("sessions_lost_behind_our_back_are_mended", |token| {
        let pool = token.start(vec![token.key("issuing", KeyKind::EcP256)]);
        sign(&pool, "issuing").unwrap();
        let module = Module::load(&token.settings.module).unwrap();
        module.finalize().unwrap();
        module.initialize().unwrap();
        sign_eventually(&pool, "issuing");
        module.finalize().unwrap();
        sign_eventually(&pool, "issuing");
        assert!(pool.figures().recoveries >= 2);
    });
}

#[test]
fn a_token_that_goes_and_comes_back_is_mended() {
    alone("a_token_that_goes_and_comes_back_is_mended", |token| {
        let pool = token.start(vec![token.key("issuing", KeyKind::EcP256)]);
        sign(&pool, "issuing").unwrap();
        let (here, away) = (token.dir.join("tokens"), token.dir.join("away"));
        std::fs::rename(&here, &away).unwrap();
        std::fs::create_dir(&here).unwrap();
        let mut gone = false;
        for _ in 0..100 {
            if sign(&pool, "issuing").is_err() {
                gone = true;
                break;
            }
        }
        assert!(gone, "the token is gone and nobody noticed");
        std::fs::remove_dir(&here).unwrap();
        std::fs::rename(&away, &here).unwrap();
        sign_eventually(&pool, "issuing");
    });
}

#[test]
fn a_wrong_pin_is_tried_once() {
    alone("a_wrong_pin_is_tried_once", |token| {
        let pins = vec![token.key("issuing", KeyKind::EcP256)];
        let (_, session) = token.session();
        session.logout().unwrap();
        assert!(!token.wrong_pin_seen());
        let pool = token.start_with(pins.clone(), Pin("99999999".to_owned().into()).into());
        assert_eq!(stopped_code(&pool), "CHY-PIN-REFUSED");
        assert!(pool.health().is_pin_refused());
        assert!(token.wrong_pin_seen());
        // A right login clears the flag; a second try of the wrong PIN would set it again.
        session.login(Some(&token.pin.clone().into())).unwrap();
        session.logout().unwrap();
        assert!(!token.wrong_pin_seen());
        for _ in 0..3 {
            assert!(
                matches!(sign(&pool, "issuing"), Err(SignError::Refuse(why)) if why.starts_with("CHY-PIN-REFUSED"))
            );
        }
        drop(pool);
        let access = Access { refused: true, ..Access::from(Pin("99999999".to_owned().into())) };
        let pool = token.start_with(pins, access);
        assert_eq!(stopped_code(&pool), "CHY-PIN-REFUSED");
        assert!(!token.wrong_pin_seen());
    });
}

#[test]
fn what_is_missing_is_told() {
    alone("what_is_missing_is_told", |token| {
        let pin = token.key("issuing", KeyKind::EcP256);
        let settings = Settings::new("/nonexistent/module.so".into());
        let clock = Arc::new(SystemClock::new());
        let error = Pool::start(
            settings,
            vec![pin.clone()],
            Pin(token.pin.clone().into()),
            clock,
            Box::new(|_| {}),
        )
        .err()
        .unwrap();
        assert!(error.starts_with("CHY-MODULE-ABSENT"), "{error}");

        let mut elsewhere = pin.clone();
        elsewhere.uri.token = Some("elsewhere".into());
        let pool = token.start(vec![elsewhere]);
        assert!(matches!(sign(&pool, "issuing"), Err(SignError::Retry(_))));
        let TokenHealth::Recovering { error, .. } = pool.health() else { panic!() };
        assert!(error.starts_with("CHY-TOKEN-ABSENT") && error.contains("chancery"), "{error}");
        drop(pool);

        let mut missing = pin;
        missing.uri.id = Some(b"no such id".to_vec());
        let pool = token.start(vec![missing]);
        assert!(
            matches!(sign(&pool, "issuing"), Err(SignError::Refuse(why)) if why.starts_with("CHY-KEY-MISSING"))
        );
    });
}

#[test]
fn promise_1_an_extractable_key_is_refused() {
    alone("promise_1_an_extractable_key_is_refused", |token| {
        let good = token.key("issuing", KeyKind::EcP256);
        let status = Command::new("pkcs11-tool")
            .arg("--module")
            .arg(&token.settings.module)
            .args(["--token-label", LABEL, "--login", "--pin", &token.pin])
            .args(["--keypairgen", "--key-type", "EC:prime256v1", "--extractable"])
            .args(["--label", "leaky", "--id", "6c65616b79"])
            .output()
            .expect("pkcs11-tool is installed (apt install opensc)");
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        let (module, session) = token.session();
        let public = session.public_key(b"leaky").unwrap().unwrap();
        session.close();
        module.finalize().unwrap();
        let leaky = KeyPin {
            name: "leaky".into(),
            uri: uri(b"leaky"),
            spki: public.spki().to_vec(),
            algorithm: None,
        };
        let pool = token.start(vec![good, leaky]);
        assert_eq!(stopped_code(&pool), "CHY-KEY-EXTRACTABLE");
        for key in ["leaky", "issuing"] {
            assert!(matches!(sign(&pool, key), Err(SignError::Refuse(_))));
        }
    });
}

#[test]
fn promise_1_an_imported_key_is_refused() {
    alone("promise_1_an_imported_key_is_refused", |token| {
        let pem = token.dir.join("key.pem");
        let openssl = Command::new("openssl")
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
            .arg(&pem)
            .output()
            .unwrap();
        assert!(openssl.status.success());
        let import = Command::new("softhsm2-util")
            .args(["--import", pem.to_str().unwrap(), "--token", LABEL, "--pin", &token.pin])
            .args(["--label", "imported", "--id", "10"])
            .output()
            .unwrap();
        assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
        let (_, session) = token.session();
        let spki = session.public_key(&[0x10]).unwrap().unwrap().spki().to_vec();
        let pool = token.start(vec![KeyPin {
            name: "imported".into(),
            uri: uri(&[0x10]),
            spki,
            algorithm: None,
        }]);
        assert_eq!(stopped_code(&pool), "CHY-KEY-EXTRACTABLE");
    });
}

#[test]
fn promise_1_a_doubled_id_and_a_swapped_key_are_refused() {
    alone("promise_1_a_doubled_id_and_a_swapped_key_are_refused", |token| {
        let (_, session) = token.session();
        let one = generate(&session, "one", KeyKind::EcP256);
        let two = generate(&session, "two", KeyKind::EcP256);
        let swapped = KeyPin { spki: two.spki.clone(), ..one.clone() };
        let pool = token.start(vec![swapped]);
        assert_eq!(stopped_code(&pool), "CHY-KEY-MISMATCH");
        drop(pool);
        // The pool has looked again meanwhile, from C_Initialize on.
        std::mem::forget(session);
        let (_, session) = token.session();
        session.destroy(b"two").unwrap();
        assert!(session.public_key(b"two").unwrap().is_none());

        let public = PublicKey::from_spki(&one.spki).unwrap();
        let what = Generate {
            kind: public.kind(),
            label: "again",
            id: b"one",
            omit: &[],
            ed25519_as_name: false,
        };
        // The token lets two keys share an id; reading the second one's public half back fails already.
        assert_eq!(session.generate(&what).unwrap_err().code, "CHY-KEY-AMBIGUOUS");
        let pool = token.start(vec![one]);
        assert_eq!(stopped_code(&pool), "CHY-KEY-AMBIGUOUS");
    });
}
