//! The faulty module does what its README says, and the pool lives with it. Contents:
//!
//! - without rules it is the module that it wraps
//! - each fault is met and mended by the pool, in this process
//! - what a process cannot mend, it says, and goes on when it was put right
//! - a wrong signature goes to nobody; one is forgiven, two keep the key out
//! - attributes, identifiers and flags read as the rules say

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/faulty.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod faulty;
#[path = "support/token.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod token;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chancery::hsm::SignError;
use chancery::hsm::direct::Direct;
use chancery::hsm::health::TokenHealth;
use chancery::hsm::pool::{Access, Offence, Offences, Pin, Pool, Settings};
use chancery::hsm::token::{Module, TokenName};
use chancery::id::Timestamp;
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
        assert!(faulty.fired("sessions") > 0, "no session was refused");
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

/// What an issuer keeps in a file.
#[derive(Default)]
struct Kept(Mutex<Vec<Offence>>);

impl Offences for Kept {
    fn past(&self) -> Vec<Offence> {
        self.0.lock().unwrap().clone()
    }
    fn keep(&self, key: &str, offences: &[Timestamp]) {
        let mut kept = self.0.lock().unwrap();
        kept.retain(|offence| offence.key != key);
        kept.extend(offences.iter().map(|at| Offence { key: key.to_owned(), at: *at }));
    }
    fn lift(&self) -> String {
        "forget it".into()
    }
}

#[test]
fn a_wrong_signature_goes_to_nobody_is_forgiven_once_and_the_second_keeps_the_key_out() {
    let name = "a_wrong_signature_goes_to_nobody_is_forgiven_once_and_the_second_keeps_the_key_out";
    behind(name, |token, faulty| {
        let pins = vec![token.key("issuing", KeyKind::EcP256), token.key("log", KeyKind::Ed25519)];
        let kept = Arc::new(Kept::default());
        let start = || {
            let offences: Arc<dyn Offences> = kept.clone();
            let access = Access::from(Pin(token.pin.clone().into()));
            token.start_with(pins.clone(), Access { offences: Some(offences), ..access })
        };
        let pool = start();
        sign(&pool, "issuing").unwrap();
        faulty.rules("on C_Sign label issuing times 1 id wrong do flip");
        // `sign` verifies what it gets. The one who asked gets a right one, after the trials.
        sign_eventually(&pool, "issuing");
        assert_eq!(faulty.fired("wrong"), 1);
        let figures = pool.figures();
        assert_eq!((figures.wrong, figures.recoveries), (1, 1));
        assert_eq!(figures.recovered, [("CHY-KEY-QUARANTINED", 1)]);
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
        drop(pool);

        // In the next process the first is not forgotten.
        let pool = start();
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
        faulty.rules("on C_Sign label issuing times 1 id again do stale");
        while faulty.fired("again") == 0 {
            let _ = sign(&pool, "issuing");
        }
        sign_eventually(&pool, "log");
        let out = |pool: &Pool| match sign(pool, "issuing") {
            Err(SignError::Refuse(why)) => why,
            other => panic!("{other:?}"),
        };
        let why = out(&pool);
        assert!(why.starts_with("CHY-KEY-QUARANTINED: 2 ") && why.ends_with("forget it"), "{why}");
        let health = pool.health();
        assert!(!health.signs_with("issuing") && health.signs_with("log"), "{health}");
        drop(pool);

        let pool = start();
        sign_eventually(&pool, "log");
        assert!(out(&pool).starts_with("CHY-KEY-QUARANTINED: "));
        drop(pool);
        kept.0.lock().unwrap().clear();
        sign_eventually(&start(), "issuing");
    });
}

#[test]
fn a_token_that_computes_wrongly_for_good_fails_its_trials() {
    behind("a_token_that_computes_wrongly_for_good_fails_its_trials", |token, faulty| {
        let pins = vec![token.key("issuing", KeyKind::EcP256), token.key("log", KeyKind::Ed25519)];
        let pool = token.start(pins);
        sign(&pool, "issuing").unwrap();
        // Right for the first trials, so that one good signature is not enough.
        faulty.rules("on C_Sign label issuing every 4 id wrong do flip");
        for _ in 0..20 {
            let _ = sign(&pool, "issuing");
        }
        sign_eventually(&pool, "log");
        assert!(matches!(sign(&pool, "issuing"), Err(SignError::Refuse(_))), "{}", pool.health());
        assert_eq!(faulty.fired("wrong"), 2);
    });
}

