//! The token's part of `doctor`: module, slots, mechanisms, the state of the PIN, the login. Keys are the next file's.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::keys;
use super::{DoctorArguments, Level, Report};
use crate::config::{Config, PinSource};
use crate::env::system::{SystemDisk, SystemRng};
use crate::hsm::pool::{KeyPin, Settings};
use crate::hsm::software;
use crate::hsm::token::survey::{SlotView, TokenView};
use crate::hsm::token::{Module, ModuleInfo, Session, Slot, TokenName};
use crate::issuer::refused_pin::RefusedPin;
use crate::pki::key::{KeyKind, SignatureAlgorithm};
use crate::pki::uri::Pkcs11Uri;

/// What is looked at, and what may be done to it.
pub(super) struct Subject {
    pub(super) settings: Settings,
    /// The token, as the command line names it.
    named: Option<Pkcs11Uri>,
    /// The keys that the issuer needs; `Ok(None)` before the first ceremony.
    pins: Result<Option<Vec<KeyPin>>, String>,
    pin: Option<PinSource>,
    /// Where refused PINs are remembered.
    issuer: Option<PathBuf>,
    /// The issuer uses the token at this moment, and is not to be held up.
    pub(super) running: bool,
}

impl Subject {
    /// A module alone.
    pub(super) fn of_module(module: PathBuf, named: Option<Pkcs11Uri>) -> Self {
        Self {
            settings: Settings::new(module),
            named,
            pins: Ok(None),
            pin: None,
            issuer: None,
            running: false,
        }
    }

    /// This box's token.
    pub(super) fn of_box(config: &Config, named: Option<Pkcs11Uri>) -> Self {
        let pins = config.authority.as_ref().map(crate::issuer::signing::pins);
        Self {
            settings: config.token.clone(),
            // Another token than that of the keys has none of them.
            pins: if named.is_some() { Ok(None) } else { pins.transpose() },
            named,
            pin: Some(config.pin.clone()),
            issuer: Some(config.paths.issuer()),
            running: crate::cli::admin::Issuer::connect(config).is_ok(),
        }
    }
}

pub(super) fn examine(subject: &Subject, arguments: &DoctorArguments, report: &mut Report<'_>) {
    let module = match Module::load(&subject.settings.module) {
        Ok(module) => module,
        Err(error) => return report.fail("module", error.to_string()),
    };
    let info = match module.initialize().and_then(|()| module.info()) {
        Ok(info) => info,
        Err(error) => return report.fail("module", error.to_string()),
    };
    let text = format!(
        "{} {} of {} (PKCS#11 {}), {}",
        info.description, info.version, info.manufacturer, info.cryptoki, info.path
    );
    let details = serde_json::to_value(&info).ok();
    report.put("module", Level::Ok, text, details);
    slots(&module, &info, subject, arguments, report);
    let _ = module.finalize();
}

fn slots(
    module: &Module,
    info: &ModuleInfo,
    subject: &Subject,
    arguments: &DoctorArguments,
    report: &mut Report<'_>,
) {
    let slots = match module.slots() {
        Ok(slots) => slots,
        Err(error) => return report.fail("slots", error.to_string()),
    };
    for slot in &slots {
        self::slot(slot, report);
    }
    let pins = match &subject.pins {
        Ok(pins) => pins.as_deref(),
        Err(why) => return report.fail("keys", why.clone()),
    };
    let name = match (&subject.named, pins.and_then(<[KeyPin]>::first)) {
        (Some(named), _) => Some(TokenName::of(named)),
        (None, first) => first.map(|pin| TokenName::of(&pin.uri)),
    };
    let Some(name) = name else {
        return before_a_ceremony(module, &slots, report);
    };
    let (slot, _) = match module.find(&name) {
        Ok(found) => found,
        Err(error) => return report.fail("token", error.to_string()),
    };
    let view = match module.view(slot) {
        Ok(view) => view,
        Err(error) => return report.fail("token", error.to_string()),
    };
    report.ok("token", format!("{}, {}", view.info.uri(), view.info.model));
    mechanisms(module, slot, pins.unwrap_or_default(), report);
    if subject.settings.refuse_software
        && let Err(error) = software::refuse(info, &view.info)
    {
        return report.fail("token", error.to_string());
    }
    if let Some(session) = log_in(module, slot, &view, subject, arguments, report) {
        for pin in pins.unwrap_or_default() {
            keys::examine(&session, &view.info, pin, subject, arguments.signatures, report);
        }
        // No C_Logout: some modules share a login among processes, and the issuer's must not end. What was ours ends
        // with the session and C_Finalize.
        session.close();
    }
}

