//! Keys and tokens that a box refuses, on real SoftHSM2 tokens, at its start and in the doctor's words. Contents:
//!
//! - promise_1: extractable, imported, doubled, swapped, half, multipurpose keys: one message with code, key and token
//! - a token in software on a production board: by path, behind a link, and under another name
//! - a PIN in a URI is refused wherever it stands; a token named by URI is found
//! - the doctor without a configuration, before a ceremony, beside a running issuer

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod lab;

use std::path::Path;
use std::process::Command;

use base64ct::{Base64, Encoding};
use lab::{Lab, Options, softhsm, succeed};
use serde_json::Value;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// pkcs11-tool, logged in to the box's token.
fn tool(lab: &Lab, arguments: &[&str]) {
    let pin = std::fs::read_to_string(lab.dir.join("token/pin")).unwrap();
    succeed(
        Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", lab.dir.join("token/softhsm2.conf"))
            .arg("--module")
            .arg(softhsm())
            .args(["--token-label", "chancery", "--login", "--pin", pin.trim()])
            .args(arguments)
            .current_dir(&lab.dir),
    );
}

/// A key pair of pkcs11-tool's own making.
fn generate(lab: &Lab, id: &str, more: &[&str]) {
    let kind = if more.contains(&"rsa") { "rsa:2048" } else { "EC:prime256v1" };
    let more: Vec<&str> = more.iter().copied().filter(|word| *word != "rsa").collect();
    tool(
        lab,
        &[&["--keypairgen", "--key-type", kind, "--label", id, "--id", id], &more[..]].concat(),
    );
}

fn public_key(lab: &Lab, id: &str) -> Vec<u8> {
    let file = format!("{id}.der");
    tool(lab, &["--read-object", "--type", "pubkey", "--id", id, "-o", &file]);
    std::fs::read(lab.dir.join(file)).unwrap()
}

/// Says in `authority.json` that the TLS key is this one.
fn pin_tls_key(lab: &Lab, id: &str, spki: &[u8]) {
    let path = lab.dir.join("state/ca/authority.json");
    let mut authority: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let octets: String = (0..id.len()).step_by(2).map(|n| format!("%{}", &id[n..n + 2])).collect();
    let uri = authority["tls_key"]["uri"].as_str().unwrap();
    let token = uri.split(";object=").next().unwrap().split(";id=").next().unwrap();
    authority["tls_key"]["uri"] = format!("{token};id={octets}").into();
    authority["tls_key"]["spki"] = Base64::encode_string(spki).into();
    std::fs::write(&path, serde_json::to_vec(&authority).unwrap()).unwrap();
}

