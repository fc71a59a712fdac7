//! `--rehearse`, for every ceremony: it is held to its end on throw-away SoftHSM2 tokens, on a copy of this box that has
//! keys of its own, in a directory that is removed again. SoftHSM2 reads its configuration from the environment, which a
//! process cannot safely change for itself: another process of this program holds it.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::{Context, Failure, confirm, failure, place, print};
use crate::app::{directories, pin};
use crate::ceremony::plan::TokenEntry;
use crate::ceremony::understudy::{self, Stage, Understudy};
use crate::ceremony::{Place, Tokens};
use crate::config::{Config, Paths, PinSource};
use crate::env::random_16;
use crate::env::system::SystemRng;
use crate::hsm::direct::Direct;
use crate::hsm::pool::Settings;
use crate::hsm::token::TokenName;
use crate::id::hex;
use crate::pki::certificate::Certificate;

#[derive(Clone, Debug, Default, Args)]
pub struct Rehearsal {
    /// Hold it on throw-away SoftHSM2 tokens, on a copy of this box in a temporary directory; touches neither token nor state.
    #[arg(long, conflicts_with = "yes")]
    rehearse: bool,
    /// The rehearsal's own directory; set by --rehearse for the process that holds it.
    #[arg(long = "rehearsal", hide = true, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What of this box a rehearsal has beside tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// Nothing: the ceremony begins a CA.
    Nothing,
    /// Keys, certificates and CRLs, and a log that begins.
    Keys,
    /// The same, with the issuing CAs that the log has retired.
    Ends,
}

/// The box a ceremony is held on: this one, or, in a rehearsal, its copy.
pub(super) struct Scene {
    pub(super) config: Config,
    copy: Option<Replica>,
}

struct Replica {
    real: Config,
    stage: Stage,
    understudy: Option<Understudy>,
}

impl Rehearsal {
    /// Whether it shall be rehearsed, which another process does.
    pub(super) fn is_asked_for(&self) -> bool {
        self.rehearse
    }

    /// A rehearsal needs no word from anybody.
    pub(super) fn confirm(&self, yes: bool, effect: &str) -> Result<(), Failure> {
        confirm(yes || self.dir.is_some(), effect)
    }

    /// The scene of a ceremony whose file names these tokens.
    pub(super) fn scene(
        &self,
        context: &Context,
        entries: &BTreeMap<String, TokenEntry>,
        copied: Copied,
    ) -> Result<Scene, Failure> {
        let real = context.load()?;
        let Some(dir) = &self.dir else { return Ok(Scene { config: real, copy: None }) };
        let scene = Scene::copied(real, dir, entries, copied)?;
        if !context.json {
            print("REHEARSAL: these keys and certificates are thrown away again\n")?;
        }
        Ok(scene)
    }
}

impl Scene {
    fn copied(
        real: Config,
        dir: &Path,
        entries: &BTreeMap<String, TokenEntry>,
        copied: Copied,
    ) -> Result<Self, Failure> {
        let internal =
            || Failure::failed("CHY-INTERNAL: a rehearsal is begun by --rehearse alone".to_owned());
        if std::env::var_os(CONF).is_none_or(|set| Path::new(&set) != dir.join(CONF_FILE)) {
            return Err(internal());
        }
        let module = SOFTHSM2.iter().map(PathBuf::from).find(|path| path.is_file());
        let module = module.ok_or_else(|| {
            Failure::operator(
                "CHY-MODULE-ABSENT: a rehearsal needs SoftHSM2 (Debian: apt install softhsm2)"
                    .to_owned(),
            )
        })?;
        let mut config = real.clone();
        config.paths = Paths { state: dir.join("state") };
        config.pin = PinSource::File(dir.join("pin"));
        config.token = Settings::new(module);
        config.log = crate::log::Settings { segment_mib: 1, ..crate::log::Settings::default() };
        config.production = false;
        config.process.issuer_user = None;
        directories::prepare(&config.paths, None, None)?;

        let of_box = Self { config: real.clone(), copy: None };
        let mut scene = Self { config, copy: None };
        let mut stage = Stage::new();
        let here = place(&of_box);
        let mut labels = match copied {
            Copied::Nothing => Default::default(),
            Copied::Keys | Copied::Ends => understudy::labels(&here).map_err(failure)?,
        };
        for entry in entries.values() {
            labels.insert(label(entry, &here)?);
        }
        // All of them before the module is loaded, which looks once.
        let secret = std::fs::read_to_string(dir.join("pin")).map_err(|why| failed("PIN", &why))?;
        labels.iter().try_for_each(|label| make_token(label, secret.trim()))?;
        let pin = pin::read(&scene.config.pin)?;
        for label in labels {
            let name = TokenName::labelled(&label);
            let direct = Direct::open(&scene.config.token, &name, &pin, true)
                .map_err(|error| Failure::operator(error.to_string()))?;
            stage.insert(label, direct);
        }
        let understudy = match copied {
            Copied::Nothing => None,
            Copied::Keys | Copied::Ends => {
                let ends = copied == Copied::Ends;
                let copy = place(&scene);
                Some(Understudy::make(&here, &copy, &stage, ends).map_err(failure)?)
            }
        };
        scene.copy = Some(Replica { real, stage, understudy });
        Ok(scene)
    }