/// One slot, a line.
fn slot(slot: &SlotView, report: &mut Report<'_>) {
    let place = format!("slot 0x{:x}, {}", slot.number, slot.description);
    let details = |token: Value| {
        Some(json!({
            "number": slot.number, "description": slot.description, "manufacturer": slot.manufacturer,
            "removable": slot.removable, "hardware": slot.hardware, "token": token,
        }))
    };
    match &slot.token {
        None => report.put("slot", Level::Ok, format!("{place}: empty"), details(Value::Null)),
        Some(Err(error)) => {
            report.put("slot", Level::Warn, format!("{error} ({place})"), details(Value::Null));
        }
        Some(Ok(view)) => {
            let token = details(json!({
                "uri": view.info.uri().to_string(), "label": view.info.label, "serial": view.info.serial,
                "manufacturer": view.info.manufacturer, "model": view.info.model,
                "hardware": view.info.hardware, "firmware": view.info.firmware,
                "initialized": view.initialized, "write-protected": view.write_protected,
                "error-state": view.error_state, "sessions": view.sessions, "most-sessions": view.most_sessions,
                "pin": pin_state(view),
            }));
            let (level, text) = if view.error_state {
                (
                    Level::Fail,
                    format!(
                        "CHY-TOKEN-ERROR: {place}: the token has shut itself after a test that failed"
                    ),
                )
            } else if !view.initialized {
                (Level::Ok, format!("{place}: a token that is not initialized"))
            } else {
                let model = &view.info.model;
                let text = format!(
                    "{place}: {}, {model}, firmware {}",
                    view.info.uri(),
                    view.info.firmware
                );
                (Level::Ok, text)
            };
            report.put("slot", level, text, token);
        }
    }
}

fn pin_state(view: &TokenView) -> Value {
    let info = &view.info;
    json!({
        "count-low": info.pin_count_low, "final-try": info.pin_final_try, "locked": info.pin_locked,
        "unset": info.pin_unset, "to-be-changed": view.pin_to_be_changed, "typed-on-token": info.pin_pad,
        "officer-locked": view.officer_pin_locked,
    })
}

/// There is no key yet: what a ceremony would find.
fn before_a_ceremony(module: &Module, slots: &[SlotView], report: &mut Report<'_>) {
    let mut blank = false;
    let mut found = false;
    for slot in slots {
        let Some(Ok(view)) = &slot.token else { continue };
        if !view.initialized {
            blank = true;
            continue;
        }
        found = true;
        let uri = view.info.uri();
        report.ok(
            "token",
            format!(
                "{uri}, {}, ready for a ceremony; --token '{uri}' looks closer",
                view.info.model
            ),
        );
        pin_counters(view, report);
        mechanisms(module, slot.slot, &[], report);
    }
    if !found && blank {
        report.fail(
            "token",
            "CHY-TOKEN-UNINITIALIZED: the module shows a token, but none that was initialized",
        );
    } else if !found {
        report.fail("token", "CHY-TOKEN-ABSENT: the module shows no token in any slot");
    }
}

/// What the token can do of what its keys need, or of what keys there could be.
fn mechanisms(module: &Module, slot: Slot, pins: &[KeyPin], report: &mut Report<'_>) {
    let offered = match module.mechanisms(slot) {
        Ok(offered) => offered,
        Err(error) => return report.fail("mechanisms", error.to_string()),
    };
    let list = |names: &[&str]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let (mut can, mut cannot, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
    if pins.is_empty() {
        for (name, kind) in KINDS {
            match module.lacks(slot, *kind, kind.usual_algorithm()) {
                Ok(lacks) if lacks.is_empty() => can.push(*name),
                Ok(_) => cannot.push(*name),
                Err(error) => return report.fail("mechanisms", error.to_string()),
            }
        }
    }
    for pin in pins {
        let Ok(key) = crate::pki::key::PublicKey::from_spki(&pin.spki) else { continue };
        let algorithm = pin.algorithm.unwrap_or_else(|| key.preferred_algorithm());
        let needed = signing_mechanism(algorithm);
        if !offered.contains(&needed) {
            lacking.push(format!("{needed} for {}", pin.name));
        }
    }
    let details = Some(json!({
        "offered": offered, "keys-that-can-be-made": can, "keys-that-cannot": cannot, "lacking": lacking,
    }));
    if !lacking.is_empty() {
        let text = format!(
            "CHY-TOKEN-MECHANISM: the token does not offer {}; it offers {}",
            lacking.join(", "),
            list(&offered)
        );
        return report.put("mechanisms", Level::Fail, text, details);
    }
    if pins.is_empty() && can.is_empty() {
        let text = format!(
            "CHY-TOKEN-MECHANISM: the token makes no kind of key that a CA could use; it offers {}",
            list(&offered)
        );
        return report.put("mechanisms", Level::Fail, text, details);
    }
    let text = if pins.is_empty() {
        format!("keys it can make: {}; not: {}", list(&can), list(&cannot))
    } else {
        format!("all that the keys need, of {}", list(&offered))
    };
    report.put("mechanisms", Level::Ok, text, details);
}

/// By the names of `Module::mechanisms`.
fn signing_mechanism(algorithm: SignatureAlgorithm) -> &'static str {
    use SignatureAlgorithm as S;
    match algorithm {
        S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512 => "ecdsa",
        S::RsaSha256 | S::RsaSha384 | S::RsaSha512 => "rsa-pkcs",
        S::RsaPssSha256 | S::RsaPssSha384 => "rsa-pkcs-pss",
        S::Ed25519 => "eddsa",
        S::MlDsa44 | S::MlDsa65 | S::MlDsa87 => "ml-dsa",
    }
}

