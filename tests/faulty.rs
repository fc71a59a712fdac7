//! The faulty module does what its README says, and the pool lives with it. Contents:
//!
//! - without rules it is the module that it wraps
//! - each fault is met and mended by the pool, in this process
//! - what a process cannot mend, it says
//! - attributes, identifiers and flags read as the rules say

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/faulty.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod faulty;
#[path = "support/token.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod token;

use std::time::{Duration, Instant};

use chancery::hsm::SignError;
use chancery::hsm::health::TokenHealth;
use chancery::hsm::pool::{Access, Pin, Pool, Settings};
use chancery::hsm::token::{Module, TokenName};
use chancery::pki::key::KeyKind;
use faulty::Faulty;
use token::{LABEL, SOON, Token, sign, sign_eventually, stopped_code};

/// Runs `body` in a process of its own, with a token behind the faulty module.
fn behind(test: &str, body: impl FnOnce(&Token, &Faulty)) {
    token::alone(test, |token| {
        let faulty = Faulty::around(&token.settings.module, &token.dir);
        let settings = Settings { module: faulty.module.clone(), ..token.settings.clone() };
        let token = Token { settings, pin: token.pin.clone(), dir: token.dir.clone() };
        body(&token, &faulty);
    });
}

#[expect(clippy::disallowed_methods, reason = "tests measure real latencies")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn every_fault_that_a_process_survives_is_mended_in_it() {
    behind("every_fault_that_a_process_survives_is_mended_in_it", |token, faulty| {
        let pins = vec![token.key("issuing", KeyKind::EcP256), token.key("log", KeyKind::Ed25519)];
        for (number, fault) in [
            "on C_Sign times 1 id {} do return CKR_DEVICE_ERROR",
            "on C_Sign times 1 id {} do return CKR_GENERAL_ERROR",
            "on C_Sign times 1 id {} do lose CKR_FUNCTION_FAILED",
            "on C_SignInit times 1 id {} do return CKR_KEY_HANDLE_INVALID",
            "on C_SignInit times 1 id {} do return CKR_OPERATION_ACTIVE",
            "on C_SignInit times 1 id {} do end-session",
            "on C_SignInit times 1 id {} do end-sessions",
            "on C_Sign times 1 id {} do end-sessions",
            "on C_SignInit times 1 id {} do disconnect",
            "on C_SignInit times 1 id {} do logout",
            "on C_SignInit times 1 id {} do handles",
            "on C_Sign times 2 id {} do return 0x80000001",
        ]
        .iter()
        .enumerate()
        {
            let id = format!("fault-{number}");
            faulty.rules("");
            let pool = token.start(pins.clone());
            assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
            faulty.rules(&fault.replace("{}", &id));
            sign_eventually(&pool, "issuing");
            assert!(faulty.fired(&id) >= 1, "{fault} did not fire");
            sign_eventually(&pool, "log");
            assert_eq!(pool.figures().recoveries, 1, "{fault}");
        }
        // All logged in again by the right PIN, or found the login still standing.
        assert!(faulty.logins().iter().all(|answer| answer == "CKR_OK"), "{:?}", faulty.logins());
    });
}

/// Takes the token out by `line`, sees that it is missed, puts it back.
fn out_and_in(pool: &Pool, faulty: &Faulty, line: &str) {
    sign_eventually(pool, "issuing");
    faulty.rules(line);
    assert!((0..100).any(|_| sign(pool, "issuing").is_err()), "{line}: nobody noticed");
    faulty.rules("");
    sign_eventually(pool, "issuing");
}

#[test]
fn a_token_taken_out_is_missed_and_found_again_in_each_way_of_going() {
    behind("a_token_taken_out_is_missed_and_found_again_in_each_way_of_going", |token, faulty| {
        let pool = token.start(vec![token.key("issuing", KeyKind::EcP256)]);
        for how in ["", " cold", " listed", " listed cold", " slotless", " slotless cold"] {
            out_and_in(&pool, faulty, &format!("absent{how}"));
        }
    });
}

#[test]
fn latency_is_given_and_turns_are_taken() {
    behind("latency_is_given_and_turns_are_taken", |token, faulty| {
        let pool = token.start(vec![token.key("issuing", KeyKind::EcP256)]);
        sign(&pool, "issuing").unwrap();
        let four_at_once = || {
            let began = now();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| sign(&pool, "issuing").unwrap());
                }
            });
            began.elapsed()
        };
        faulty.rules("one-at-a-time\non C_Sign do sleep 50");
        assert!(four_at_once() >= Duration::from_millis(200));
        faulty.rules("on C_Sign do sleep 50");
        let (two_threads, least) = (four_at_once(), Duration::from_millis(100));
        assert!(two_threads >= least && two_threads < 2 * least, "{two_threads:?}");
    });
}

