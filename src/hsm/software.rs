//! Tokens that are software: their keys lie in ordinary files, whatever CKA_SENSITIVE says. They are for labs, and a
//! production board refuses them, by the module's path and by what module and token say of themselves: a link or
//! p11-kit in between hides only the first.

use std::path::Path;

use super::token::{ModuleInfo, Remedy, TokenError, TokenInfo};

struct Software {
    name: &'static str,
    /// Parts of the module's file name.
    files: &'static [&'static str],
    /// Parts of what module (C_GetInfo) or token (C_GetTokenInfo) call their manufacturer, model or description.
    words: &'static [&'static str],
}

const KNOWN: &[Software] = &[
    Software { name: "SoftHSM2", files: &["softhsm"], words: &["softhsm"] },
    Software { name: "kryoptic", files: &["kryoptic"], words: &["kryoptic"] },
    Software {
        name: "NSS's soft token",
        files: &["softokn"],
        words: &["mozilla foundation", "nss internal", "nss 3"],
    },
    Software {
        name: "GNOME's keyring",
        files: &["gnome-keyring"],
        words: &["gnome keyring", "gnome-keyring"],
    },
];

/// The software behind a module of this path, as far as its name tells.
pub fn by_path(path: &Path) -> Option<&'static str> {
    let file = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    KNOWN.iter().find(|known| known.files.iter().any(|part| file.contains(part))).map(|k| k.name)
}

/// The software that module or token say they are.
pub fn by_itself(module: &ModuleInfo, token: &TokenInfo) -> Option<&'static str> {
    let said = [&module.manufacturer, &module.description, &token.manufacturer, &token.model]
        .map(|text| text.to_ascii_lowercase());
    let known = |known: &&Software| {
        known.words.iter().any(|word| said.iter().any(|text| text.contains(word)))
    };
    if let Some(known) = KNOWN.iter().find(known) {
        return Some(known.name);
    }
    let [_, description, _, model] = &said;
    // openCryptoki is one library for hardware and software; which one a token is, its model says.
    if description.contains("opencryptoki") && model.starts_with("soft") {
        return Some("openCryptoki's soft token");
    }
    // tpm2-pkcs11 gives the TPM's vendor strings: swtpm and the reference simulator call themselves so.
    (model.starts_with("sw ") && model.contains("tpm")).then_some("a TPM in software")
}

/// Refuses module and token if either is software.
pub fn refuse(module: &ModuleInfo, token: &TokenInfo) -> Result<(), TokenError> {
    let Some(name) = by_path(Path::new(&module.path)).or_else(|| by_itself(module, token)) else {
        return Ok(());
    };
    Err(TokenError::new(
        Remedy::Operator,
        "CHY-TOKEN-SOFTWARE",
        format!(
            "token {} of {} is {name}, which keeps keys in ordinary files, and this is a production board; no PIN was tried. Use a token of hardware, or set [board] production = false in a lab",
            token.uri(),
            module.path
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, manufacturer: &str, description: &str) -> ModuleInfo {
        ModuleInfo {
            path: path.into(),
            description: description.into(),
            manufacturer: manufacturer.into(),
            version: "1.0".into(),
            cryptoki: "2.40".into(),
        }
    }

    fn token(manufacturer: &str, model: &str) -> TokenInfo {
        TokenInfo {
            manufacturer: manufacturer.into(),
            model: model.into(),
            ..super::super::token::tests::info()
        }
    }

    #[test]
    fn software_is_known_by_path_or_by_what_it_says() {
        for (module, token, name) in [
            (module("/usr/lib/softhsm/libsofthsm2.so", "", ""), token("", ""), "SoftHSM2"),
            (
                module("/opt/hsm.so", "SoftHSM", "Implementation of PKCS11"),
                token("SoftHSM project", "SoftHSM v2"),
                "SoftHSM2",
            ),
            (
                module("/usr/lib/p11-kit-proxy.so", "PKCS#11 Kit", "PKCS#11 Proxy Module"),
                token("SoftHSM project", "SoftHSM v2"),
                "SoftHSM2",
            ),
            (
                module("/opt/k.so", "Kryoptic", "Kryoptic PKCS11 Module"),
                token("Kryoptic Project", "v1"),
                "kryoptic",
            ),
            (
                module("/opt/n.so", "Mozilla Foundation", "NSS Internal Crypto Services"),
                token("Mozilla Foundation", "NSS 3"),
                "NSS's soft token",
            ),
            (
                module("/usr/lib/libopencryptoki.so", "IBM", "openCryptoki"),
                token("IBM", "Soft"),
                "openCryptoki's soft token",
            ),
            (
                module("/usr/lib/libtpm2_pkcs11.so", "tpm2-software.github.io", "TPM2.0 Cryptoki"),
                token("IBM", "SW   TPM"),
                "a TPM in software",
            ),
        ] {
            let error = refuse(&module, &token).unwrap_err();
            assert_eq!(error.code, "CHY-TOKEN-SOFTWARE");
            assert!(error.message.contains(name), "{error}");
        }
    }

    #[test]
    fn hardware_is_let_in() {
        for (module, token) in [
            (
                module(
                    "/usr/lib/libyubihsm_pkcs11.so",
                    "Yubico (www.yubico.com)",
                    "YubiHSM PKCS#11 Library",
                ),
                token("Yubico (www.yubico.com)", "YubiHSM"),
            ),
            (
                module("/usr/lib/libtpm2_pkcs11.so", "tpm2-software.github.io", "TPM2.0 Cryptoki"),
                token("Infineon", "SLB9670"),
            ),
            (module("/usr/lib/libopencryptoki.so", "IBM", "openCryptoki"), token("IBM", "EP11")),
            (
                module("/usr/lib/opensc-pkcs11.so", "OpenSC Project", "OpenSC smartcard framework"),
                token("www.CardContact.de", "PKCS#15 emulated"),
            ),
        ] {
            assert_eq!(refuse(&module, &token), Ok(()), "{module:?}");
        }
    }
}