    pub(super) fn is_rehearsal(&self) -> bool {
        self.copy.is_some()
    }

    /// This box, also while a copy of it is rehearsed with.
    pub(super) fn real(&self) -> &Config {
        self.copy.as_ref().map_or(&self.config, |copy| &copy.real)
    }

    /// The throw-away tokens that stand for those of a file, in a rehearsal.
    pub(super) fn stage(
        &self,
        entries: &BTreeMap<String, TokenEntry>,
    ) -> Result<Option<Tokens>, Failure> {
        let Some(copy) = &self.copy else { return Ok(None) };
        let here = place(&Self { config: copy.real.clone(), copy: None });
        let mut tokens = Tokens::new();
        for (role, entry) in entries {
            if let Some(direct) = copy.stage.get(&label(entry, &here)?) {
                tokens.insert(role.clone(), direct.clone());
            }
        }
        Ok(Some(tokens))
    }

    /// The certificate of a root that was brought here; whatever else is, comes after it.
    pub(super) fn root(&mut self, brought: Certificate) -> Result<Certificate, Failure> {
        match &mut self.copy {
            Some(Replica { stage, understudy: Some(understudy), .. }) => {
                understudy.root(brought, stage).map_err(failure)
            }
            _ => Ok(brought),
        }
    }

    /// A certificate that was brought here, for the keys of this scene.
    pub(super) fn certificate(&self, brought: Certificate) -> Result<Certificate, Failure> {
        match self.understudy() {
            Some(understudy) => understudy.certificate(&brought).map_err(failure),
            None => Ok(brought),
        }
    }

    /// The same for a CRL.
    pub(super) fn crl(&self, brought: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self.understudy() {
            Some(understudy) => understudy.crl(&brought).map_err(failure),
            None => Ok(brought),
        }
    }

    /// The same for a public key, as SubjectPublicKeyInfo.
    pub(super) fn spki(&self, of_box: Vec<u8>) -> Vec<u8> {
        let stands_for = self.understudy().and_then(|understudy| understudy.spki(&of_box));
        stands_for.map(<[u8]>::to_vec).unwrap_or(of_box)
    }

    /// Writes what travels on from here; of a rehearsal nothing does.
    pub(super) fn carry(&self, octets: &[u8], out: &Path) -> Result<(), Failure> {
        if self.is_rehearsal() {
            return Ok(());
        }
        std::fs::write(out, octets)
            .map_err(|error| Failure::operator(format!("CHY-OS: {}: {error}", out.display())))
    }

    fn understudy(&self) -> Option<&Understudy> {
        self.copy.as_ref()?.understudy.as_ref()
    }
}

/// What the token is called on the stage that stands for one of a file.
fn label(entry: &TokenEntry, here: &Place) -> Result<String, Failure> {
    if !entry.label.is_empty() {
        return Ok(entry.label.clone());
    }
    let known = entry.serial.as_deref().map(|serial| understudy::label_of_serial(here, serial));
    let known = known.transpose().map_err(failure)?.flatten();
    Ok(known.unwrap_or_else(|| "rehearsal".to_owned()))
}

/// Makes the directory and has this program, with the same arguments, hold the ceremony in it.
pub(super) fn hold() -> Result<(), Failure> {
    let dir =
        std::env::temp_dir().join(format!("chancery-rehearsal-{}", hex(&random_16(&SystemRng))));
    std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|why| failed("directory", &why))?;
    let status = furnished(&dir).and_then(|()| {
        let program = std::env::current_exe().map_err(|why| failed("this program", &why))?;
        let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--rehearse");
        Command::new(program)
            .args(arguments)
            .arg("--rehearsal")
            .arg(&dir)
            .env(CONF, dir.join(CONF_FILE))
            .status()
            .map_err(|why| failed("this program", &why))
    });
    // Throw-away by design: what cannot be removed holds no key of any CA.
    let _ = std::fs::remove_dir_all(&dir);
    match status?.code() {
        Some(0) => Ok(()),
        code => {
            let exit = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            // The process that held it has said why.
            Err(Failure { text: String::new(), exit })
        }
    }
}

/// A place for tokens, and a PIN for them.
fn furnished(dir: &Path) -> Result<(), Failure> {
    let write = |name: &str, text: &str| {
        use std::io::Write;
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.join(name))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|why| failed(name, &why))
    };
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(dir.join("tokens"))
        .map_err(|why| failed("directory", &why))?;
    write("pin", &hex(&random_16(&SystemRng)))?;
    let tokens = dir.join("tokens");
    write(
        CONF_FILE,
        &format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        ),
    )
}

fn make_token(label: &str, pin: &str) -> Result<(), Failure> {
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", pin])
        .stdout(Stdio::null())
        .status()
        .map_err(|why| failed("softhsm2-util (Debian: apt install softhsm2)", &why))?;
    if made.success() {
        return Ok(());
    }
    Err(Failure::failed("CHY-OS: the rehearsal: softhsm2-util made no token".to_owned()))
}

fn failed(what: &str, why: &std::io::Error) -> Failure {
    Failure::failed(format!("CHY-OS: the rehearsal: {what}: {why}"))
}

/// Where SoftHSM2 looks for its configuration.
const CONF: &str = "SOFTHSM2_CONF";
const CONF_FILE: &str = "softhsm2.conf";
const SOFTHSM2: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];