#[test]
fn what_an_operator_puts_right_needs_no_restart() {
    behind("what_an_operator_puts_right_needs_no_restart", |token, faulty| {
        let issuing = token.key("issuing", KeyKind::EcP256);
        for (rules, code) in [
            ("on C_GetAttributeValue do attribute CKA_EXTRACTABLE 01", "CHY-KEY-EXTRACTABLE"),
            ("token-flags 0x20000", "CHY-PIN-FINAL-TRY"),
        ] {
            Module::load(&token.settings.module).unwrap().finalize().unwrap();
            faulty.rules(rules);
            let tried = faulty.logins().len();
            let pool = token.start(vec![issuing.clone()]);
            assert_eq!(stopped_code(&pool), code);
            let no_pin = code.starts_with("CHY-PIN");
            assert!(!no_pin || faulty.logins().len() == tried, "a PIN was tried");
            faulty.rules("");
            let began = now();
            while pool.health() != TokenHealth::Ready {
                assert!(began.elapsed() < SOON, "{}", pool.health());
                std::thread::yield_now();
            }
            sign(&pool, "issuing").unwrap();
        }
        // But a PIN that was refused is not tried again, whatever changes.
        Module::load(&token.settings.module).unwrap().finalize().unwrap();
        faulty.rules("on C_Login times 1 id refused do return CKR_PIN_INCORRECT");
        let tried = faulty.logins().len();
        let pool = token.start(vec![issuing]);
        assert_eq!(stopped_code(&pool), "CHY-PIN-REFUSED");
        let began = now();
        while began.elapsed() < Duration::from_secs(1) {
            assert!(matches!(sign(&pool, "issuing"), Err(SignError::Refuse(_))));
        }
        assert_eq!(faulty.logins().len(), tried + 1);
    });
}

#[test]
fn what_the_token_says_once_calls_no_operator() {
    behind("what_the_token_says_once_calls_no_operator", |token, faulty| {
        let pool = token.start(vec![token.key("issuing", KeyKind::EcP256)]);
        sign(&pool, "issuing").unwrap();
        faulty.rules(
            "on C_SignInit times 1 id lost do end-sessions\non C_GetAttributeValue times 2 id doubt do return CKR_MECHANISM_INVALID",
        );
        let mut stopped = false;
        for _ in 0..50 {
            match sign(&pool, "issuing") {
                Ok(()) if faulty.fired("doubt") == 2 => break,
                Err(SignError::Refuse(_)) => stopped = true,
                _ => {}
            }
        }
        assert!(!stopped && faulty.fired("doubt") == 2, "{}", pool.health());
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
fn a_pin_that_is_typed_on_the_token_is_not_handed_to_it() {
    behind("a_pin_that_is_typed_on_the_token_is_not_handed_to_it", |token, faulty| {
        let issuing = token.key("issuing", KeyKind::EcP256);
        let logged_out = || Module::load(&token.settings.module).unwrap().finalize().unwrap();
        let keypad = format!("keypad {}", token.pin);
        logged_out();
        faulty.rules(&keypad);
        let asked = |from: usize| faulty.logins()[from..].to_vec();
        let before = faulty.logins().len();

        // A ceremony, which has another word in its PIN file.
        let name = TokenName::labelled(LABEL);
        let pin = Pin("any word".to_owned().into());
        let direct = Direct::open(&token.settings, &name, &pin, true).unwrap();
        assert!(direct.holds("issuing").unwrap());
        assert_eq!(asked(before), ["CKR_OK"]);
        drop(direct);
        logged_out();

        // The issuer, at its start and when its login was lost.
        let (settings, dir) = (token.settings.clone(), token.dir.clone());
        let unknowing = Token { settings, pin: "any word".to_owned(), dir };
        let pool = unknowing.start(vec![issuing]);
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
        faulty.rules(&format!("{keypad}\non C_SignInit times 1 id lost do end-sessions"));
        sign_eventually(&pool, "issuing");
        assert_eq!(faulty.fired("lost"), 1);
        assert_eq!(asked(before), ["CKR_OK", "CKR_OK", "CKR_OK"]);
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