#[test]
fn too_few_sessions_are_made_do_with() {
    behind("too_few_sessions_are_made_do_with", |token, faulty| {
        let pins = vec![token.key("issuing", KeyKind::EcP256)];
        // One for the anchor, one for the first thread, none for the second.
        faulty.rules("sessions 2\non C_Sign do sleep 5");
        let pool = token.start(pins);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| sign_eventually(&pool, "issuing"));
            }
        });
        assert!(pool.health().signs(), "{}", pool.health());
    });
}

#[test]
fn what_attributes_and_searches_say_can_be_changed() {
    behind("what_attributes_and_searches_say_can_be_changed", |token, faulty| {
        let issuing = token.key("issuing", KeyKind::EcP256);
        token.key("other", KeyKind::EcP256);
        let hex = |name: &str| name.bytes().map(|b| format!("{b:02x}")).collect::<String>();
        for (rules, code) in [
            (
                "on C_GetAttributeValue do attribute CKA_EXTRACTABLE 01".into(),
                "CHY-KEY-EXTRACTABLE",
            ),
            ("on C_GetAttributeValue do attribute CKA_SENSITIVE 00".into(), "CHY-KEY-EXTRACTABLE"),
            (
                "on C_GetAttributeValue label issuing do attribute CKA_LOCAL 00".into(),
                "CHY-KEY-NOT-LOCAL",
            ),
            (
                format!("on C_FindObjectsInit do id {} {}", hex("issuing"), hex("other")),
                "CHY-KEY-MISMATCH",
            ),
            ("token-flags 0x20000".to_owned(), "CHY-PIN-FINAL-TRY"),
            ("token-flags 0x40000".to_owned(), "CHY-PIN-LOCKED"),
            ("on C_Login times 1 id pin do return CKR_PIN_INCORRECT".to_owned(), "CHY-PIN-REFUSED"),
        ] {
            // A new process would find nobody logged in.
            let module = Module::load(&token.settings.module).unwrap();
            module.finalize().unwrap();
            faulty.rules(&rules);
            let pool = token.start(vec![issuing.clone()]);
            assert_eq!(stopped_code(&pool), code, "{rules}");
            assert!(matches!(sign(&pool, "issuing"), Err(SignError::Refuse(_))));
        }
        let logins = faulty.logins();
        assert_eq!(logins.iter().filter(|answer| *answer == "CKR_PIN_INCORRECT").count(), 1);
    });
}

#[test]
fn a_wrong_signature_goes_to_nobody() {
    behind("a_wrong_signature_goes_to_nobody", |token, faulty| {
        let issuing = token.key("issuing", KeyKind::EcP256);
        let pool = token.start(vec![issuing]);
        sign(&pool, "issuing").unwrap();
        faulty.rules("on C_Sign times 1 id wrong do flip");
        // `sign` verifies what it gets: it may fail, and never be wrong.
        let _ = sign(&pool, "issuing");
        assert_eq!(faulty.fired("wrong"), 1);
    });
}

#[test]
fn a_call_that_hangs_is_named() {
    behind("a_call_that_hangs_is_named", |token, faulty| {
        let issuing = token.key("issuing", KeyKind::EcP256);
        let settings = Settings { deadline_seconds: 1, ..token.settings.clone() };
        let token = Token { settings, pin: token.pin.clone(), dir: token.dir.clone() };
        let (told, hung) = std::sync::mpsc::channel();
        let on_hang = Box::new(move |name: &str| told.send(name.to_owned()).unwrap());
        let access =
            Access { on_hang: Some(on_hang), ..Access::from(Pin(token.pin.clone().into())) };
        let pool = token.start_with(vec![issuing], access);
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
        faulty.rules("on C_Sign times 1 id hang do hang 2500");
        let _ = sign(&pool, "issuing");
        assert_eq!(hung.recv_timeout(SOON).unwrap(), "C_Sign");
    });
}

#[test]
fn the_token_is_the_same_by_its_name() {
    behind("the_token_is_the_same_by_its_name", |token, faulty| {
        faulty.rules("interface 2.40");
        let module = Module::load(&token.settings.module).unwrap();
        module.initialize().unwrap();
        let name = TokenName::labelled(LABEL);
        assert_eq!(module.find(&name).unwrap().1.label, LABEL);
    });
}
