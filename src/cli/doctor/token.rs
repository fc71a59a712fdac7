//! The token's part of `doctor`: module, token, PIN, keys, trial signatures.

use std::sync::Arc;
use std::time::Duration;

use super::{DoctorArguments, Report};
use crate::config::{Config, PinSource};
use crate::env::Clock;
use crate::env::system::{SystemClock, SystemDisk, SystemRng};
use crate::hsm::inspect::{Unwatched, Wanted, inspect};
use crate::hsm::token::{Module, Session, TokenInfo, TokenName};
use crate::issuer::refused_pin::RefusedPin;
use crate::pki::authority::KeyRecord;
use crate::pki::uri::Pkcs11Uri;

pub(super) fn examine(config: &Config, arguments: &DoctorArguments, report: &mut Report<'_>) {
    let module = match Module::load(&config.token.module) {
        Ok(module) => module,
        Err(error) => return report.fail("module", error.to_string()),
    };
    match module.initialize().and_then(|()| module.info()) {
        Ok(info) => report.ok(
            "module",
            format!(
                "{} {} (PKCS#11 {}), {}",
                info.description, info.version, info.cryptoki, info.path
            ),
        ),
        Err(error) => return report.fail("module", error.to_string()),
    }
    tokens(&module, config, arguments, report);
    let _ = module.finalize();
}

fn tokens(module: &Module, config: &Config, arguments: &DoctorArguments, report: &mut Report<'_>) {
    let Some(authority) = &config.authority else {
        return match module.tokens() {
            Ok(tokens) if tokens.is_empty() => {
                report.fail("token", "CHY-TOKEN-ABSENT: the module shows no initialized token");
            }
            Ok(tokens) => {
                for (_, info) in tokens {
                    report.ok(
                        "token",
                        format!(
                            "{:?}, serial {:?}, {}, ready for a ceremony",
                            info.label, info.serial, info.model
                        ),
                    );
                }
            }
            Err(error) => report.fail("token", error.to_string()),
        };
    };
    let keys = [
        ("issuing", &authority.issuing_key),
        ("log", authority.newest_log_key()),
        ("tls", &authority.tls_key),
    ];
    let uri = match Pkcs11Uri::parse(&authority.issuing_key.uri) {
        Ok(uri) => uri,
        Err(why) => {
            return report.fail("token", format!("CHY-CA-BROKEN: the issuing key's URI: {why}"));
        }
    };
    let (slot, info) = match module.find(&TokenName::of(&uri)) {
        Ok(found) => found,
        Err(error) => return report.fail("token", error.to_string()),
    };
    report.ok("token", format!("{:?}, serial {:?}, {}", info.label, info.serial, info.model));
    if info.pin_count_low {
        report.warn("PIN", "CHY-PIN-COUNT-LOW: a wrong PIN was tried since the last right one");
    }
    if let Err(error) = info.may_log_in(false) {
        return report.fail("PIN", error.to_string());
    }
    if arguments.no_login {
        return;
    }
    if let PinSource::Credential(name) = &config.pin
        && std::env::var_os("CREDENTIALS_DIRECTORY").is_none()
    {
        return report.warn(
            "PIN",
            format!(
                "CHY-PIN-FILE: the PIN is the systemd credential `{name}`, which only the unit is given; run this under \
                 systemd-run with the same LoadCredential= to look at the keys"
            ),
        );
    }
    let pin = match crate::app::pin::read(&config.pin) {
        Ok(pin) => pin,
        Err(failure) => return report.fail("PIN", failure.text),
    };
    // A PIN that the token refused is tried by nobody again: another try costs one of few.
    let refused =
        RefusedPin::new(Arc::new(SystemDisk), Arc::new(SystemRng), &config.paths.issuer());
    if refused.is_refused(&pin) {
        return report.fail(
            "PIN",
            format!(
                "CHY-PIN-REFUSED: the token refused this PIN before, as {} remembers; it was not tried again",
                refused.path().display()
            ),
        );
    }
    let session = match module.open(slot) {
        Ok(session) => session,
        Err(error) => return report.fail("token", error.to_string()),
    };
    if let Err(error) = session.login(if info.pin_pad { None } else { Some(&pin.0) }) {
        if error.code == "CHY-PIN-REFUSED"
            && let Err(why) = refused.remember(&pin)
        {
            report.fail(
                "PIN",
                format!("CHY-PIN-MEMORY: {} cannot be written: {why}", refused.path().display()),
            );
        }
        report.fail("PIN", error.to_string());
    } else {
        let before = if info.pin_count_low {
            "now, but not at the last try"
        } else {
            "no wrong try before it"
        };
        report.ok("PIN", format!("accepted ({before})"));
        for (name, record) in keys {
            match key(&session, &info, name, record, config, arguments.signatures) {
                Ok(text) => report.ok("key", text),
                Err(text) => report.fail("key", text),
            }
        }
        let _ = session.logout();
    }
    session.close();
}

/// Finds one key, holds it against what the ceremony recorded, and has it sign.
fn key(
    session: &Session,
    info: &TokenInfo,
    name: &str,
    record: &KeyRecord,
    config: &Config,
    signatures: u32,
) -> Result<String, String> {
    let broken = |what: &str| format!("CHY-CA-BROKEN: the {name} key's {what} does not parse");
    let id =
        Pkcs11Uri::parse(&record.uri).ok().and_then(|uri| uri.id).ok_or_else(|| broken("URI"))?;
    let public = record.public_key().map_err(|_| broken("public key"))?;
    let wanted =
        Wanted { name, id: &id, public: &public, token: info, quirks: &config.token.quirks };
    let handle = inspect(session, &wanted, &Unwatched).map_err(|error| error.to_string())?.handle;
    let (clock, algorithm) = (SystemClock::new(), public.preferred_algorithm());
    let count = signatures.clamp(1, 10_000);
    let began = clock.monotonic();
    let mut slowest = Duration::ZERO;
    for number in 0..count {
        let message =
            format!("chancery doctor: trial signature {number} by the {name} key, worth nothing");
        let before = clock.monotonic();
        let signature = session
            .sign(handle, algorithm, message.as_bytes())
            .map_err(|error| error.to_string())?;
        slowest = slowest.max(clock.monotonic() - before);
        if !public.verify(algorithm, message.as_bytes(), &signature) {
            return Err(format!(
                "CHY-KEY-MISMATCH: what the {name} key signs does not verify under its recorded public key"
            ));
        }
    }
    let rate = f64::from(count) / (clock.monotonic() - began).as_secs_f64().max(1e-9);
    Ok(format!(
        "{name}: {:?}, sensitive, never extractable, local; signs {rate:.0}/s, slowest {:.1} ms",
        public.kind(),
        slowest.as_secs_f64() * 1e3
    ))
}
