//! The configuration, the command line, the system around the program.

use super::Entry;

pub(super) const CODES: &[Entry] = &[
    Entry {
        code: "CHY-CODE-UNKNOWN",
        means: "There is no such code.",
        do_this: "`chancery why` lists all codes.",
    },
    Entry {
        code: "CHY-CONFIG-BOARD",
        means: "The board and one of its fragments do not belong together: a lab or dev fragment in a production board.",
        do_this: "Remove the fragment from `inherit`, or set [board] production = false.",
    },
    Entry {
        code: "CHY-CONFIG-CYCLE",
        means: "A configuration file inherits itself, or the chain of inherited files is too deep.",
        do_this: "Break the circle in the `inherit` lines that the message names.",
    },
    Entry {
        code: "CHY-CONFIG-KEY",
        means: "A configuration file has a key that does not exist.",
        do_this: "Correct the spelling; the message names line and nearest key. `firmware-config/README.md` lists every key.",
    },
    Entry {
        code: "CHY-CONFIG-MISMATCH",
        means: "Web and issuer process read different configurations, or are different versions.",
        do_this: "Restart both: `systemctl restart chancery-issuer chancery-web`, or `chancery serve`.",
    },
    Entry {
        code: "CHY-CONFIG-POLICY",
        means: "The name policy does not parse, or allows more than the issuing certificate's name constraints.",
        do_this: "Narrow [policy], or hold a ceremony for an issuing certificate that allows what you want.",
    },
    Entry {
        code: "CHY-CONFIG-PROFILE",
        means: "A certificate profile is contradictory, is named twice, or the default names none.",
        do_this: "Correct the profile file that the message names.",
    },
    Entry {
        code: "CHY-CONFIG-READ",
        means: "A configuration file cannot be read.",
        do_this: "Check path, owner and mode; `--config FILE` or CHANCERY_CONFIG choose another.",
    },
    Entry {
        code: "CHY-CONFIG-SECRET",
        means: "A secret stands in a configuration file.",
        do_this: "Move it to a file of mode 0600 and write `pin = { file = \"PATH\" }`, or use a systemd credential: `pin = { credential = \"NAME\" }`. Then change the PIN: it has been on disk in the clear.",
    },
    Entry {
        code: "CHY-CONFIG-SOFTHSM-PRODUCTION",
        means: "A production board uses SoftHSM2, which keeps keys in ordinary files.",
        do_this: "Use a real token, or say that this is a lab: [board] production = false.",
    },
    Entry {
        code: "CHY-CONFIG-SYNTAX",
        means: "A configuration file is not TOML.",
        do_this: "Correct the line that the message names.",
    },
    Entry {
        code: "CHY-CONFIG-VALUE",
        means: "A configuration value has the wrong type or is out of range.",
        do_this: "Correct the line that the message names; `firmware-config/README.md` says what each key takes.",
    },
    Entry {
        code: "CHY-CONFIRM",
        means: "The verb changes something for good and was not confirmed.",
        do_this: "Read what it says it would do; if that is right, repeat it with --yes.",
    },
    Entry {
        code: "CHY-CSV",
        means: "A CSV file cannot be read or written, or says something else than tickets.",
        do_this: "Correct the line that the message names. The first row names the columns: note, names, suffixes, networks, profile, uses, days, shared.",
    },
    Entry {
        code: "CHY-INTERNAL",
        means: "Something happened that should be impossible.",
        do_this: "Keep the log output and report it; restarting is safe, for state is recovered from the log.",
    },
    Entry {
        code: "CHY-NOT-READY",
        means: "The web process answers, but nothing can be issued at the moment.",
        do_this: "`chancery doctor` names the part that is to blame.",
    },
    Entry {
        code: "CHY-NOT-ROOT",
        means: "The verb needs privileges that this user has not.",
        do_this: "Run it as root, or as the user that the message names.",
    },
    Entry {
        code: "CHY-OS",
        means: "The operating system refused something that is otherwise granted.",
        do_this: "The message names the call and the reason.",
    },
    Entry {
        code: "CHY-OWNER",
        means: "The user as which the issuer runs may not open the PIN's file or the token's files.",
        do_this: "Run the command at the end of the message as root.",
    },
    Entry {
        code: "CHY-PORT",
        means: "An address cannot be listened on: it is in use, not this machine's, or below 1024 without the privilege.",
        do_this: "Stop what uses it (`ss -ltnp`), correct [web] listen, or let chancery-web.socket listen below 1024: start the shipped units.",
    },
    Entry {
        code: "CHY-PORT-GIVEN",
        means: "chancery-web.socket listens on an address that [web] does not name, or gave something else than a listening TCP socket.",
        do_this: "Let [web] listen, listen-http and ListenStream= of chancery-web.socket name the same addresses: `systemctl edit chancery-web.socket`, an empty `ListenStream=` first, then one for each; `systemctl restart chancery-web.socket chancery-web`.",
    },
    Entry {
        code: "CHY-SERVE-REFUSED",
        means: "A process refused to start and only an operator can change that; `serve` ends instead of trying again and again.",
        do_this: "Do what the process's own message, just above, says.",
    },
    Entry {
        code: "CHY-STATE-DIR",
        means: "The state directory is missing or not writable.",
        do_this: "Create it, owned by the user that the message names, or correct [state] dir.",
    },
    Entry {
        code: "CHY-STATE-FORMAT",
        means: "The state directory is written in a format of a newer release than this program. It was raised when that release was kept (`chancery state keep`), so this one could meet records and files that it does not know.",
        do_this: "Run the release that was here before, or a newer one. There is no way back but a backup made before, and that loses what was issued since.",
    },
    Entry {
        code: "CHY-STATE-FORMAT-FILE",
        means: "ca/format.json, which says in which format the state is written, cannot be read or says nothing.",
        do_this: "Restore it from a backup. If there is none: `chancery log list --kind format` of a copy of the log names the newest format; the file is {\"format\": N}, and 1 if the log names none and was begun by a release without formats.",
    },
    Entry {
        code: "CHY-THREADS",
        means: "The operating system gave no further thread.",
        do_this: "Raise the limit on tasks (systemd: TasksMax), or lower [token] threads.",
    },
    Entry {
        code: "CHY-USAGE",
        means: "The command line does not make sense.",
        do_this: "`chancery help` shows the commands.",
    },
];