fn doctor(command: &mut Command) -> Vec<Value> {
    let output = command.args(["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap().clone();
    let failed = findings.iter().any(|finding| finding["level"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{report}");
    assert_eq!(report["ok"], !failed);
    findings
}

fn with_code<'a>(findings: &'a [Value], code: &str) -> &'a Value {
    findings
        .iter()
        .find(|finding| finding["code"] == code)
        .unwrap_or_else(|| panic!("no {code}: {findings:#?}"))
}

/// Runs to its end, at most 30 s: exit code and standard error.
fn run(command: &mut Command) -> (i32, String) {
    let output = Command::new("timeout")
        .arg("30")
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(command.get_current_dir().unwrap_or_else(|| Path::new("/")))
        .output()
        .unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The issuer refuses to start with exactly this code and these words, and the doctor says the same.
fn refused(lab: &Lab, id: &str, code: &str, words: &str) {
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{id}: {text}");
    let line = text.lines().find(|line| line.starts_with(&format!("{code}: ")));
    let line = line.unwrap_or_else(|| panic!("{id}: no line begins with {code}:\n{text}"));
    assert!(line.contains("key \"tls\" (pkcs11:token=chancery;serial="), "{line}");
    assert!(line.contains(words), "{id}: {line}");
    let findings = doctor(&mut lab.chancery());
    let found = with_code(&findings, code);
    assert_eq!((&found["check"], &found["level"]), (&"key".into(), &"fail".into()));
    assert!(found["text"].as_str().unwrap().contains(words) && found["do"].is_string(), "{found}");
}

/// Names attributes under quirks.omit.
fn forgive(lab: &Lab, attributes: &str) {
    let path = lab.dir.join("chancery.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let before = text.split("\n[token]").next().unwrap();
    let module = softhsm();
    let more =
        format!("\n[token]\nmodule = \"{}\"\nquirks.omit = [{attributes}]\n", module.display());
    std::fs::write(path, format!("{before}{more}")).unwrap();
}

#[test]
fn promise_1_what_is_no_key_of_a_ca_is_refused_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::prepare(directory.path(), &Options::default());

    generate(&lab, "a1", &["--usage-sign", "--extractable"]);
    pin_tls_key(&lab, "a1", &public_key(&lab, "a1"));
    refused(&lab, "a1", "CHY-KEY-EXTRACTABLE", "CKA_EXTRACTABLE is true");

    let pem = lab.dir.join("key.pem");
    let openssl = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
    succeed(Command::new("openssl").args(openssl).arg(&pem));
    let pin = std::fs::read_to_string(lab.dir.join("token/pin")).unwrap();
    succeed(
        Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", lab.dir.join("token/softhsm2.conf"))
            .args(["--token", "chancery", "--pin", pin.trim(), "--label", "b1", "--id", "b1"])
            .arg("--import")
            .arg(&pem),
    );
    pin_tls_key(&lab, "b1", &public_key(&lab, "b1"));
    refused(&lab, "b1", "CHY-KEY-EXTRACTABLE", "CKA_ALWAYS_SENSITIVE is false");

    generate(&lab, "c1", &["rsa", "--usage-sign", "--usage-decrypt"]);
    pin_tls_key(&lab, "c1", &public_key(&lab, "c1"));
    refused(&lab, "c1", "CHY-KEY-PURPOSE", "CKA_DECRYPT is true");

    // A model that decides that itself is forgiven what is named, and no more.
    forgive(&lab, "\"decrypt\", \"unwrap\"");
    generate(&lab, "c2", &["--usage-sign", "--usage-derive"]);
    pin_tls_key(&lab, "c2", &public_key(&lab, "c2"));
    refused(&lab, "c2", "CHY-KEY-PURPOSE", "CKA_DERIVE is true");

    // The other keys are pkcs11-tool's too, which leaves uses to SoftHSM2.
    forgive(&lab, "\"decrypt\", \"unwrap\", \"derive\", \"sign-recover\"");
    generate(&lab, "d1", &["--usage-sign"]);
    let one = public_key(&lab, "d1");
    generate(&lab, "d2", &["--usage-sign"]);
    let two = public_key(&lab, "d2");
    pin_tls_key(&lab, "d1", &two);
    refused(&lab, "d1", "CHY-KEY-MISMATCH", "its public key is another");

    // The pinned public key stands beside a private key that is another.
    tool(&lab, &["--delete-object", "--type", "pubkey", "--id", "d1"]);
    tool(&lab, &["--write-object", "d2.der", "--type", "pubkey", "--id", "d1", "--label", "d1"]);
    let findings = doctor(&mut lab.chancery());
    let found = findings.iter().find(|f| f["check"] == "key" && f["level"] == "fail").unwrap();
    assert!(found["code"].as_str().unwrap().starts_with("CHY-KEY-"), "{found}");
    assert!(found["text"].as_str().unwrap().contains("what it signs"), "{found}");
    // And the other way round.
    pin_tls_key(&lab, "d1", &one);
    refused(&lab, "d1", "CHY-KEY-MISMATCH", "the public key stored beside it is another");

    generate(&lab, "e1", &["--usage-sign"]);
    pin_tls_key(&lab, "e1", &public_key(&lab, "e1"));
    generate(&lab, "e1", &["--usage-sign"]);
    refused(&lab, "e1", "CHY-KEY-AMBIGUOUS", "2 private keys");

    generate(&lab, "f1", &["--usage-sign"]);
    pin_tls_key(&lab, "f1", &public_key(&lab, "f1"));
    tool(&lab, &["--delete-object", "--type", "privkey", "--id", "f1"]);
    tool(&lab, &["--delete-object", "--type", "pubkey", "--id", "f1"]);
    let certificate = ["req", "-x509", "-key", "key.pem", "-subj", "/CN=x", "-outform", "der"];
    succeed(
        Command::new("openssl").args(certificate).args(["-out", "x.der"]).current_dir(&lab.dir),
    );
    tool(&lab, &["--write-object", "x.der", "--type", "cert", "--id", "f1", "--label", "f1"]);
    refused(&lab, "f1", "CHY-KEY-INCOMPLETE", "the token holds a certificate of this id");
}

/// A production board on a copy of SoftHSM2's module under another name.
fn production(dir: &Path, module: &Path) {
    let text = format!(
        "inherit = [\"{REPOSITORY}/firmware-config/base.toml\"]\n[board]\nproduction = true\n\
         [token]\nmodule = \"{}\"\n[state]\ndir = \"{}/state\"\npin = {{ file = \"{}/token/pin\" }}\n",
        module.display(),
        dir.display(),
        dir.display(),
    );
    std::fs::write(dir.join("chancery.toml"), text).unwrap();
}

#[test]
fn promise_1_a_token_in_software_is_refused_on_a_production_board() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::prepare(directory.path(), &Options::default());

    let link = lab.dir.join("token.so");
    std::os::unix::fs::symlink(softhsm(), &link).unwrap();
    production(&lab.dir, &link);
    let (exit, text) = run(lab.chancery().args(["config", "check"]));
    assert_ne!(exit, 0, "{text}");
    assert!(text.contains("CHY-CONFIG-SOFTHSM-PRODUCTION: "), "{text}");
    assert!(text.contains("token.module"), "{text}");

    // A copy has another path, and says in C_GetInfo what it is.
    let copy = lab.dir.join("vendor.so");
    std::fs::copy(softhsm(), &copy).unwrap();
    production(&lab.dir, &copy);
    succeed(lab.chancery().args(["config", "check"]));
    // The wrong PIN shows that none is tried: it would be remembered as refused.
    let pin = lab.dir.join("token/pin");
    let right = std::fs::read(&pin).unwrap();
    std::fs::write(&pin, "0000-wrong").unwrap();
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{text}");
    let line = text.lines().find(|line| line.starts_with("CHY-TOKEN-SOFTWARE: ")).unwrap_or(&text);
    assert!(line.contains("SoftHSM2") && line.contains("pkcs11:token=chancery"), "{text}");
    let findings = doctor(&mut lab.chancery());
    assert_eq!(with_code(&findings, "CHY-TOKEN-SOFTWARE")["level"], "fail");
    let file = format!("{REPOSITORY}/hsm/ceremony/witness.toml");
    let (exit, text) = run(lab.chancery().args(["ceremony", "run", &file, "--yes"]));
    assert_eq!(exit, 78, "{text}");
    assert!(text.lines().any(|line| line.starts_with("CHY-TOKEN-SOFTWARE: ")), "{text}");
    assert!(!lab.dir.join("state/issuer/pin-refused").exists());
    std::fs::write(&pin, right).unwrap();
    // A rehearsal brings a token of its own.
    let file = format!("{REPOSITORY}/hsm/ceremony/lab.toml");
    succeed(lab.chancery().args(["ceremony", "run", &file, "--rehearse"]));
}

#[test]
fn tokens_are_named_by_uri_and_a_pin_in_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::prepare(directory.path(), &Options::default());
    let ceremony = |uri: &str| {
        let text =
            std::fs::read_to_string(format!("{REPOSITORY}/hsm/ceremony/witness.toml")).unwrap();
        let text = text
            .replace("label = \"chancery\"", &format!("uri = \"{uri}\""))
            .replace("../key/", &format!("{REPOSITORY}/hsm/key/"));
        let file = lab.dir.join("witness.toml");
        std::fs::write(&file, text).unwrap();
        run(lab.chancery().args(["ceremony", "run", "witness.toml", "--yes"]))
    };
    let (exit, text) = ceremony("pkcs11:token=chancery?pin-value=s3cret");
    assert_eq!(exit, 78, "{text}");
    assert!(text.starts_with("CHY-URI-PIN-VALUE: ") && text.contains("witness.toml:"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    let (exit, text) = ceremony("pkcs11:slot-id=0");
    assert_eq!(exit, 78, "{text}");
    assert!(text.starts_with("CHY-URI: ") && text.contains("slot-id"), "{text}");
    let (exit, text) = ceremony("pkcs11:token=chancery;manufacturer=Acme");
    assert_eq!(exit, 78, "{text}");
    assert!(text.starts_with("CHY-TOKEN-ABSENT: ") && text.contains("manufacturer=Acme"), "{text}");
    // Another PIN source than the box's, by URI.
    std::fs::rename(lab.dir.join("token/pin"), lab.dir.join("my pin")).unwrap();
    let source = format!("file:{}/my%2520pin", lab.dir.display());
    let (exit, text) = ceremony(&format!(
        "pkcs11:token=chancery;manufacturer=SoftHSM%20project;library-description=Implementation%20of%20PKCS11\
         ?pin-source={source}"
    ));
    assert_eq!(exit, 0, "{text}");

    let authority = lab.dir.join("state/ca/authority.json");
    let text = std::fs::read_to_string(&authority).unwrap();
    assert!(text.contains("pkcs11:token=chancery;serial="), "{text}");
    std::fs::write(&authority, text.replacen("type=private;", "type=private?pin-value=1234;", 1))
        .unwrap();
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{text}");
    assert!(text.starts_with("CHY-URI-PIN-VALUE: ") && text.contains("authority.json"), "{text}");
    assert!(!text.contains("1234"), "{text}");
}

/// The program without any configuration, on a token of its own.
fn bare(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.env("SOFTHSM2_CONF", dir.join("softhsm2.conf")).env("CHANCERY_CONFIG", "/nowhere.toml");
    command.current_dir(dir);
    command
}

#[test]
fn the_doctor_needs_neither_configuration_nor_ceremony() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let module = softhsm();
    let module = module.to_str().unwrap();

    let findings = doctor(&mut bare(dir));
    assert!(findings[0]["text"].as_str().unwrap().contains("/nowhere.toml"), "{findings:?}");

    // No token was initialized.
    std::fs::create_dir(dir.join("tokens")).unwrap();
    std::fs::write(
        dir.join("softhsm2.conf"),
        format!("directories.tokendir = {}/tokens\nlog.level = ERROR\n", dir.display()),
    )
    .unwrap();
    let look = |more: &[&str]| {
        let output =
            bare(dir).args(["doctor", "--json", "--module", module]).args(more).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report["findings"].as_array().unwrap().clone())
    };
    let (exit, findings) = look(&[]);
    assert_eq!(exit, Some(1));
    with_code(&findings, "CHY-TOKEN-UNINITIALIZED");

    succeed(Command::new(format!("{REPOSITORY}/hsm/sandbox.sh")).arg(dir).arg("my token"));
    let (exit, findings) = look(&[]);
    assert_eq!(exit, Some(0), "{findings:#?}");
    let slots: Vec<&Value> = findings.iter().filter(|f| f["check"] == "slot").collect();
    assert_eq!(slots.len(), 2, "one with the token, one that SoftHSM2 offers: {findings:#?}");
    let uri = slots.iter().find_map(|slot| {
        slot["details"]["token"]["uri"].as_str().filter(|uri| uri.contains("my%20token"))
    });
    let uri = uri.unwrap().to_owned();
    let mechanisms = findings.iter().find(|f| f["check"] == "mechanisms").unwrap();
    let can = mechanisms["details"]["keys-that-can-be-made"].as_array().unwrap();
    assert!(can.contains(&"ec-p256".into()) && can.contains(&"ed25519".into()), "{mechanisms}");

    // With the PIN's place a login is tried; a wrong one is said.
    let pin = |text: &str| {
        std::fs::write(dir.join("pin"), text).unwrap();
        look(&["--token", &format!("{uri}?pin-source={}/pin", dir.display())])
    };
    let right = std::fs::read_to_string(dir.join("pin")).unwrap();
    let (exit, findings) = pin(&right);
    assert_eq!(exit, Some(0), "{findings:#?}");
    let accepted = findings.iter().find(|f| f["check"] == "PIN").unwrap();
    assert!(accepted["text"].as_str().unwrap().starts_with("accepted"), "{accepted}");
    assert_eq!(accepted["details"]["locked"], false);
    let (exit, findings) = pin("0000-wrong");
    assert_eq!(exit, Some(1));
    let refused = with_code(&findings, "CHY-PIN-REFUSED")["text"].as_str().unwrap();
    assert!(refused.contains("CKR_PIN_INCORRECT") && !refused.contains("0000"), "{refused}");

    let (exit, findings) = look(&["--token", "pkcs11:token=elsewhere"]);
    assert_eq!(exit, Some(1));
    let absent = with_code(&findings, "CHY-TOKEN-ABSENT")["text"].as_str().unwrap();
    assert!(absent.contains("pkcs11:token=elsewhere") && absent.contains("my%20token"), "{absent}");
    let output = bare(dir)
        .args(["doctor", "--module", module, "--token", "pkcs11:slot-id=0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = bare(dir).args(["doctor", "--json", "--module", "/nowhere.so"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("CHY-MODULE-ABSENT"));
}

#[test]
fn the_doctor_leaves_a_running_issuer_alone() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(directory.path(), Options::default());
    let findings = doctor(&mut lab.chancery());
    let keys: Vec<&Value> = findings.iter().filter(|f| f["check"] == "key").collect();
    assert_eq!(keys.len(), 3, "{findings:#?}");
    for key in keys {
        assert_eq!(key["level"], "ok", "{key}");
        assert!(key["text"].as_str().unwrap().contains("beside the running issuer"), "{key}");
        let details = &key["details"];
        assert!(details["signatures-per-second"].as_f64().unwrap() > 0.0, "{key}");
        assert_eq!(details["attributes"]["extractable"], false, "{key}");
        assert!(details["uri"].as_str().unwrap().starts_with("pkcs11:token=chancery"), "{key}");
    }
    let status = succeed(lab.chancery().args(["status", "--json"]));
    assert!(!status.contains("recovering"), "{status}");
    let log = std::fs::read_to_string(lab.dir.join("serve.log")).unwrap();
    assert!(!log.contains("signing failed"), "{log}");
    // What the doctor did is not felt by the issuer's own sessions: they sign on, and nothing was brought up again.
    succeed(lab.chancery().args(["ticket", "create"]));
    let ready = lab::get(lab.http, "/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 200") && !ready.contains("token recovered"), "{ready}");
}

#[test]
fn every_answer_of_a_token_can_be_asked_for() {
    let why = |what: &str| {
        let out =
            Command::new(env!("CARGO_BIN_EXE_chancery")).args(["why", what]).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (exit, text) = why("CKR_DEVICE_REMOVED");
    assert_eq!(exit, Some(0));
    assert!(
        text.contains("CHY-TOKEN-ABSENT") && text.contains("means") && text.contains("do "),
        "{text}"
    );
    assert_eq!(why("0xa4").1, why("ckr_pin_locked").1);
    assert_eq!(why("CKR_NOTHING_KNOWN").0, Some(1));
}
