//! kryoptic as a box's token: of those here the one that has ML-DSA. `tests/tokens/tools.sh` builds it.

use std::path::Path;
use std::process::Command;

use crate::plant::Plant;
use crate::plant::lab::{Options, succeed};

const MODULE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/kryoptic/libkryoptic_pkcs11.so");

/// A box on a new kryoptic token, labelled `chancery`; the ceremony is still to be held. `None` where kryoptic was not
/// built; with CI set that is a failure.
pub fn plant() -> Option<Plant> {
    if !Path::new(MODULE).exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has kryoptic: tests/tokens/tools.sh");
        eprintln!("left out: there is no {MODULE}; tests/tokens/tools.sh builds it");
        return None;
    }
    let more = format!("[token]\nmodule = \"{MODULE}\"\n");
    let mut plant = Plant::without_ceremony(Options { more, ..Options::default() });
    let lab = &mut plant.lab;
    let (conf, token) = (lab.dir.join("kryoptic.conf"), lab.dir.join("token.sql"));
    let slot =
        format!("[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", token.display());
    std::fs::write(&conf, slot).unwrap();
    let pin = std::fs::read_to_string(lab.dir.join("token/pin")).unwrap();
    let pin = pin.trim();
    for arguments in [
        &["--init-token", "--label", "chancery", "--so-pin", pin][..],
        &["--login", "--login-type", "so", "--so-pin", pin, "--init-pin", "--pin", pin],
    ] {
        let mut tool = Command::new("pkcs11-tool");
        succeed(tool.args(["--module", MODULE]).args(arguments).env("KRYOPTIC_CONF", &conf));
    }
    lab.environment.push(("KRYOPTIC_CONF", conf));
    Some(plant)
}