/// As key files name them.
const KINDS: &[(&str, KeyKind)] = &[
    ("ec-p256", KeyKind::EcP256),
    ("ec-p384", KeyKind::EcP384),
    ("ed25519", KeyKind::Ed25519),
    ("rsa-3072", KeyKind::Rsa(3072)),
    ("ml-dsa-65", KeyKind::MlDsa65),
];

/// What the token says of its PIN. False if nobody should try one.
fn pin_counters(view: &TokenView, report: &mut Report<'_>) -> bool {
    if view.info.pin_count_low {
        report.warn("PIN", "CHY-PIN-COUNT-LOW: a wrong PIN was tried since the last right one");
    }
    if view.pin_to_be_changed {
        report.warn("PIN", "CHY-PIN-EXPIRED: the token wants its user PIN changed; no login was tried for that alone");
    }
    match view.info.may_log_in(false) {
        Ok(()) => true,
        Err(error) => {
            let text = format!("{error}; no login was tried");
            report.put("PIN", Level::Fail, text, Some(pin_state(view)));
            false
        }
    }
}

/// A session that is logged in; `None` after saying why not. A PIN is tried at most once, and a refused one never.
fn log_in(
    module: &Module,
    slot: Slot,
    view: &TokenView,
    subject: &Subject,
    arguments: &DoctorArguments,
    report: &mut Report<'_>,
) -> Option<Session> {
    if !pin_counters(view, report) {
        return None;
    }
    if let (Some(now), Some(most)) = (view.sessions, view.most_sessions) {
        report.ok("sessions", format!("{now} of {most} are open"));
        if now >= most && most > 0 {
            report.warn(
                "sessions",
                "CHY-TOKEN-BUSY: the token allows no further session, so keys cannot be looked at; no login was tried",
            );
            return None;
        }
    }
    if arguments.no_login {
        report.ok("login", "none was tried, as asked for");
        return None;
    }
    let source = match subject.named.as_ref().map(Pkcs11Uri::pin_file) {
        Some(Err(why)) => {
            report.fail("PIN", format!("{}: {why}", why.code()));
            return None;
        }
        Some(Ok(Some(file))) => Some(PinSource::File(file)),
        Some(Ok(None)) | None => subject.pin.clone(),
    };
    let Some(source) = source else {
        report.ok(
            "login",
            "none was tried: add ?pin-source=file:/PATH to --token to look at the login",
        );
        return None;
    };
    if let PinSource::Credential(name) = &source
        && std::env::var_os("CREDENTIALS_DIRECTORY").is_none()
    {
        report.warn(
            "PIN",
            format!(
                "CHY-PIN-FILE: the PIN is the systemd credential `{name}`, which only the unit is given; run this under \
                 systemd-run with the same LoadCredential= to look at the keys"
            ),
        );
        return None;
    }
    let session = match module.open(slot) {
        Ok(session) => session,
        Err(error) => {
            report.fail("sessions", format!("{error}; no login was tried"));
            return None;
        }
    };
    match session.is_logged_in() {
        Ok(true) => {
            report.ok("login", "the module shares a login among processes; no PIN was tried");
            return Some(session);
        }
        Ok(false) => {}
        Err(error) => {
            report.fail("sessions", error.to_string());
            session.close();
            return None;
        }
    }
    if try_pin(&session, view, &source, subject, report) {
        return Some(session);
    }
    session.close();
    None
}

fn try_pin(
    session: &Session,
    view: &TokenView,
    source: &PinSource,
    subject: &Subject,
    report: &mut Report<'_>,
) -> bool {
    let pin = match crate::app::pin::read(source) {
        Ok(pin) => pin,
        Err(failure) => {
            report.fail("PIN", failure.text);
            return false;
        }
    };
    // A PIN that the token refused is tried by nobody again: another try costs one of few.
    let refused = subject
        .issuer
        .as_ref()
        .map(|dir| RefusedPin::new(Arc::new(SystemDisk), Arc::new(SystemRng), dir));
    if let Some(refused) = &refused
        && refused.is_refused(&pin)
    {
        report.fail(
            "PIN",
            format!(
                "CHY-PIN-REFUSED: the token refused this PIN before, as {} remembers; it was not tried again",
                refused.path().display()
            ),
        );
        return false;
    }
    let tried = if view.info.pin_pad { None } else { Some(&pin.0) };
    let Err(error) = session.login(tried) else {
        let before = if view.info.pin_count_low {
            "now, but not at the last try"
        } else {
            "no wrong try before it"
        };
        report.put("PIN", Level::Ok, format!("accepted ({before})"), Some(pin_state(view)));
        return true;
    };
    if error.code == "CHY-PIN-REFUSED"
        && let Some(refused) = &refused
        && let Err(why) = refused.remember(&pin)
    {
        report.fail(
            "PIN",
            format!("CHY-PIN-MEMORY: {} cannot be written: {why}", refused.path().display()),
        );
    }
    report.fail("PIN", error.to_string());
    false
}
